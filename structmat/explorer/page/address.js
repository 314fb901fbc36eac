// The current network in the address: #16:butterfly(block=4), or for a drawing #8=0-4,1-5;1-4.

/** Return the part of an address that identifies the network of a question. */
function addressOf({ width, spec, stages }) {
  return encodeURI(`#${width}${stages ? `=${written(stages)}` : `:${spec}`}`);
}

/** Return the question identified by an address, or null. */
function questionIn(hash) {
  if (hash.length < 2) return null;
  const text = decoded(hash);
  const [, width, mark, rest] = /^#(\d+)([:=])(.*)$/.exec(text) ?? [];
  if (mark === ":" && rest) return { spec: rest, width: Number(width) };
  if (mark === "=") return { width: Number(width), stages: read(rest, Number(width), text) };
  throw unreadable(text, "no such network");
}

/** Store the current network in the address, as a new history entry or in place of the last one. */
function keepAddress(question, kind) {
  const hash = addressOf(question);
  const goesOn = kind === "address" || (kind !== null && history.state?.kind === kind);
  const write = hash === location.hash || goesOn ? "replaceState" : "pushState";
  history[write]({ kind }, "", hash);
}

function decoded(hash) {
  try {
    return decodeURIComponent(hash);
  } catch {
    return hash; // with an invalid %
  }
}

function written(stages) {
  return stages.map((stage) => stage.map((wires) => wires.join("-")).join(",")).join(";");
}

/** Return the stages of a drawing, validated because they are drawn before the library is asked. */
function read(rest, width, text) {
  if (width < 2 || width > data.drawn) throw unreadable(text, `2 to ${data.drawn} wires can be drawn`);
  return rest.split(";").filter(Boolean).map((stage) => {
    const switches = stage.split(",").map((wires) => wires.split("-"));
    for (const wire of switches.flat()) {
      if (!/^\d+$/.test(wire) || Number(wire) >= width) throw unreadable(text, `"${wire}" is not one of ${width} wires`);
    }
    const numbers = switches.map((wires) => wires.map(Number));
    const seen = new Set();
    for (const wire of numbers.flat()) {
      if (seen.has(wire)) throw unreadable(text, `a stage joins wire ${wire} twice`);
      seen.add(wire);
    }
    return numbers;
  });
}

function unreadable(text, reason) {
  const error = `The address ends in ${text}: ${reason}; give a width and a spec, as in`
    + " #16:butterfly(block=4), or the wires of switches, as in #8=0-4,1-5;1-4";
  return new Refused({ error, widths: [] });
}
