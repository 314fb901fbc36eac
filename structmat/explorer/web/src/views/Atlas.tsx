import { counted, grouped } from "@/text";
import type { AtlasRecord } from "@/types";
import { useIds, useStore } from "@/views/context";

/** The records of the atlas at the width of the shown network. */
export function Atlas() {
  const { records } = useStore();
  const id = useIds();
  return (
    <section class="card atlas" aria-labelledby={id("atlas-title")} hidden={!records.value.length}>
      <details id={id("atlas-details")}>
        <summary id={id("atlas-title")}>
          Best known at this width <span>{counted(records.value.length, "record")}</span>
        </summary>
        <p class="hint">
          From the atlas: the best known network for each purpose and largest block, with a proved
          bound if there is one. A record that meets its bound cannot be improved.
        </p>
        <table>
          <thead>
            <tr>
              <th scope="col">purpose</th>
              <th scope="col">block</th>
              <th scope="col">value</th>
              <th scope="col">bound</th>
              <th scope="col">
                <span class="hidden">comparison with the bound</span>
              </th>
              <th scope="col">network</th>
            </tr>
          </thead>
          <tbody id={id("atlas")}>
            {records.value.map((row) => (
              <Row key={`${row.purpose} ${row.blocks}`} row={row} />
            ))}
          </tbody>
        </table>
      </details>
    </section>
  );
}

function Row({ row }: { row: AtlasRecord }) {
  const number = (value: number | null) =>
    value === null ? "–" : Number.isInteger(value) ? grouped(value) : `${value}`;
  const verdict = row.meets ? "meets the bound" : row.meets === false ? "open" : "";
  return (
    <tr data-purpose={row.purpose} data-blocks={row.blocks.join(" ")}>
      <th scope="row">
        {row.purpose}
        <span>{row.title}</span>
      </th>
      <td data-label="block">{row.blocks.join(", ")}</td>
      <td data-label="value">{row.value === null ? "none" : number(row.value)}</td>
      <td data-label="bound">{number(row.bound)}</td>
      <td class={row.meets ? "meets" : undefined}>{verdict}</td>
      <td>{row.value === null ? row.reason : <Shown row={row} />}</td>
    </tr>
  );
}

/** A button that opens the network of a record, or its name if the page cannot show it. */
function Shown({ row: { question, topology } }: { row: AtlasRecord }) {
  const { data, net, openDrawing, picking, show } = useStore();
  const isKnown =
    !data.saved ||
    question?.stages !== undefined ||
    data.saved.some((one) => one.spec === question?.spec && one.width === question?.width);
  if (!question || !isKnown) return <code>{topology}</code>;
  const isShown = question.spec !== undefined && question.spec === net.value?.spec;
  return (
    <button
      type="button"
      aria-current={isShown ? "true" : undefined}
      onClick={() => {
        picking.stop();
        if (question.stages) openDrawing(question.width, question.stages);
        else void show(question);
      }}
    >
      {topology}
    </button>
  );
}
