/** Reachability in a network, as in structmat.reach, but for one wire of any column. */

import type { Stage } from "@/types";

export interface Place {
  column: number;
  wire: number;
}

/** Return, for each wire before a stage, the wires after it that it influences. */
export function influencedBy(stage: Stage, width: number): number[][] {
  const targets = Array.from({ length: width }, (_, wire) => [wire]); // idle wires
  for (const [from, to] of stage.moves) targets[from] = [to];
  for (const [reads, writes] of stage.switches) {
    for (const wire of reads) targets[wire] = writes ?? reads;
  }
  return targets;
}

/** Return the reverse: for each wire after a stage, the wires before it that influence it. */
export function reversed(targets: number[][]): number[][] {
  const sources: number[][] = targets.map(() => []);
  targets.forEach((ends, start) => {
    for (const end of ends) sources[end]!.push(start);
  });
  return sources;
}

/** Return a function that returns, for a place, the set of wires of each column, 0 to depth,
 * that influence it, or that it influences. */
export function spreader(stages: Stage[], width: number): (place: Place) => Set<number>[] {
  const forward = stages.map((stage) => influencedBy(stage, width));
  const backward = forward.map(reversed);
  return ({ column, wire }) => {
    const columns = Array.from({ length: stages.length + 1 }, () => new Set<number>());
    columns[column]!.add(wire);
    for (let t = column; t < stages.length; t += 1) {
      for (const from of columns[t]!) for (const to of forward[t]![from]!) columns[t + 1]!.add(to);
    }
    for (let t = column; t > 0; t -= 1) {
      for (const to of columns[t]!) {
        for (const from of backward[t - 1]![to]!) columns[t - 1]!.add(from);
      }
    }
    return columns;
  };
}

/** Describe the reachable wires. */
export function inWords(columns: Set<number>[], width: number, column: number, name: string) {
  const last = columns.length - 1;
  const depends = `depends on ${columns[0]!.size} of ${width} inputs`;
  const influences = `influences ${columns[last]!.size} of ${width} outputs`;
  if (last === 0) return `Wire ${name} ${depends} and ${influences}.`;
  const after = columns.map((set) => set.size);
  if (column === 0) {
    return `Input ${name} ${influences}; after each stage: ${after.slice(1).join(", ")}.`;
  }
  if (column === last) {
    return `Output ${name} ${depends}; before each stage: ${after.slice(0, -1).join(", ")}.`;
  }
  return `Wire ${name} after stage ${column} ${depends} and ${influences}.`;
}
