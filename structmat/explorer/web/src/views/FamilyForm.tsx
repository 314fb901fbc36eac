import { useRef } from "preact/hooks";
import type { FamilyInfo, Option } from "@/types";
import { Complaint } from "@/views/Complaint";
import { useIds, useStore } from "@/views/context";

/** The form of a family, its options and a width; or of any spec. */
export function FamilyForm() {
  const { data, picking } = useStore();
  const id = useIds();
  const spec = useRef<HTMLInputElement>(null);
  const form = picking.form.value;
  const family = picking.familyOf(form.family);
  const isListed = data.compositions?.some(({ spec }) => spec === form.spec) ?? false;
  return (
    <form
      id={id("pick")}
      autocomplete="off"
      onSubmit={(event) => {
        event.preventDefault();
        const active = document.activeElement;
        picking.ask(active === spec.current ? null : (active?.id ?? null));
      }}
    >
      <div class="size">
        <div>
          <label for={id("family")}>Family</label>
          <select
            id={id("family")}
            value={form.family || (isListed ? form.spec : "")}
            onChange={(event) => picking.chooseFamily(event.currentTarget.value)}
          >
            {!form.family && !isListed && (
              <option value="" hidden>
                a composition
              </option>
            )}
            {byKin(data.families).map(([kin, families]) =>
              kin ? (
                <optgroup key={kin} label={kin}>
                  {families.map(Choice)}
                </optgroup>
              ) : (
                families.map(Choice)
              ),
            )}
            {data.compositions && (
              <optgroup label="compositions">
                {data.compositions.map(({ spec }) => (
                  <option key={spec}>{spec}</option>
                ))}
              </optgroup>
            )}
          </select>
        </div>
        <div>
          <label for={id("width")}>Width</label>
          <input
            id={id("width")}
            type="number"
            min="1"
            max={data.widest}
            inputMode="numeric"
            required
            value={form.width}
            aria-describedby={id("error")}
            aria-invalid={picking.wrong.value === "width"}
            onInput={(event) => picking.typeWidth(event.currentTarget.value)}
          />
        </div>
      </div>
      <p class="hint" id={id("summary")}>
        {family?.summary ?? "A composition of families, given by the spec below."}
        {family && <span id={id("taken")}>{` Widths: ${family.widths}.`}</span>}
      </p>
      <Complaint />
      <div id={id("widths")} class="chips" role="group" aria-label="Widths that the family accepts">
        {picking.widths.value.map((width) => (
          <button
            key={width}
            type="button"
            aria-pressed={form.width === `${width}`}
            onClick={() => picking.chooseWidth(width)}
          >
            {width}
          </button>
        ))}
      </div>
      <details class="more-options" open={isWide()} hidden={!family?.options.length}>
        <summary>Options</summary>
        <div id={id("options")} class="options">
          {family?.options.map((option) => (
            <OptionField key={`${family.name} ${option.name}`} option={option} />
          ))}
        </div>
      </details>
      <label for={id("spec")}>Spec</label>
      <input
        ref={spec}
        id={id("spec")}
        class="code"
        spellcheck={false}
        autocapitalize="off"
        value={form.spec}
        aria-describedby={id("error")}
        aria-invalid={picking.wrong.value === "spec"}
        onInput={(event) => picking.typeSpec(event.currentTarget.value)}
        onChange={() => picking.ask()}
      />
      <button type="submit" class="hidden" tabIndex={-1} aria-hidden="true">
        Show
      </button>
    </form>
  );
}

/** Whether there is room for the options beside the picture; on a phone they are folded. */
const isWide = () => matchMedia("(min-width: 900px)").matches;

function Choice({ name }: FamilyInfo) {
  return <option key={name}>{name}</option>;
}

function byKin(families: FamilyInfo[]): [string, FamilyInfo[]][] {
  const groups = new Map<string, FamilyInfo[]>();
  for (const family of families) {
    const kin = family.kin ?? "";
    groups.set(kin, [...(groups.get(kin) ?? []), family]);
  }
  return [...groups];
}

function OptionField({ option }: { option: Option }) {
  const { picking } = useStore();
  const home = useIds();
  const id = home(`option-${option.name}`);
  const value = picking.form.value.options[option.name] ?? "";
  const common = {
    id,
    "data-option": option.name,
    "aria-describedby": `${id}-hint`,
    onInput: (event: { currentTarget: { value: string } }) =>
      picking.typeOption(option.name, event.currentTarget.value),
  };
  return (
    <div>
      <label for={id}>{option.name}</label>
      {option.default === "False" ? (
        <select {...common} value={value}>
          <option value="">False</option>
          <option value="True">True</option>
        </select>
      ) : (
        <input
          {...common}
          value={value}
          placeholder={option.default}
          spellcheck={false}
          autocapitalize="off"
        />
      )}
      <p class="hint" id={`${id}-hint`}>
        {option.hint}
      </p>
    </div>
  );
}
