// Filters of the table of the atlas; without scripts the page shows all rows.

const home = document.getElementById("atlas");
const rows = [...home.querySelectorAll("tbody tr")];
const form = home.querySelector("form");
const count = home.querySelector("[role=status]");
const NAMES = { purpose: "Purpose", width: "Width", block: "Block", state: "Bound" };

const valuesOf = (row, name) => row.dataset[name].split(name === "block" ? " " : "\n");

function field(name) {
  const values = [...new Set(rows.flatMap((row) => valuesOf(row, name)))];
  if (name === "width" || name === "block") values.sort((a, b) => a - b);
  const label = document.createElement("label");
  const select = document.createElement("select");
  select.name = name;
  select.append(new Option("all", ""), ...values.map((value) => new Option(value, value)));
  label.append(NAMES[name], select);
  return label;
}

/** Set the filters that an address names, as in atlas.html#width=64&block=4; width 64 otherwise. */
function read() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (!Object.keys(NAMES).some((name) => asked.has(name))) asked.set("width", "64");
  for (const name of Object.keys(NAMES)) {
    const select = form.elements[name];
    select.value = asked.get(name) ?? "";
    if (select.selectedIndex < 0) select.value = "";
  }
}

function filter() {
  const wanted = Object.keys(NAMES).filter((name) => form.elements[name].value);
  let shown = 0;
  for (const row of rows) {
    row.hidden = !wanted.every((name) => valuesOf(row, name).includes(form.elements[name].value));
    shown += !row.hidden;
  }
  count.textContent = `${shown.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")} rows`;
}

form.append(...Object.keys(NAMES).map(field));
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", () => {
  const kept = Object.keys(NAMES).filter((name) => form.elements[name].value);
  const query = kept.map((name) => `${name}=${encodeURIComponent(form.elements[name].value)}`);
  history.replaceState(null, "", `#${query.join("&") || "width="}`);
  filter();
});
addEventListener("hashchange", () => { read(); filter(); });
form.hidden = false;
count.hidden = false;
read();
filter();
