// The form in which a family, its options and a width are picked; in a saved page, a list.

class Picking {
  /** `ask(question, kind)` is called on every change; kind is the field that was edited. */
  constructor(ask) {
    this.ask = ask;
    this.waiting = null; // the timer of a question that is being typed
    if (data.saved) this.#list();
    else this.#form();
  }

  /** Discard partial input: something else is shown. */
  stop() {
    clearTimeout(this.waiting);
    this.waiting = null;
  }

  /** Fill in the form for a network. */
  fill(net) {
    if (this.waiting !== null) return; // the next question is being typed
    if (data.saved) {
      byId("saved-spec").value = net.spec;
      this.#listWidths(net.width);
      return;
    }
    byId("family").value = net.form?.family ?? ""; // a composition is none of the families
    this.#describe();
    for (const input of this.#inputs()) input.value = net.form.options[input.dataset.option] ?? "";
    byId("width").value = net.width;
    byId("spec").value = net.spec;
    this.#mark(null);
    this.#offer(net.widths);
  }

  /** Mark the invalid field of a question, and offer valid widths. */
  blame(error, { spec, width }) {
    if (data.saved || error instanceof Lost) return;
    for (const [id, value] of Object.entries({ spec, width: `${width}` })) {
      if (this.waiting === null && byId(id).value !== value) byId(id).value = value; // set by a link
    }
    this.#mark(error.widths.length ? "width" : "spec");
    this.#offer(error.widths);
  }

  #mark(wrong) {
    for (const id of ["width", "spec"]) byId(id).setAttribute("aria-invalid", id === wrong);
  }

  /** Offer valid widths of the family. */
  #offer(widths) {
    byId("widths").replaceChildren(...widths.map((width) => {
      const chip = element("button",
        { type: "button", "aria-pressed": byId("width").value === `${width}` }, `${width}`);
      chip.addEventListener("click", () => {
        byId("width").value = width;
        this.#typed();
      });
      return chip;
    }));
  }

  #inputs() { return [...byId("options").querySelectorAll("[data-option]")]; }

  #form() {
    byId("width").max = data.widest;
    byId("family").append(...data.families.map(({ name }) => element("option", {}, name)));
    byId("family").addEventListener("change", () => {
      this.#describe();
      this.#write();
      this.#typed();
    });
    byId("pick").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#typed(document.activeElement === byId("spec") ? null : document.activeElement.id);
    });
    byId("spec").addEventListener("change", () => this.#typed());
    byId("spec").addEventListener("input", () => {
      this.stop();
      this.waiting = 0; // no timer: a spec is asked about when it is complete
    });
    for (const id of ["options", "width"]) {
      byId(id).addEventListener("input", (event) => {
        if (id === "options") this.#write();
        this.stop();
        this.waiting = setTimeout(() => this.#typed(event.target.id), 300);
      });
    }
  }

  #typed(kind = null) {
    this.stop();
    this.ask({ spec: byId("spec").value, width: byId("width").value }, kind);
  }

  /** Write the family and its options as a spec. */
  #write() {
    const given = this.#inputs().filter(({ value }) => value.trim());
    const list = given.map((input) => `${input.dataset.option}=${input.value}`).join(", ");
    byId("spec").value = byId("family").value + (list && `(${list})`);
  }

  /** Show the options of the family, with values for those that are required. */
  #describe() {
    const family = data.families.find(({ name }) => name === byId("family").value);
    if (this.described === family) return;
    this.described = family;
    byId("summary").textContent = family?.summary ?? "Composed of families, by the spec below.";
    byId("taken").textContent = family ? `· ${family.widths}` : "";
    byId("options").replaceChildren(...(family?.options ?? []).map((option) => {
      const id = `option-${option.name}`;
      const label = element("label", { for: id }, option.name);
      const value = option.needed ? usual(option.name) : "";
      const input = option.default === "False" ? yesOrNo(id)
        : element("input", { id, value, placeholder: option.default, spellcheck: "false",
          autocapitalize: "off", "aria-describedby": `${id}-hint` });
      input.dataset.option = option.name;
      return element("div", {}, label, input, element("p", { class: "hint", id: `${id}-hint` }, option.hint));
    }));
  }

  #list() {
    byId("pick").hidden = true;
    byId("saved-width").after(byId("error"));
    byId("saved").hidden = false;
    const specs = [...new Set(data.saved.map(({ spec }) => spec))];
    const sizes = [...new Set(data.saved.map(({ width }) => width))].sort((a, b) => a - b);
    byId("saved-spec").append(...specs.map((spec) => element("option", {}, spec)));
    byId("saved-note").textContent = `This page was saved with ${counted(data.saved.length, "network")}`
      + ` of ${counted(specs.length, "kind")}, each at those of the widths ${sizes.join(", ")} that it accepts.`
      + " structmat explore shows other networks.";
    byId("saved-spec").addEventListener("change", () => {
      this.#listWidths(Number(byId("saved-width").value));
      this.#picked();
    });
    byId("saved-width").addEventListener("change", () => this.#picked());
    byId("saved").addEventListener("submit", (event) => event.preventDefault());
  }

  #listWidths(wanted) {
    const same = data.saved.filter(({ spec }) => spec === byId("saved-spec").value);
    const sizes = same.map(({ width }) => width);
    byId("saved-width").replaceChildren(...sizes.map((width) => element("option", {}, `${width}`)));
    const nearest = (a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a);
    byId("saved-width").value = sizes.reduce(nearest);
    const family = data.families.find(({ name }) => name === same[0].form?.family);
    byId("saved-summary").textContent = family?.summary ?? "";
  }

  #picked() {
    this.ask({ spec: byId("saved-spec").value, width: Number(byId("saved-width").value) });
  }
}

function usual(name) {
  return { block: "4", depth: "2", degree: "3" }[name] ?? "";
}

function yesOrNo(id) {
  return element("select", { id, "aria-describedby": `${id}-hint` },
    element("option", { value: "" }, "False"), element("option", { value: "True" }, "True"));
}
