import { inWords, spreader } from "@/mathematics/spreading";
import type { Stage } from "@/types";

const stages: Stage[] = [
  { switches: [[[0, 1]], [[2, 3]]], moves: [] },
  { switches: [[[1, 3], [3, 1]]], moves: [[0, 2], [2, 0]] }, // biome-ignore format: two wirings
];

test("a wire influences the wires that its switches write", () => {
  const columns = spreader(stages, 4)({ column: 0, wire: 0 });
  expect(columns.map((set) => [...set].sort())).toEqual([[0], [0, 1], [1, 2, 3]]);
});

test("a wire depends on the wires that its switches read", () => {
  const columns = spreader(stages, 4)({ column: 2, wire: 0 });
  expect(columns.map((set) => [...set].sort())).toEqual([[2, 3], [2], [0]]);
});

test("the sentence counts the wires of every column", () => {
  const columns = spreader(stages, 4)({ column: 0, wire: 0 });
  expect(inWords(columns, 4, 0, "0")).toBe(
    "Input 0 influences 3 of 4 outputs; after each stage: 2, 3.",
  );
  expect(inWords(spreader(stages, 4)({ column: 1, wire: 1 }), 4, 1, "1")).toBe(
    "Wire 1 after stage 1 depends on 2 of 4 inputs and influences 2 of 4 outputs.",
  );
});
