// The records of the atlas at the current width.

const records = new Map(); // by width

async function showAtlas(net, mine) {
  const home = byId("atlas").closest("section");
  try {
    if (!records.has(net.width)) records.set(net.width, await library.atlas(net.width));
  } catch (error) {
    if (!(error instanceof Refused)) throw error; // without an answer, the server is asked again
  }
  if (mine !== newest) return;
  const rows = records.get(net.width) ?? [];
  home.hidden = !rows.length;
  byId("atlas").replaceChildren(...rows.map((row) => recordRow(row, net)));
}

function recordRow(row, net) {
  const number = (value) => (value === null ? "–" : Number.isInteger(value) ? grouped(value) : String(value));
  const verdict = row.meets ? "meets the bound" : row.meets === false ? "open" : "";
  return element(
    "tr", { "data-purpose": row.purpose, "data-blocks": row.blocks.join(" ") },
    element("th", { scope: "row" }, row.purpose, element("span", {}, row.title)),
    element("td", { "data-label": "block" }, row.blocks.join(", ")),
    element("td", { "data-label": "value" }, row.value === null ? "none" : number(row.value)),
    element("td", { "data-label": "bound" }, number(row.bound)),
    element("td", { class: row.meets ? "meets" : null }, verdict),
    element("td", {}, row.value === null ? row.reason : shownAs(row, net)),
  );
}

/** Return a button that opens the network of a record, or its name if the page cannot show it. */
function shownAs({ question, topology }, net) {
  const isKnown = !data.saved || question?.stages
    || data.saved.some((one) => one.spec === question?.spec && one.width === question?.width);
  if (!question || !isKnown) return element("code", {}, topology);
  const isShown = question.spec !== undefined && question.spec === net.spec;
  const button = element("button", { type: "button", "aria-current": isShown ? "true" : null }, topology);
  button.addEventListener("click", () => openRecord(question));
  return button;
}

function openRecord(question) {
  picking.stop();
  if (question.spec) {
    show(question);
    return;
  }
  drawn.replace(question.width, question.stages);
  draw(BEGIN, null);
}
