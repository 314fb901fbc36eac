// Utilities: elements, formatted numbers, copying.

const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function drawnElement(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

const grouped = (number) => number.toLocaleString("en-US");
const counted = (number, one, many = `${one}s`) => `${grouped(number)} ${number === 1 ? one : many}`;

/** Return a fraction in per cent, never rounded up to 100. */
function percent(part, whole) {
  if (part === whole) return "100%";
  return `${Math.min((100 * part) / whole, 99.9).toPrecision(3).replace(/\.?0+$/, "")}%`;
}

/** Make buttons with data-copies copy the text of the element that they name. */
function enableCopying() {
  for (const button of document.querySelectorAll("[data-copies]")) {
    button.addEventListener("click", async () => {
      const text = byId(button.dataset.copies).textContent;
      button.textContent = (await copied(text)) ? "Copied" : "Select and copy by hand";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // an old browser, or one that denies access to the clipboard
    const area = element("textarea", { class: "hidden", "aria-hidden": "true" });
    const focused = document.activeElement;
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}
