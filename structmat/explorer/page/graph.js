// The grid graph: a column of wires before and after each stage; reachability on hover and focus.

const MARGIN = { top: 40, right: 48, bottom: 10 };

class Graph {
  /**
   * `choose(column, wire)` is called on a click in an open network, `letGo()` on Escape, and
   * `say(text)` with the reachable wires in words.
   */
  constructor(home, { choose, letGo, say }) {
    this.home = home;
    this.choose = choose;
    this.letGo = letGo;
    this.say = say;
    this.net = null;
    this.pinned = null;
    this.here = { column: 0, wire: 0 }; // the wire with the keyboard focus
    home.addEventListener("pointerover", (event) => this.#hover(event));
    home.addEventListener("pointerleave", () => this.#rest());
    home.addEventListener("focusin", (event) => this.#focus(event));
    home.addEventListener("focusout", () => this.#rest());
    home.addEventListener("click", (event) => this.#click(event));
    home.addEventListener("keydown", (event) => this.#key(event));
    let before = home.clientWidth;
    new ResizeObserver(() => {
      if (this.net && home.clientWidth !== before) this.show(this.net, this.options);
      before = home.clientWidth;
    }).observe(home);
  }

  /**
   * Draw a network. With `open` its last stage is still to be drawn, and `pressed` are the wires
   * selected for its next switch.
   */
  show(net, options = {}) {
    const hadFocus = this.home.contains(document.activeElement);
    const same = this.net === net;
    this.net = net;
    this.options = options;
    if (!same && !options.open) this.pinned = null;
    this.#measure();
    this.nodes = [];
    this.glow = drawnElement("g", { "aria-hidden": "true" });
    this.counts = drawnElement("g", { "aria-hidden": "true" });
    const svg = drawnElement(
      "svg",
      {
        width: this.size[0],
        height: this.size[1],
        viewBox: `0 0 ${this.size.join(" ")}`,
        class: this.options.open ? "open" : null,
        role: "group",
        "aria-label": `Grid graph of ${counted(net.width, "wire")} and ${counted(net.depth, "stage")};`
          + " arrow keys move from wire to wire",
      },
      this.#edges(), this.glow, this.#names(), this.counts, this.#dots(),
    );
    this.home.replaceChildren(svg);
    this.here = {
      column: Math.min(this.here.column, net.stages.length),
      wire: Math.min(this.here.wire, net.width - 1),
    };
    this.#rove(this.here, { focus: hadFocus });
    this.#rest();
  }

  /** Show no network. */
  clear() {
    this.net = null;
    this.home.replaceChildren();
  }

  /** Show the reachable wires of one wire, or none. */
  light(place) {
    const { stages, width } = this.net;
    this.glow.replaceChildren();
    this.counts.replaceChildren();
    this.home.firstChild.classList.toggle("busy", place !== null);
    const columns = place && spread(stages, width, place.column, place.wire);
    this.nodes.forEach((column, t) => column.forEach((node, wire) => {
      node.classList.toggle("on", columns !== null && columns[t].has(wire));
      node.classList.toggle("source", place !== null && t === place.column && wire === place.wire);
    }));
    if (place === null) {
      this.say(null);
      return;
    }
    stages.forEach((stage, t) => this.#lightStage(stage, t, columns, place.column));
    const shown = Math.ceil(34 / this.step[0]); // columns per number
    columns.forEach((set, t) => {
      if (t % shown && t !== columns.length - 1) return;
      this.counts.append(drawnElement("text", { x: this.#x(t), y: 14, class: "count" }, `${set.size}`));
    });
    const drawn = this.options.open ? columns.slice(0, -1) : columns; // the next stage is not drawn yet
    const column = Math.min(place.column, drawn.length - 1);
    this.say(spreadInWords(drawn, width, column, this.#name(place.wire)));
  }

  #lightStage(stage, t, columns, column) {
    const carries = (from, to) => columns[t].has(from) && columns[t + 1].has(to);
    const after = t >= column ? t - column : column - t - 1;
    const add = (edges, colour) => {
      const lit = edges.filter(([from, to]) => carries(from, to));
      if (!lit.length) return;
      const path = drawnElement("path", { d: this.#lines(t, lit), class: "lit", stroke: colour });
      path.style.setProperty("--after", after);
      this.glow.append(path);
    };
    add(this.#bare(stage), "var(--wire)");
    stage.switches.forEach((one, k) => add(complete(one), `var(--switch-${k % 6})`));
  }

  #measure() {
    const { width, stages, labels } = this.net;
    const longest = Math.max(...(labels ?? [`${width - 1}`]).map((label) => label.length));
    this.left = 28 + Math.min(7 * longest, 90);
    const room = this.home.clientWidth - this.left - MARGIN.right;
    const across = Math.min(Math.max(room / Math.max(stages.length, 1), 34), 190);
    const down = width <= 16 ? 27 : width <= 32 ? 20 : 14;
    this.step = [across, down];
    this.size = [
      Math.ceil(this.left + MARGIN.right + across * stages.length),
      MARGIN.top + MARGIN.bottom + down * (width - 1) + 14,
    ];
  }

  #x(column) { return this.left + column * this.step[0]; }

  #y(wire) { return MARGIN.top + 7 + wire * this.step[1]; }

  #name(wire) { return this.net.labels ? this.net.labels[wire] : `${wire}`; }

  #lines(t, edges) {
    const [x0, x1] = [this.#x(t), this.#x(t + 1)].map((x) => x.toFixed(1));
    return edges.map(([from, to]) => `M${x0} ${this.#y(from)}L${x1} ${this.#y(to)}`).join("");
  }

  #bare(stage) {
    const switched = new Set(stage.switches.flatMap(([reads]) => reads));
    return influencedBy(stage, this.net.width)
      .flatMap((targets, wire) => (switched.has(wire) ? [] : [[wire, targets[0]]]));
  }

  #edges() {
    const thickness = Math.max(this.options.open ? 1.2 : 0.6, 1.7 - this.net.width / 48);
    const group = drawnElement("g", { "aria-hidden": "true", "stroke-width": thickness });
    this.net.stages.forEach((stage, t) => {
      group.append(drawnElement("path", { d: this.#lines(t, this.#bare(stage)), class: "edge bare" }));
      stage.switches.forEach((one, k) => {
        const path = drawnElement("path", { d: this.#lines(t, complete(one)), class: "edge" });
        path.style.setProperty("stroke", `var(--switch-${k % 6})`);
        path.classList.add("switch");
        group.append(path);
      });
    });
    return group;
  }

  #names() {
    const group = drawnElement("g", { "aria-hidden": "true" });
    const every = this.net.width > 32 ? 4 : this.net.width > 16 ? 2 : 1;
    for (let wire = 0; wire < this.net.width; wire += every) {
      const [y, name] = [this.#y(wire) + 4, this.#name(wire)];
      const short = name.length > 12 ? `${name.slice(0, 11)}…` : name;
      group.append(
        drawnElement("text", { x: this.left - 16, y, class: "name", "text-anchor": "end" }, short),
        drawnElement("text", { x: this.#x(this.net.stages.length) + 16, y, class: "name" },
          short.length > 4 ? "" : short),
      );
    }
    const shown = Math.ceil(30 / this.step[0]);
    this.net.stages.forEach((_, t) => {
      if (t % shown) return;
      const open = this.options.open && t === this.net.stages.length - 1;
      const text = drawnElement("text", { x: (this.#x(t) + this.#x(t + 1)) / 2, y: 32, class: "stage" });
      text.append(open ? "next" : `B${t + 1}`);
      group.append(text);
    });
    return group;
  }

  #dots() {
    const group = drawnElement("g");
    const { stages, width } = this.net;
    const [dot, hit] = [Math.min(4.5, this.step[1] / 4.4), Math.min(12, this.step[1] / 2)];
    for (let column = 0; column <= stages.length; column += 1) {
      this.nodes.push(Array.from({ length: width }, (_, wire) => {
        const [cx, cy] = [this.#x(column), this.#y(wire)];
        const pressed = this.options.pressed;
        return drawnElement(
          "g",
          {
            class: "node",
            role: "button",
            tabindex: -1,
            "data-column": column,
            "data-wire": wire,
            "aria-label": `wire ${this.#name(wire)}, ${columnName(column, stages.length)}`
              + this.#joined(column, wire),
            "aria-pressed": pressed ? pressed.column === column && pressed.wires.includes(wire) : null,
          },
          drawnElement("circle", { class: "hit", cx, cy, r: hit }),
          drawnElement("circle", { class: "dot", cx, cy, r: dot }),
        );
      }));
      group.append(...this.nodes[column]);
    }
    return group;
  }

  /** Name the wires with which a wire is joined, if a click removes their switch. */
  #joined(column, wire) {
    if (!this.options.open) return "";
    const [reads] = this.net.stages[column]?.switches.find(([wires]) => wires.includes(wire)) ?? [[]];
    const others = reads.filter((other) => other !== wire);
    return others.length ? `, joined with ${others.join(", ")}` : "";
  }

  #placeOf(target) {
    const node = target.closest?.(".node");
    return node ? { column: Number(node.dataset.column), wire: Number(node.dataset.wire) } : null;
  }

  #hover(event) {
    const place = this.#placeOf(event.target);
    if (place) this.light(place);
    else this.#rest();
  }

  #focus(event) {
    const place = this.#placeOf(event.target);
    if (place && event.target.matches(":focus-visible")) this.light(place);
  }

  #rest() {
    if (this.net === null) return;
    const focused = this.home.querySelector(".node:focus-visible");
    this.light(focused ? this.#placeOf(focused) : this.pinned);
  }

  #click(event) {
    const place = this.#placeOf(event.target);
    if (!place) {
      this.pinned = null;
      this.#rest();
      return;
    }
    this.#rove(place, { focus: true });
    this.#selected(place);
  }

  #selected(place) {
    if (this.options.open) {
      this.choose(place.column, place.wire);
      return;
    }
    const again = this.pinned?.column === place.column && this.pinned.wire === place.wire;
    this.pinned = again ? null : place;
    this.light(this.pinned ?? place);
  }

  #key(event) {
    const place = this.#placeOf(event.target);
    if (!place) return;
    const [across, down] = {
      ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
      Home: [-place.column, 0], End: [this.nodes.length, 0],
    }[event.key] ?? [];
    if (across !== undefined) {
      event.preventDefault();
      this.#rove({
        column: Math.min(Math.max(place.column + across, 0), this.nodes.length - 1),
        wire: Math.min(Math.max(place.wire + down, 0), this.net.width - 1),
      }, { focus: true });
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#selected(place);
    } else if (event.key === "Escape") {
      this.letGo();
      this.pinned = null;
      this.light(null);
    }
  }

  /** Make one wire reachable by the tab key, and the others by the arrow keys. */
  #rove(place, { focus }) {
    this.nodes[this.here.column]?.[this.here.wire]?.setAttribute("tabindex", -1);
    this.here = place;
    const node = this.nodes[place.column][place.wire];
    node.setAttribute("tabindex", 0);
    if (focus) node.focus();
  }
}

/** Return the edges of a switch. */
function complete([reads, writes]) {
  return reads.flatMap((from) => (writes ?? reads).map((to) => [from, to]));
}

function columnName(column, depth) {
  if (column === 0) return "input";
  return column === depth ? "output" : `after stage ${column}`;
}
