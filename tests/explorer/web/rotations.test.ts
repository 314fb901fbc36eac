import {
  anglesOf,
  countAngles,
  energies,
  evenAngles,
  givens,
  matrix,
  planes,
  randomAngles,
} from "@/mathematics/rotations";
import { unmeasured } from "@/sources/unmeasured";
import type { Stage } from "@/types";
import file from "./rotations.json";

interface Recorded {
  width: number;
  stages: Stage[];
  angles: number[][][];
  matrix: number[][];
}

// Written by the library, with which tests/explorer/test_matrix.py compares it.
const recorded = file as unknown as Recorded[];

test.each(recorded)("the matrix of network $# is that of the library", (one) => {
  const found = matrix(one.stages, one.angles, one.width);
  one.matrix.flat().forEach((entry, k) => {
    expect(found[k]).toBeCloseTo(entry, 13);
  });
});

test.each([2, 3, 4, 5, 8])("angles of a block of radix %i reproduce the block", (radix) => {
  const net = unmeasured(radix, [[Array.from({ length: radix }, (_, k) => k)]], "");
  for (let seed = 0; seed < 20; seed += 1) {
    const block = givens(randomAngles(net, seed)[0]![0]!, radix);
    const again = givens(anglesOf(block, radix), radix);
    again.forEach((entry, k) => {
      expect(entry).toBeCloseTo(block[k]!, 12);
    });
  }
});

test("there is one angle for each plane, in lexicographic order", () => {
  expect(planes(3)).toEqual([
    [0, 1],
    [0, 2],
    [1, 2],
  ]);
  expect([2, 3, 4, 8].map(countAngles)).toEqual([1, 3, 6, 28]);
});

test.each([2, 4, 8, 16])("even angles spread every input of radix %i evenly", (radix) => {
  const wires = Array.from({ length: radix }, (_, k) => k);
  const net = unmeasured(radix, [[wires]], "");
  const entries = matrix(net.stages!, evenAngles(net), radix);
  for (const input of wires) {
    energies(entries, radix, input).forEach((energy) => {
      expect(energy).toBeCloseTo(1 / radix, 12);
    });
  }
});

test.each([3, 5, 6])("even angles spread the first input of radix %i evenly", (radix) => {
  const wires = Array.from({ length: radix }, (_, k) => k);
  const net = unmeasured(radix, [[wires]], "");
  const entries = matrix(net.stages!, evenAngles(net), radix);
  energies(entries, radix, 0).forEach((energy) => {
    expect(energy).toBeCloseTo(1 / radix, 12);
  });
});

test("random angles depend on the seed only", () => {
  const net = unmeasured(4, [[[0, 1, 2, 3]]], "");
  expect(randomAngles(net, 1)).toEqual(randomAngles(net, 1));
  expect(randomAngles(net, 1)).not.toEqual(randomAngles(net, 2));
});
