// Reachability in a network, as in structmat.reach, but for the wire under the pointer.

/** Return, for each wire before a stage, the wires after it that it influences. */
function influencedBy(stage, width) {
  const targets = Array.from({ length: width }, (_, wire) => [wire]); // idle wires
  for (const [from, to] of stage.moves) targets[from] = [to];
  for (const [reads, writes] of stage.switches) {
    for (const wire of reads) targets[wire] = writes ?? reads;
  }
  return targets;
}

/** Return the reverse: for each wire after a stage, the wires before it that influence it. */
function reversed(targets) {
  const sources = targets.map(() => []);
  targets.forEach((ends, start) => ends.forEach((end) => sources[end].push(start)));
  return sources;
}

/**
 * Return which wires of each column influence a wire of one column, or are influenced by it: a
 * list with a set of wires for every column, 0 to depth.
 */
function spread(stages, width, column, wire) {
  const columns = Array.from({ length: stages.length + 1 }, () => new Set());
  columns[column].add(wire);
  for (let t = column; t < stages.length; t += 1) {
    const targets = influencedBy(stages[t], width);
    for (const from of columns[t]) for (const to of targets[from]) columns[t + 1].add(to);
  }
  for (let t = column; t > 0; t -= 1) {
    const sources = reversed(influencedBy(stages[t - 1], width));
    for (const to of columns[t]) for (const from of sources[to]) columns[t - 1].add(from);
  }
  return columns;
}

/** Describe the reachable wires. */
function spreadInWords(columns, width, column, name) {
  const last = columns.length - 1;
  const depends = `depends on ${columns[0].size} of ${width} inputs`;
  const influences = `influences ${columns[last].size} of ${width} outputs`;
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
