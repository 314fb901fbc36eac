/** The steps of a schedule as wires that move from row to row, and boxes on neighbouring rows. */

import type { Step } from "@/types";

export interface Link {
  origin: number; // the row at which the wire begins, before the first step
  from: number;
  to: number;
}

export interface Column {
  name: string;
  text: string;
  links: Link[];
  boxes: [start: number, radix: number][];
}

/**
 * Return a column for each permutation, and one for the products of each stage; null for a
 * permutation whose order is not listed.
 */
export function columnsOf(steps: readonly Step[], width: number): (Column | null)[] {
  let origins = Array.from({ length: width }, (_, row) => row);
  const columns: (Column | null)[] = [];
  let stage: number | null = null; // of the last column, if that is a product
  for (const step of steps) {
    const before = origins;
    if (step.kind === "blocks") {
      const boxes = Array.from(
        { length: step.count },
        (_, k) => [step.start + k * step.radix, step.radix] as [number, number],
      );
      if (stage === step.stage) columns.at(-1)!.boxes.push(...boxes);
      else {
        const links = before.map((origin, row) => ({ origin, from: row, to: row }));
        columns.push({ name: `B${step.stage + 1}`, text: step.text, links, boxes });
      }
      stage = step.stage;
    } else {
      stage = null;
      if (!step.order) columns.push(null);
      else {
        origins = step.order.map((from) => before[from]!);
        const links = step.order.map((from, to) => ({ origin: before[from]!, from, to }));
        columns.push({ name: "permute", text: step.text, links, boxes: [] });
      }
    }
  }
  return columns;
}
