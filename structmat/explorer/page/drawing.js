// A network drawn by hand: switches stage by stage, with undo.

class Drawing {
  constructor(width) {
    this.width = width;
    this.radix = 2;
    this.stages = []; // lists of switches, which are lists of wires
    this.chosen = { column: 0, wires: [] }; // for the next switch
    this.past = [];
  }

  /** What the library is asked about. */
  get question() { return { width: this.width, stages: this.stages }; }

  /** What is drawn: the network, and a stage to go on in. */
  get picture() {
    const stages = [...this.stages, []].map((stage) => (
      { switches: stage.map((wires) => [wires]), moves: [] }
    ));
    return { width: this.width, depth: this.stages.length, labels: null, stages };
  }

  /** Choose a wire of a column; return what happened in words, and whether the network changed. */
  choose(column, wire) {
    const t = Math.min(column, this.stages.length); // the last column belongs to the last stage
    const joined = this.stages[t]?.find((wires) => wires.includes(wire));
    if (joined) {
      this.#remember();
      this.stages[t] = this.stages[t].filter((wires) => wires !== joined);
      if (!this.stages[t].length) this.stages.splice(t, 1);
      this.chosen = { column: t, wires: [] };
      return { changed: true, said: `The switch on ${joined.join(", ")} of stage ${t + 1} is gone.` };
    }
    const before = this.chosen.column === t ? this.chosen.wires : [];
    const wires = before.includes(wire) ? before.filter((one) => one !== wire) : [...before, wire];
    this.chosen = { column: t, wires };
    if (wires.length < Math.min(this.radix, this.width)) {
      const list = wires.length ? `Chosen in stage ${t + 1}: ${wires.join(", ")}. ` : "";
      return { changed: false, said: `${list}Choose ${this.radix - wires.length} more.` };
    }
    this.#remember();
    const sorted = wires.toSorted((a, b) => a - b);
    this.stages[t] = [...(this.stages[t] ?? []), sorted];
    this.chosen = { column: t, wires: [] };
    return { changed: true, said: `A switch joins ${sorted.join(", ")} in stage ${t + 1}.` };
  }

  /** Take over other stages, such as those of a picked network; undone as any step. */
  replace(width, stages) {
    this.#remember();
    this.width = width;
    this.stages = stages;
    this.chosen = { column: 0, wires: [] };
  }

  undo() {
    const last = this.past.pop();
    if (!last) return;
    [this.width, this.stages] = last;
    this.chosen = { column: 0, wires: [] };
  }

  #remember() {
    this.past.push([this.width, this.stages.map((stage) => [...stage])]);
  }
}

/** Return the stages of a network as a drawing has them, or null where it cannot be drawn. */
function drawable(net) {
  if (!net?.stages || !net.straight || net.width < 2 || net.width > data.drawn) return null;
  const stages = net.stages.map(({ switches }) => switches.map(([reads]) => [...reads]));
  return stages.filter((stage) => stage.length);
}
