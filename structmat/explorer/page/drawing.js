// A network drawn by hand: switches stage by stage, with undo.

const NONE = { column: 0, wires: [] };

class Drawing {
  #radix = 2;
  #selected = NONE; // the wires selected for the next switch
  #past = [];

  constructor(width) {
    this.width = width;
    this.stages = []; // lists of switches, which are lists of wires; one may be empty, to be filled
  }

  /** The number of wires of the next switch: the requested number, at most the width. */
  get radix() { return Math.min(this.#radix, this.width); }

  set radix(radix) {
    this.#radix = radix;
    if (this.#selected.wires.length >= radix) this.#selected = NONE;
  }

  get selected() { return this.#selected; }

  get canUndo() { return this.#selected.wires.length > 0 || this.#past.length > 0; }

  /** The question for the library. */
  get question() {
    return { width: this.width, stages: this.stages.filter((stage) => stage.length) };
  }

  /** The drawing: the network, and a stage to be filled. */
  get picture() {
    const stages = [...this.stages, []].map((stage) => (
      { switches: stage.map((wires) => [wires]), moves: [] }
    ));
    return { width: this.width, depth: this.stages.length, labels: null, stages };
  }

  /** Choose a wire of a column; return a message, and whether the network changed. */
  choose(column, wire) {
    const t = this.#stageOf(column);
    const joined = this.stages[t]?.find((wires) => wires.includes(wire));
    if (joined) {
      this.#remember();
      this.stages[t] = this.stages[t].filter((wires) => wires !== joined);
      const said = `The switch on ${joined.join(", ")} of stage ${t + 1} is removed.`;
      if (this.stages[t].length) return { changed: true, said };
      if (t === this.stages.length - 1) {
        this.stages.pop();
        return { changed: true, said };
      }
      return { changed: true, said: `${said} Fill the stage again, or click elsewhere to close it.` };
    }
    const before = this.#selected.column === t ? this.#selected.wires : [];
    if (before.includes(wire)) return this.#wanting(t, before.filter((one) => one !== wire));
    const wires = [...before, wire];
    if (wires.length < this.radix) return this.#wanting(t, wires);
    this.#remember();
    const sorted = wires.toSorted((a, b) => a - b);
    this.stages[t] = [...(this.stages[t] ?? []), sorted];
    return { changed: true, said: `A switch joins ${sorted.join(", ")} in stage ${t + 1}.` };
  }

  /** Replace the stages, for example by those of a picked network; this can be undone. */
  replace(width, stages) {
    this.#remember();
    this.width = width;
    this.stages = stages;
  }

  /** Change the width; drop switches that do not fit, and return their number. */
  resize(width) {
    const fits = this.stages.map((stage) => stage.filter((wires) => wires.every((w) => w < width)));
    const dropped = this.stages.flat().length - fits.flat().length;
    this.replace(width, fits.filter((stage) => stage.length));
    return dropped;
  }

  /** Deselect the wires selected for a switch; return them. */
  letGo() {
    const { wires } = this.#selected;
    this.#selected = NONE;
    return wires;
  }

  /** Deselect the wires selected for a switch or, if there are none, undo the last step. */
  undo() {
    const wires = this.letGo();
    if (wires.length) return { changed: false, said: `Deselected: ${wires.join(", ")}.` };
    [this.width, this.stages] = this.#past.pop() ?? [this.width, this.stages];
    return { changed: true, said: "Undone." };
  }

  /** Return the stage to the right of a column; remove any other empty stage. */
  #stageOf(column) {
    const t = Math.min(column, this.stages.length); // the last column belongs to the last stage
    const empty = this.stages.findIndex((stage) => !stage.length);
    if (empty === -1 || empty === t) return t;
    this.stages.splice(empty, 1);
    this.#selected = NONE;
    return t > empty ? t - 1 : t;
  }

  #wanting(t, wires) {
    this.#selected = { column: t, wires };
    const list = wires.length ? `Selected in stage ${t + 1}: ${wires.join(", ")}. ` : "";
    return { changed: false, said: `${list}Select ${this.radix - wires.length} more.` };
  }

  #remember() {
    this.#past.push([this.width, this.stages.map((stage) => [...stage])]);
    this.#selected = NONE;
  }
}

/** Return the stages of a network in the form of a drawing, or null if it cannot be drawn. */
function drawable(net) {
  if (!net?.stages || !net.straight || net.width < 2 || net.width > data.drawn) return null;
  const stages = net.stages.map(({ switches }) => switches.map(([reads]) => [...reads]));
  return stages.filter((stage) => stage.length);
}
