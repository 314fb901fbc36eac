import { drawingOf } from "@/drawing";
import { Complaint } from "@/views/Complaint";
import { useIds, useStore } from "@/views/context";

/** The controls of drawing by hand. */
export function DrawForm() {
  const store = useStore();
  const { data, drawing, history, picked, radix, selected } = store;
  const id = useIds();
  const { width, stages } = drawing.value;
  const wires = Math.min(radix.value, width);
  const canUndo = Boolean(selected.value?.wires.length) || history.value.past.length > 0;
  return (
    <form id={id("draw")} autocomplete="off" onSubmit={(event) => event.preventDefault()}>
      <p class="hint" id={id("draw-help")}>
        Click wires in one column, or drag from wire to wire, to join them by a switch. Click a
        joined wire to remove its switch; drag within a switch to take a wire out of it. On the
        keyboard, arrow keys move, Enter clicks, + inserts a stage and Delete removes one.
      </p>
      <Complaint />
      <div class="pair">
        <NumberField
          id={id("draw-width")}
          label="Width"
          value={width}
          most={data.drawn}
          change={store.setWidth}
        />
        <NumberField
          id={id("radix")}
          label="Wires per switch"
          value={wires}
          most={width}
          change={store.setRadix}
        />
      </div>
      <div class="buttons">
        <button type="button" id={id("undo")} disabled={!canUndo} onClick={store.undo}>
          Undo
        </button>
        <button
          type="button"
          id={id("redo")}
          disabled={!history.value.future.length}
          onClick={store.redo}
        >
          Redo
        </button>
        <button type="button" id={id("clear")} disabled={!stages.length} onClick={store.clear}>
          Clear
        </button>
        <button
          type="button"
          id={id("copy-network")}
          disabled={!drawingOf(picked.value, data.drawn)}
          onClick={() => store.editShown(picked.value)}
        >
          Start from the selected network
        </button>
      </div>
    </form>
  );
}

interface Field {
  id: string;
  label: string;
  value: number;
  most: number;
  change(value: number): void;
}

/** A field whose number is kept between 2 and a maximum; an empty one is restored. */
function NumberField({ id, label, value, most, change }: Field) {
  return (
    <div>
      <label for={id}>{label}</label>
      <input
        id={id}
        type="number"
        min="2"
        max={most}
        inputMode="numeric"
        value={value}
        onChange={(event) => {
          const input = event.currentTarget;
          const typed = Math.round(input.valueAsNumber);
          const next = Number.isNaN(typed) ? value : Math.min(Math.max(typed, 2), most);
          input.value = `${next}`;
          change(next);
        }}
      />
    </div>
  );
}
