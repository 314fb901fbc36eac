import { counted } from "@/text";
import { Complaint } from "@/views/Complaint";
import { useIds, useStore } from "@/views/context";

/** The list of the networks of a saved page. */
export function SavedForm() {
  const { data, picked, picking, show } = useStore();
  const id = useIds();
  const saved = data.saved ?? [];
  const specs = [...new Set(saved.map(({ spec }) => spec))];
  const sizes = [...new Set(saved.map(({ width }) => width))].sort((a, b) => a - b);
  const spec = picked.value?.spec ?? specs[0];
  const same = saved.filter((one) => one.spec === spec);
  const family = picking.familyOf(same[0]?.form?.family ?? "");

  function choose(wanted: string, near: number): void {
    const widths = saved.filter((one) => one.spec === wanted).map(({ width }) => width);
    const nearest = (a: number, b: number) => (Math.abs(b - near) < Math.abs(a - near) ? b : a);
    void show({ spec: wanted, width: widths.reduce(nearest) });
  }

  return (
    <form id={id("saved")} onSubmit={(event) => event.preventDefault()}>
      <label for={id("saved-spec")}>Network</label>
      <select
        id={id("saved-spec")}
        value={spec ?? ""}
        onChange={(event) => choose(event.currentTarget.value, picked.value?.width ?? 0)}
      >
        {specs.map((one) => (
          <option key={one}>{one}</option>
        ))}
      </select>
      <p class="hint" id={id("saved-summary")}>
        {family?.summary ?? ""}
      </p>
      <label for={id("saved-width")}>Width</label>
      <select
        id={id("saved-width")}
        value={`${picked.value?.width ?? ""}`}
        onChange={(event) => choose(spec ?? "", Number(event.currentTarget.value))}
      >
        {same.map(({ width }) => (
          <option key={width}>{`${width}`}</option>
        ))}
      </select>
      <Complaint />
      <p class="hint" id={id("saved-note")}>
        {`This page contains ${counted(saved.length, "network")} of ${counted(specs.length, "spec")}, ` +
          `each at those of the widths ${sizes.join(", ")} that it accepts. structmat explore shows other networks.`}
      </p>
    </form>
  );
}
