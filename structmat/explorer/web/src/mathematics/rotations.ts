/** Blocks of switches from angles, and the matrix of a network, in float64. */

import type { Network, Stage, Switch } from "@/types";

/** The angles of a network: for each stage, for each of its switches, r(r-1)/2 numbers. */
export type Angles = number[][][];

export const countAngles = (radix: number): number => (radix * (radix - 1)) / 2;

/** Return the planes (i, j) of the angles of a block, in lexicographic order. */
export function planes(radix: number): [number, number][] {
  const found: [number, number][] = [];
  for (let i = 0; i < radix; i += 1) for (let j = i + 1; j < radix; j += 1) found.push([i, j]);
  return found;
}

/**
 * Return the block of a switch in row-major order, as `structmat.linalg.blocks.givens`: the product
 * of rotations in the planes (i, j), the first plane leftmost.
 */
export function givens(angles: readonly number[], radix: number): Float64Array {
  const block = new Float64Array(radix * radix);
  for (let k = 0; k < radix; k += 1) block[k * radix + k] = 1;
  let place = countAngles(radix);
  for (let i = radix - 1; i >= 0; i -= 1) {
    for (let j = radix - 1; j > i; j -= 1) {
      place -= 1;
      const [c, s] = [Math.cos(angles[place]!), Math.sin(angles[place]!)];
      for (let k = 0; k < radix; k += 1) {
        const [x, y] = [block[i * radix + k]!, block[j * radix + k]!];
        block[i * radix + k] = c * x + s * y;
        block[j * radix + k] = c * y - s * x;
      }
    }
  }
  return block;
}

/** Return the matrix of a network in row-major order, width x width. */
export function matrix(stages: readonly Stage[], angles: Angles, width: number): Float64Array {
  let rows: Float64Array[] = Array.from({ length: width }, (_, wire) => {
    const row = new Float64Array(width);
    row[wire] = 1;
    return row;
  });
  stages.forEach((stage, t) => {
    rows = applied(stage, angles[t]!, rows, width);
  });
  const found = new Float64Array(width * width);
  rows.forEach((row, wire) => {
    found.set(row, wire * width);
  });
  return found;
}

function applied(stage: Stage, angles: number[][], rows: Float64Array[], width: number) {
  const after = [...rows];
  for (const [from, to] of stage.moves) after[to] = rows[from]!;
  stage.switches.forEach((one, k) => {
    const [reads, writes] = [one[0], one[1] ?? one[0]];
    const block = givens(angles[k]!, reads.length);
    writes.forEach((to, a) => {
      const row = new Float64Array(width);
      reads.forEach((from, b) => {
        const factor = block[a * reads.length + b]!;
        if (factor === 0) return;
        const source = rows[from]!;
        for (let j = 0; j < width; j += 1) row[j]! += factor * source[j]!;
      });
      after[to] = row;
    });
  });
  return after;
}

/** Return the energy |R_ij|² of each output i for a unit vector on input j. */
export function energies(entries: Float64Array, width: number, input: number): Float64Array {
  return Float64Array.from({ length: width }, (_, i) => entries[i * width + input]! ** 2);
}

/** Return angles for a network from a rule that is called for each angle. */
export function anglesBy(net: Network, rule: (radix: number, plane: number) => number): Angles {
  return (net.stages ?? []).map((stage) =>
    stage.switches.map(([reads]) =>
      Array.from({ length: countAngles(reads.length) }, (_, k) => rule(reads.length, k)),
    ),
  );
}

/** Return independent uniform angles in (-π, π), the same for the same seed. */
export function randomAngles(net: Network, seed: number): Angles {
  let state = seed >>> 0;
  const uniform = () => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
  return anglesBy(net, () => (2 * uniform() - 1) * Math.PI);
}

/**
 * Return angles for which `givens` returns a given rotation.
 *
 * In the first column of the product of rotations in the planes (0, j), row r-1 is minus the sine
 * of the angle of (0, r-1), row r-2 is minus the sine of the angle of (0, r-2) times the cosine of
 * that of (0, r-1), and so on.
 */
export function anglesOf(block: ArrayLike<number>, radix: number): number[] {
  const rest = Float64Array.from(block);
  const found: number[] = [];
  for (let i = 0; i < radix - 1; i += 1) {
    const row: number[] = [];
    for (let j = radix - 1; j > i; j -= 1) {
      let left = 0; // the squared norm of rows i to j - 1 of column i
      for (let k = i; k < j; k += 1) left += rest[k * radix + i]! ** 2;
      const [y, x] = [-rest[j * radix + i]!, Math.sqrt(left)];
      row.unshift(j === i + 1 ? Math.atan2(y, rest[i * radix + i]!) : Math.atan2(y, x));
    }
    found.push(...row);
    for (let j = i + 1; j < radix; j += 1) {
      const [c, s] = [Math.cos(row[j - i - 1]!), Math.sin(row[j - i - 1]!)];
      for (let k = 0; k < radix; k += 1) {
        const [x, y] = [rest[i * radix + k]!, rest[j * radix + k]!];
        rest[i * radix + k] = c * x - s * y;
        rest[j * radix + k] = c * y + s * x;
      }
    }
  }
  return found;
}

/**
 * Return angles that spread energy evenly: the blocks are normalised Hadamard matrices where the
 * radix is a power of two; switches of other radices spread only their first input evenly.
 */
export function evenAngles(net: Network): Angles {
  const known = new Map<number, number[]>();
  return anglesBy(net, (radix, plane) => {
    if (!known.has(radix)) known.set(radix, even(radix));
    return known.get(radix)![plane]!;
  });
}

function even(radix: number): number[] {
  if (radix & (radix - 1)) {
    return planes(radix).map(([i, j]) => (i ? 0 : -Math.atan(1 / Math.sqrt(j))));
  }
  const size = Math.sqrt(radix);
  const block = new Float64Array(radix * radix);
  for (let i = 0; i < radix; i += 1) {
    for (let j = 0; j < radix; j += 1) block[i * radix + j] = (odd(i & j) ? -1 : 1) / size;
  }
  // Sylvester's matrix has determinant -1 for radix 2 only, up to scale
  if (radix === 2) for (let j = 0; j < 2; j += 1) block[2 + j]! *= -1;
  return anglesOf(block, radix);
}

function odd(bits: number): boolean {
  let [rest, parity] = [bits, 0];
  for (; rest; rest &= rest - 1) parity ^= 1;
  return parity === 1;
}

export const nameOf = (one: Switch): string => one[0].join(", ");
