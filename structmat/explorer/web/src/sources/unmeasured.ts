import type { Network } from "@/types";

/** Return a drawn network with the properties that the page itself can compute. */
export function unmeasured(width: number, stages: number[][][], reason: string): Network {
  const lines = stages.map((stage) => `    ${JSON.stringify(stage).replaceAll(",", ", ")},\n`);
  const made = stages.length
    ? `sm.Network.of(${width}, [\n${lines.join("")}])`
    : `sm.Network(${width})`;
  const switches = stages.flat();
  const nonzeros = stages.map(
    (stage) => width + stage.reduce((sum, { length: r }) => sum + r * r - r, 0),
  );
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
    reached: null,
    bounds: [],
    cost: null,
    parameters: switches.reduce((sum, { length: r }) => sum + (r * (r - 1)) / 2, 0),
    nonzeros: nonzeros.reduce((sum, count) => sum + count, 0),
    free_edges: switches.reduce((sum, { length: r }) => sum + r * r - r, 0),
    dense: null,
    dense_depth: null,
    why_not_dense: null,
    unmeasured: reason,
  };
}
