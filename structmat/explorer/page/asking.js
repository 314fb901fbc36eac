// Answers: from the library through the server, or from the data of a saved page.

const data = JSON.parse(byId("data").textContent);

/** An error from the library: its message, and valid widths. */
class Refused extends Error {
  constructor(answer) {
    super(answer.error);
    this.widths = answer.widths;
  }
}

/** A question without an answer. */
class Lost extends Refused {
  constructor() {
    super({ error: "The server does not answer; start structmat explore again.", widths: [] });
  }
}

const page = `${Math.random()}`; // a new question cancels only the previous one of the same page

const served = {
  async network(question) {
    try {
      return await posted("/api/network", question);
    } catch (error) {
      if (error instanceof Lost && question.stages) return unmeasured(question, error.message);
      throw error;
    }
  },
  dimension: (question) => posted("/api/dimension", { ...question, page }),
  atlas: (width) => posted("/api/atlas", { width }),
};

async function posted(path, question) {
  let answer;
  try {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(question),
    });
    answer = await response.json();
  } catch {
    throw new Lost();
  }
  if (answer?.error !== undefined) throw new Refused(answer);
  return answer;
}

const kept = {
  async network(question) {
    if (question.stages) return unmeasured(question, "This page was saved.");
    const found = data.saved.find((one) => one.spec === question.spec && one.width === question.width);
    if (!found) {
      const error = `${question.spec} at width ${question.width} is not in this page;`
        + " structmat explore can show other networks";
      throw new Refused({ error, widths: [] });
    }
    return found;
  },
  async dimension(question) {
    return question.stages ? null : (await kept.network(question)).dimension;
  },
  atlas: async (width) => data.atlas[width] ?? [],
};

/** Return a drawn network with the properties that the page itself can compute. */
function unmeasured({ width, stages }, reason) {
  const lines = stages.map((stage) => `    ${JSON.stringify(stage).replaceAll(",", ", ")},\n`);
  const made = stages.length ? `sm.Network.of(${width}, [\n${lines.join("")}])` : `sm.Network(${width})`;
  return {
    spec: null,
    form: null,
    code: `import structmat as sm\n\nnet = ${made}`,
    widths: [],
    stages: stages.map((stage) => ({ switches: stage.map((wires) => [wires]), moves: [] })),
    labels: null,
    straight: true,
    width,
    depth: stages.length,
    unmeasured: reason,
  };
}

const library = data.saved ? kept : served;
