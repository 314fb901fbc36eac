// The page as a whole: asking questions and showing the answers.

let newest = 0; // the number of the newest question: late answers to older ones are dropped
let shown = null; // the current network
let picked = null; // the last network that was picked
let drawing = null;
let slow; // the timer of the message that an answer takes long

const graph = new Graph(byId("graph"), { choose: selectWire, letGo, say });
const picking = new Picking(show);

function say(text) {
  const usual = drawing ? "" : "Point at a wire, or move to it with the keyboard, to see which inputs"
    + " influence it and which outputs it influences; click to keep them highlighted.";
  byId("spreading").textContent = [drawing?.said, text ?? usual].filter(Boolean).join(" ");
}

/**
 * Ask the library about a network, and show the answer. Consecutive questions of one kind (typed
 * into one field, drawn, or from the address) are one step for the Back button; null begins a new
 * step. A complaint states why this network is shown instead of the one that the address names; the
 * address is then kept, so that it can be corrected.
 */
async function show(question, kind = null, complaint = "") {
  const mine = begin();
  slow = setTimeout(() => { busy(true); }, 300);
  try {
    const net = await library.network(question);
    if (mine === newest) present(net, kind, complaint);
  } catch (error) {
    if (mine === newest) refuse(error, question);
  }
}

/** Discard pending questions. */
function begin() {
  newest += 1;
  clearTimeout(slow);
  return newest;
}

function busy(isBusy) {
  clearTimeout(slow);
  byId("working").hidden = !isBusy;
  document.querySelector("main").setAttribute("aria-busy", isBusy);
}

/** Show a network immediately, and its dimension once computed. */
async function present(net, kind, complaint = "") {
  const mine = begin();
  busy(false);
  complain(complaint);
  for (const part of document.querySelectorAll(".stale")) part.classList.remove("stale");
  shown = net;
  if (net.spec !== null) {
    picked = net;
    setMode(false);
    picking.fill(net);
    showGraph(net);
  }
  const question = net.spec === null ? drawn.question : { spec: net.spec, width: net.width };
  if (!complaint) keepAddress(question, kind);
  showTitle(net);
  showNumbers(net);
  showBounds(net);
  showCost(net);
  showCode(net);
  showAtlas(net, mine);
  document.body.dataset.shown = newest; // the number of the answered question
  try {
    const found = await library.dimension(question);
    if (found && mine === newest) showDimension(net, found);
  } catch (error) {
    if (mine === newest) showFailure(error.message);
  }
}

function showTitle(net) {
  const name = net.spec === null ? "drawn by hand" : element("code", {}, net.spec);
  const size = ` · ${counted(net.width, "wire")}, ${counted(net.depth, "stage")}`;
  byId("title").replaceChildren(name, element("span", { class: "aside" }, size));
}

function showGraph(net) {
  const isDrawn = Boolean(net.stages);
  byId("graph").hidden = !isDrawn;
  byId("outline").hidden = isDrawn;
  if (isDrawn) {
    graph.show(net);
    return;
  }
  graph.clear();
  byId("outline").textContent = net.summary;
  byId("spreading").textContent = `Too large to draw: there are more than ${data.drawn} wires, or very many edges.`;
}

function complain(message) {
  byId("error").textContent = message;
  byId("error").hidden = !message;
}

/** Show an error, with the last network faded; or show the first network. */
function refuse(error, question) {
  if (!(error instanceof Refused)) throw error;
  busy(false);
  complain(error.message);
  if (!shown && question !== data.first) {
    const { spec, width } = data.first;
    show(data.first, null, `${error.message}. Shown instead: ${spec} at width ${width}.`);
    return;
  }
  for (const part of document.querySelectorAll(".picture, .numbers, .copy, .bounds, .cost")) {
    part.classList.add("stale");
  }
  if (!drawing && question) picking.blame(error, question);
  byId("error").scrollIntoView({ block: "nearest" });
}

// Drawing -----------------------------------------------------------------------------------

const BEGIN = "Click wires of one column: they are joined by a switch.";
const drawn = new Drawing(8);

function setMode(isDrawing) {
  if (isDrawing === Boolean(drawing)) return;
  drawing = isDrawing ? drawn : null;
  byId("mode-pick").setAttribute("aria-pressed", !isDrawing);
  byId("mode-draw").setAttribute("aria-pressed", isDrawing);
  byId("pick").hidden = isDrawing || Boolean(data.saved);
  byId("saved").hidden = isDrawing || !data.saved;
  byId("draw").hidden = !isDrawing;
  const field = isDrawing ? "draw-help" : data.saved ? "saved-width" : "width";
  byId(field).after(byId("error"));
}

/** Update the drawing immediately, and the numbers once the library has answered. */
function draw(said, kind) {
  picking.stop();
  setMode(true);
  redraw({ changed: true, said }, kind);
}

function selectWire(column, wire) { redraw(drawn.choose(column, wire)); }

function letGo() {
  if (drawing && drawn.letGo().length) redraw({ changed: false, said: "No wires are selected." });
}

function redraw({ changed, said }, kind = "drawing") {
  drawn.said = said;
  byId("draw-width").value = drawn.width;
  byId("radix").value = drawn.radix;
  byId("undo").disabled = !drawn.canUndo;
  byId("clear").disabled = !drawn.stages.length;
  byId("copy-network").disabled = !drawable(picked);
  byId("graph").hidden = false;
  byId("outline").hidden = true;
  graph.pinned = null;
  graph.show(drawn.picture, { open: true, pressed: drawn.selected });
  if (changed) show(drawn.question, kind);
}

function enableDrawing() {
  byId("mode-pick").addEventListener("click", () => {
    if (picked) present(picked, null);
    else show(data.first);
  });
  byId("mode-draw").addEventListener("click", () => draw(BEGIN));
  byId("draw").addEventListener("submit", (event) => event.preventDefault());
  byId("draw-width").max = data.drawn;
  byId("draw-width").addEventListener("change", () => {
    const width = within(byId("draw-width"), 2, data.drawn) ?? drawn.width;
    const dropped = width === drawn.width ? 0 : drawn.resize(width);
    const lost = dropped ? ` ${counted(dropped, "switch", "switches")} dropped; undo restores them.` : "";
    redraw({ changed: true, said: `${counted(width, "wire")}.${lost}` });
  });
  byId("radix").addEventListener("change", () => {
    drawn.radix = within(byId("radix"), 2, drawn.width) ?? drawn.radix;
    redraw({ changed: false, said: `The next switches join ${drawn.radix} wires.` });
  });
  byId("undo").addEventListener("click", () => redraw(drawn.undo()));
  byId("clear").addEventListener("click", () => {
    drawn.replace(drawn.width, []);
    redraw({ changed: true, said: "All switches removed; undo restores them." });
  });
  byId("copy-network").addEventListener("click", () => {
    drawn.replace(picked.width, drawable(picked));
    redraw({ changed: true, said: `Continue drawing from ${picked.spec}.` });
  });
}

/** Return the number in a field, clamped to its bounds; null if there is none. */
function within(input, least, most) {
  const number = Math.round(input.valueAsNumber);
  return Number.isNaN(number) ? null : Math.min(Math.max(number, least), most);
}

// Begin -------------------------------------------------------------------------------------

/** Show the network that the address names, as a link, a reload or Back does, or the first one. */
function visit() {
  begin();
  picking.stop();
  let question;
  try {
    question = questionIn(location.hash) ?? data.first;
  } catch (error) {
    refuse(error, null);
    return;
  }
  if (!question.stages) {
    show(question, "address");
    return;
  }
  if (addressOf(drawn.question) !== addressOf(question)) drawn.replace(question.width, question.stages);
  draw(BEGIN, "address");
}

enableCopying();
enableDrawing();
byId("about").textContent = `structmat ${data.version}`
  + (data.saved ? ", a saved page: nothing is fetched." : ": the properties are computed by the library.");
addEventListener("hashchange", visit);
visit();
