import { columnsOf } from "@/mathematics/permuting";
import type { Step } from "@/types";

const steps: Step[] = [
  { kind: "gather", text: "gather", order: [2, 0, 1] },
  { kind: "blocks", text: "multiply", stage: 0, start: 0, radix: 2, count: 1 },
  { kind: "gather", text: "gather", order: [1, 2, 0] },
];

test("wires keep their origin through all permutations", () => {
  const columns = columnsOf(steps, 3);
  expect(columns[0]?.links.map(({ from, to }) => [from, to])).toEqual([
    [2, 0],
    [0, 1],
    [1, 2],
  ]);
  expect(columns[2]?.links.map(({ origin, to }) => [origin, to])).toEqual([
    [0, 0],
    [1, 1],
    [2, 2],
  ]);
  expect(columns[1]?.boxes).toEqual([[0, 2]]);
});

test("blocks of several radices of one stage are one product", () => {
  const mixed: Step[] = [
    { kind: "blocks", text: "a", stage: 0, start: 0, radix: 2, count: 2 },
    { kind: "blocks", text: "b", stage: 0, start: 4, radix: 3, count: 1 },
    { kind: "blocks", text: "c", stage: 1, start: 0, radix: 2, count: 1 },
  ];
  expect(columnsOf(mixed, 8).map((column) => column?.boxes)).toEqual([
    [
      [0, 2],
      [2, 2],
      [4, 3],
    ],
    [[0, 2]],
  ]);
});

test("a permutation that is not listed is not drawn", () => {
  expect(columnsOf([{ kind: "gather", text: "", order: null }], 200)).toEqual([null]);
});
