/** A network drawn by hand: immutable stages of switches, and the effects of gestures. */

import type { Network } from "@/types";

export type Stages = readonly (readonly (readonly number[])[])[]; // at most one stage is empty

/** A drawing, and the wires selected in one of its stages for the next switch. */
export interface Drawing {
  width: number;
  stages: Stages;
}

export interface Selection {
  stage: number;
  wires: readonly number[];
}

/** The effect of a gesture: the new drawing, or null if nothing changed, and a message. */
export interface Outcome {
  drawing: Drawing | null;
  selected: Selection | null;
  said: string;
}

const listed = (wires: readonly number[]) => wires.join(", ");
const sorted = (wires: readonly number[]) => [...wires].sort((a, b) => a - b);

/** Return the stages for the library, without one that is still empty. */
export const filled = (stages: Stages): number[][][] =>
  stages.filter((stage) => stage.length).map((stage) => stage.map((wires) => [...wires]));

/** Choose a wire of a column: remove its switch, or select it until a switch is complete. */
export function choose(
  given: Drawing,
  column: number,
  wire: number,
  radix: number,
  selected: Selection | null,
): Outcome {
  const [drawing, stage, isClosed] = stageOf(given, column);
  const joined = drawing.stages[stage]?.find((wires) => wires.includes(wire));
  if (joined) return without(drawing, stage, joined);
  const before = !isClosed && selected?.stage === stage ? selected.wires : [];
  const wires = before.includes(wire) ? before.filter((one) => one !== wire) : [...before, wire];
  if (wires.length < radix) {
    const list = wires.length ? `Selected in stage ${stage + 1}: ${listed(wires)}. ` : "";
    return {
      drawing: isClosed ? drawing : null,
      selected: { stage, wires },
      said: `${list}Select ${radix - wires.length} more.`,
    };
  }
  return joining(drawing, stage, wires, []);
}

/**
 * Drag from one wire to another: join the switches of the two wires or, if they are in one switch,
 * take the first wire out of it. Between two columns lies a stage.
 */
export function drag(
  given: Drawing,
  from: { column: number; wire: number },
  to: { column: number; wire: number },
): Outcome {
  const nothing = (said: string): Outcome => ({ drawing: null, selected: null, said });
  if (Math.abs(from.column - to.column) > 1) {
    return nothing("Drag to a wire in the same column or in an adjacent one.");
  }
  if (from.wire === to.wire) return nothing("Drag to another wire to join the two by a switch.");
  const [drawing, stage] = stageOf(given, Math.min(from.column, to.column));
  const around = (wire: number) =>
    drawing.stages[stage]?.find((wires) => wires.includes(wire)) ?? [wire];
  const [first, second] = [around(from.wire), around(to.wire)];
  if (first !== second) return joining(drawing, stage, [...first, ...second], [first, second]);
  const rest = first.filter((wire) => wire !== from.wire);
  if (rest.length < 2) return without(drawing, stage, first);
  const next = replaced(drawing, stage, [
    ...drawing.stages[stage]!.filter((wires) => wires !== first),
    rest,
  ]);
  const said = `Wire ${from.wire} left the switch on ${listed(first)} in stage ${stage + 1}.`;
  return { drawing: next, selected: null, said };
}

/** Insert an empty stage before stage `stage`, to be filled. */
export function inserted(given: Drawing, stage: number): Outcome {
  const [drawing, at] = stageOf(given, stage);
  const isEmpty = drawing.stages[at]?.length === 0;
  const stages = isEmpty ? drawing.stages : drawing.stages.toSpliced(at, 0, []);
  return {
    drawing: { ...drawing, stages },
    selected: null,
    said: `Stage ${at + 1} is new: select wires in its column, or drag between them, to fill it.`,
  };
}

/** Remove a stage with its switches. */
export function removed({ width, stages }: Drawing, stage: number): Outcome {
  const said = `Stage ${stage + 1} was removed; undo restores it.`;
  return { drawing: { width, stages: stages.toSpliced(stage, 1) }, selected: null, said };
}

/** Change the width; return the number of switches that do not fit, too. */
export function resized({ stages }: Drawing, width: number): { drawing: Drawing; dropped: number } {
  const fits = stages.map((stage) => stage.filter((wires) => wires.every((w) => w < width)));
  const dropped = stages.flat().length - fits.flat().length;
  return { drawing: { width, stages: fits.filter((stage) => stage.length) }, dropped };
}

/** Return the drawing of a network, or null if it cannot be drawn by hand. */
export function drawingOf(net: Network | null, widest: number): Drawing | null {
  if (!net?.stages || !net.straight || net.width < 2 || net.width > widest) return null;
  const stages = net.stages.map(({ switches }) => switches.map(([reads]) => [...reads]));
  return { width: net.width, stages: stages.filter((stage) => stage.length) };
}

/** Return the stage to the right of a column, in a drawing without any other empty stage. */
function stageOf(drawing: Drawing, column: number): [Drawing, number, boolean] {
  const { width, stages } = drawing;
  const t = Math.min(column, stages.length); // the last column belongs to the last stage
  const empty = stages.findIndex((stage) => !stage.length);
  if (empty === -1 || empty === t) return [drawing, t, false];
  return [{ width, stages: stages.toSpliced(empty, 1) }, t > empty ? t - 1 : t, true];
}

function replaced({ width, stages }: Drawing, t: number, stage: (readonly number[])[]): Drawing {
  return { width, stages: t < stages.length ? stages.with(t, stage) : [...stages, stage] };
}

function joining(
  drawing: Drawing,
  stage: number,
  wires: readonly number[],
  parts: (readonly number[])[],
): Outcome {
  const others = (drawing.stages[stage] ?? []).filter((one) => !parts.includes(one));
  const said = `A switch joins ${listed(sorted(wires))} in stage ${stage + 1}.`;
  const next = replaced(drawing, stage, [...others, sorted(wires)]);
  return { drawing: next, selected: null, said };
}

function without(drawing: Drawing, stage: number, joined: readonly number[]): Outcome {
  const left = drawing.stages[stage]!.filter((wires) => wires !== joined);
  const said = `The switch on ${listed(joined)} in stage ${stage + 1} was removed.`;
  if (left.length) return { drawing: replaced(drawing, stage, left), selected: null, said };
  if (stage === drawing.stages.length - 1) {
    const stages = drawing.stages.slice(0, -1);
    return { drawing: { width: drawing.width, stages }, selected: null, said };
  }
  return {
    drawing: replaced(drawing, stage, []),
    selected: null,
    said: `${said} Fill the stage again, or click in another column to remove it.`,
  };
}
