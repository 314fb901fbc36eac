// The numbers that the library computes for a network.

function showNumbers(net) {
  const home = byId("numbers");
  if (net.unmeasured) {
    const note = element("dd", { class: "more" }, `${net.unmeasured} The reachability in a`
      + " drawn network is shown nevertheless; to compute its numbers, serve the page with ",
    element("code", {}, "structmat explore"), ".");
    home.replaceChildren(element("div", { class: "wide" }, element("dt", {}, "Drawn by hand"), note));
    return;
  }
  const { width, depth, parameters } = net;
  const pairs = width * width;
  const group = (width * (width - 1)) / 2;
  const needed = net.dense_depth === null ? `not dense: ${net.why_not_dense}`
    : `dense after ${net.dense_depth} of ${counted(depth, "stage")}`;
  home.replaceChildren(
    tile("density", "Density", percent(net.reached, pairs),
      `${grouped(net.reached)} of ${grouped(pairs)} pairs; ${needed}`, net.reached / pairs),
    tile("dimension", "Dimension", "…", "being computed", 0),
    tile("parameters", "Parameters", grouped(parameters),
      `SO(${width}) has ${grouped(group)} dimensions`,
      group ? Math.min(parameters / group, 1) : 1),
    tile("flops", "Operations", grouped(net.cost.flops),
      `per vector; a dense matrix needs ${grouped(net.cost.dense)}`,
      Math.min(net.cost.flops / net.cost.dense, 1)),
    tile("depth", "Stages", grouped(depth), net.straight ? "no permutations between them"
      : "permutations between them"),
    tile("dense_depth", "Dense depth", net.dense_depth === null ? "–" : grouped(net.dense_depth),
      "stages until every input influences every output"),
    tile("nonzeros", "Non-zeros", grouped(net.nonzeros), "entries of all factors"),
    tile("free_edges", "Free edges", grouped(net.free_edges), "twice the parameters"),
  );
  byId("dimension").querySelector(".value").classList.add("waiting");
}

/** A tile: the name of a number, its value, a note, and its fraction of the whole. */
function tile(id, name, value, more, share) {
  const parts = [element("dt", {}, name), element("dd", { class: "value" }, value)];
  if (share !== undefined) parts.push(element("dd", { class: "share" }, meter(share)));
  parts.push(element("dd", { class: "more" }, more));
  return element("div", { id }, ...parts);
}

function meter(share) {
  const bar = drawnElement("rect", { width: 100 * share, height: 4 });
  return drawnElement("svg",
    { class: "meter", viewBox: "0 0 100 4", preserveAspectRatio: "none", width: "100%", "aria-hidden": "true" },
    bar);
}

function showDimension(net, found) {
  if (net.unmeasured) return;
  const group = (net.width * (net.width - 1)) / 2;
  const { lower, upper, parameters, proved, redundant } = found;
  const of = `of ${grouped(group)} in SO(${net.width})`;
  let more;
  if (found.late) more = `${of}; computing it takes more than half a minute; use sm.dimension(net)`;
  else if (!found.ranked && !proved) more = `${of}; these are bounds; sm.dimension(net) takes longer but computes the value`;
  else if (!proved) more = `${of}; a lower bound, almost surely exact; at most ${grouped(upper)}`;
  else if (redundant) more = `${of}; ${counted(redundant, "parameter")} redundant`;
  else if (parameters) more = `${of}; no parameter is redundant`;
  else more = of;
  const between = found.ranked || proved ? grouped(lower) : `${grouped(lower)} to ${grouped(upper)}`;
  byId("dimension").replaceWith(
    tile("dimension", "Dimension", between, more, group ? lower / group : 1));
}

function showFailure(reason) {
  const [value, more] = [".value", ".more"].map((part) => byId("dimension")?.querySelector(part));
  value?.replaceChildren("–");
  value?.classList.remove("waiting");
  more?.replaceChildren(reason);
}

function showBounds(net) {
  byId("bounds").closest("section").hidden = Boolean(net.unmeasured);
  if (net.unmeasured) return;
  byId("bounds").replaceChildren(...net.bounds.map((bound) => {
    const meets = bound.excess >= 0;  // necessary, not sufficient
    const verdict = meets ? "meets the lower bound" : `${grouped(-bound.excess)} below the lower bound`;
    return element(
      "tr", { "data-bound": `${bound.goal} ${bound.quantity}` },
      element("th", { scope: "row" }, `${bound.goal}: ${bound.quantity}`,
        element("span", {}, bound.reason)),
      element("td", { "data-label": "bound" }, grouped(bound.least)),
      element("td", { "data-label": "network" }, grouped(bound.value)),
      element("td", { class: meets ? "meets" : "below" }, verdict),
    );
  }));
}

function showCost(net) {
  byId("cost").closest("section").hidden = Boolean(net.unmeasured);
  if (net.unmeasured) return;
  const { flops, dense, bytes, launches, steps } = net.cost;
  const ratio = Number((flops / dense).toPrecision(2));
  byId("cost").textContent = `Applying the network to one vector takes ${counted(flops, "operation")}, ${ratio} of`
    + ` the ${grouped(dense)} of a dense product, and moves ${counted(bytes, "byte")} of float32 data in`
    + ` ${counted(launches, "pass", "passes")}.`;
  byId("steps").replaceChildren(...steps.map((step) => element("li", {}, step)));
}

function showCode(net) {
  byId("copy-spec").hidden = net.spec === null;
  byId("spec-text").textContent = net.spec ?? "";
  byId("shell-text").textContent = net.spec === null ? "" : shownBy(net);
  byId("code-text").textContent = net.code;
}

/** Return the command that shows a network in a terminal. */
function shownBy({ spec, width }) {
  const loaded = data.families.some(({ name, own }) => own && spec.split(/\W+/).includes(name));
  const quoted = /^\w+$/.test(spec) ? spec : `"${spec.replaceAll('"', "'")}"`;
  return `structmat show ${quoted} --width ${width} --full${loaded ? data.load : ""}`;
}
