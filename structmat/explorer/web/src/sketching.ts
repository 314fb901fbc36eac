/** The drawing by hand: gestures, undo and redo. */

import { computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import {
  choose,
  type Drawing,
  drag,
  drawingOf,
  filled,
  inserted,
  type Outcome,
  removed,
  resized,
  type Selection,
} from "@/drawing";
import { begun, changed, type History, redone, undone } from "@/history";
import type { Place as Wire } from "@/mathematics/spreading";
import { counted } from "@/text";
import type { Network, PageData, Question } from "@/types";

const BEGIN = "Click wires in one column to join them by a switch, or drag from wire to wire.";

interface Needed {
  data: PageData;
  net: ReadonlySignal<Network | null>; // the shown network
  pinned: Signal<Wire | null>;
  note: Signal<string>;
  show(question: Question, kind: string | null): Promise<void>;
  stop(): void; // discards what is typed
}

export function createSketching({ data, net, pinned, note, show, stop }: Needed) {
  const isDrawing = signal(false);
  const history = signal<History<Drawing>>(begun({ width: 8, stages: [] }));
  const selected = signal<Selection | null>(null);
  const said = signal(""); // about the last gesture
  const radix = signal(2);
  const drawing = computed(() => history.value.present);

  const drawn = (): Question => ({
    width: drawing.value.width,
    stages: filled(drawing.value.stages),
  });
  function setDrawing(isOn: boolean): void {
    isDrawing.value = isOn;
    if (!isOn) selected.value = null;
  }

  /** Show the drawing immediately, and its numbers once the library has answered. */
  function draw(message = BEGIN, kind: string | null = "drawing"): void {
    stop();
    note.value = "";
    setDrawing(true);
    pinned.value = null;
    said.value = message;
    void show(drawn(), kind);
  }

  function apply({ drawing: next, selected: wires, said: message }: Outcome): void {
    selected.value = wires;
    said.value = message;
    if (!next) return;
    history.value = changed(history.value, next);
    draw(message, "drawing");
  }

  function replace(next: Drawing): void {
    history.value = changed(history.value, next);
    selected.value = null;
  }

  function openDrawing(width: number, stages: number[][][], kind: string | null = null): void {
    replace({ width, stages });
    draw(BEGIN, kind);
  }

  /** Apply a gesture to the drawing, or to the shown network if that is not being drawn. */
  function edit(gesture: (drawing: Drawing) => Outcome): void {
    const copy = isDrawing.value ? null : drawingOf(net.value, data.drawn);
    const open = isDrawing.value ? drawing.value : copy;
    if (!open) return;
    const outcome = gesture(open);
    if (copy && outcome.drawing) replace(copy);
    apply(outcome);
  }

  function travel(step: typeof undone<Drawing>, message: string): void {
    if (selected.value?.wires.length) {
      said.value = `Deselected: ${selected.value.wires.join(", ")}.`;
      selected.value = null;
      return;
    }
    const next = step(history.value);
    if (next === history.value) return;
    history.value = next;
    draw(message, "drawing");
  }

  return {
    isDrawing,
    history,
    drawing,
    selected,
    said,
    radix,
    setDrawing,
    openDrawing,
    /** Show the drawing that an address names. */
    visit(width: number, stages: number[][][]): void {
      const isShown = JSON.stringify(drawn()) === JSON.stringify({ width, stages });
      if (!isShown) replace({ width, stages });
      draw(BEGIN, "address");
    },
    drawMode: () => draw(),
    chooseWire: (column: number, wire: number) =>
      edit((open) => choose(open, column, wire, Math.min(radix.value, open.width), selected.value)),
    dragWire: (from: Wire, to: Wire) => edit((open) => drag(open, from, to)),
    insertStage: (stage: number) => edit((open) => inserted(open, stage)),
    removeStage: (stage: number) => edit((open) => removed(open, stage)),
    editShown: (from = net.value) => {
      const copy = drawingOf(from, data.drawn);
      if (!copy) return;
      replace(copy);
      draw(`Continue drawing from ${from?.spec ?? "the network"}.`, "drawing");
    },
    undo: () => travel(undone, "Undone."),
    redo: () => travel(redone, "Redone."),
    clear() {
      replace({ width: drawing.value.width, stages: [] });
      draw("All switches removed; undo restores them.", "drawing");
    },
    letGo() {
      if (!selected.value?.wires.length) return;
      selected.value = null;
      said.value = "No wires are selected.";
    },
    setWidth(width: number) {
      if (width === drawing.value.width) return;
      const { drawing: next, dropped } = resized(drawing.value, width);
      replace(next);
      const lost = dropped
        ? ` ${counted(dropped, "switch", "switches")} dropped; undo restores them.`
        : "";
      draw(`${counted(width, "wire")}.${lost}`, "drawing");
    },
    setRadix(wires: number) {
      radix.value = wires;
      if ((selected.value?.wires.length ?? 0) >= wires) selected.value = null;
      said.value = `The next switches join ${wires} wires.`;
    },
  };
}
