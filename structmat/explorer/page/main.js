// The page as a whole: what is asked, and where the answers are shown.

let newest = 0; // the number of the newest question: late answers to older ones are dropped
let picked = null; // the network that was picked last
let drawing = null;

const graph = new Graph(byId("graph"), { choose: chosen, say });
const picking = new Picking(show);

function say(text) {
  const usual = drawing ? "" : "Point at a wire, or move to it with the keyboard, to see what it"
    + " hears and whom it reaches; click to keep it.";
  byId("spreading").textContent = [drawing?.said, text ?? usual].filter(Boolean).join(" ");
}

/** Ask the library about a network and show what it says: at once, and the dimension when found. */
async function show(question) {
  newest += 1;
  const mine = newest;
  const isWanted = () => mine === newest;
  let net;
  try {
    net = await library.network(question);
  } catch (error) {
    if (isWanted()) refuse(error);
    return;
  }
  if (!isWanted()) return;
  showNetwork(net);
  try {
    const found = await library.dimension(net.spec ? { spec: net.spec, width: net.width } : question);
    if (found && isWanted()) showDimension(net, found);
  } catch (error) {
    if (isWanted()) showFailure(error.message);
  }
}

function showNetwork(net) {
  byId("error").hidden = true;
  document.body.classList.remove("refused");
  for (const part of document.querySelectorAll(".stale")) part.classList.remove("stale");
  if (!drawing) {
    picked = net;
    picking.fill(net);
    history.replaceState(null, "", `#${net.width}:${net.spec}`);
    showGraph(net);
  }
  showTitle(net);
  showNumbers(net);
  showBounds(net);
  showCost(net);
  showCode(net);
  document.body.dataset.shown = newest; // that this question is answered
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
  byId("spreading").textContent = `Too much to draw: up to ${data.drawn} wires can be told apart.`;
}

/** Show why there is no such network, and keep the last one, faint. */
function refuse(error) {
  if (!(error instanceof Refused)) throw error;
  byId("error").textContent = error.message;
  byId("error").hidden = false;
  for (const part of document.querySelectorAll(".picture, .numbers, .copy, .bounds, .cost")) {
    part.classList.add("stale");
  }
  if (!drawing && !data.saved) picking.offer(error.widths);
}

// Drawing -----------------------------------------------------------------------------------

const BEGIN = "Click wires of one column: they are joined by a switch.";
const drawn = new Drawing(8);

function setMode(isDrawing) {
  drawing = isDrawing ? drawn : null;
  byId("mode-pick").setAttribute("aria-pressed", !isDrawing);
  byId("mode-draw").setAttribute("aria-pressed", isDrawing);
  byId("pick").hidden = isDrawing || Boolean(data.saved);
  byId("saved").hidden = isDrawing || !data.saved;
  byId("draw").hidden = !isDrawing;
  if (isDrawing) redraw({ changed: true, said: BEGIN });
  else if (picked) show({ spec: picked.spec, width: picked.width });
}

function chosen(column, wire) { redraw(drawing.choose(column, wire)); }

function redraw({ changed, said }) {
  drawn.said = said;
  byId("draw-width").value = drawn.width;
  byId("radix").value = drawn.radix;
  byId("undo").disabled = !drawn.past.length;
  byId("clear").disabled = !drawn.stages.length;
  byId("copy-network").disabled = !drawable(picked);
  byId("graph").hidden = false;
  byId("outline").hidden = true;
  graph.pinned = null;
  graph.show(drawn.picture, { open: true, pressed: drawn.chosen });
  if (changed) show(drawn.question);
}

function enableDrawing() {
  byId("mode-pick").addEventListener("click", () => setMode(false));
  byId("mode-draw").addEventListener("click", () => setMode(true));
  byId("draw").addEventListener("submit", (event) => event.preventDefault());
  byId("draw-width").max = data.drawn;
  byId("draw-width").addEventListener("change", () => {
    const width = within(byId("draw-width"), 2, data.drawn);
    const fits = drawn.stages.map((stage) => stage.filter((wires) => wires.every((w) => w < width)));
    drawn.replace(width, fits.filter((stage) => stage.length));
    redraw({ changed: true, said: `${width} wires.` });
  });
  byId("radix").addEventListener("change", () => {
    drawn.radix = within(byId("radix"), 2, drawn.width);
    redraw({ changed: false, said: `The next switches join ${drawn.radix} wires.` });
  });
  byId("undo").addEventListener("click", () => {
    drawn.undo();
    redraw({ changed: true, said: "Undone." });
  });
  byId("clear").addEventListener("click", () => {
    drawn.replace(drawn.width, []);
    redraw({ changed: true, said: "All switches are gone; undo brings them back." });
  });
  byId("copy-network").addEventListener("click", () => {
    drawn.replace(picked.width, drawable(picked));
    redraw({ changed: true, said: `Now draw on, from ${picked.spec}.` });
  });
}

function within(input, least, most) {
  return Math.min(Math.max(Math.round(Number(input.value)) || least, least), most);
}

// Begin -------------------------------------------------------------------------------------

/** Return the network that the address names, as a link or a reload does, or the first one. */
function first() {
  const [, width, spec] = /^#(\d+):(.+)$/.exec(decodeURIComponent(location.hash)) ?? [];
  if (!spec) return data.first;
  const isThere = !data.saved || data.saved.some((one) => one.spec === spec && one.width === Number(width));
  return isThere ? { spec, width: Number(width) } : data.first;
}

enableCopying();
enableDrawing();
byId("about").textContent = `structmat ${data.version}`
  + (data.saved ? ", a saved page: nothing is fetched." : ": every number is computed by the library.");
show(first());
