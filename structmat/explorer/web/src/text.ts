/** Numbers as text. */

export const grouped = (number: number): string => number.toLocaleString("en-US");

export const counted = (number: number, one: string, many = `${one}s`): string =>
  `${grouped(number)} ${number === 1 ? one : many}`;

/** Return a fraction as a percentage, never rounded up to 100. */
export function percent(part: number, whole: number): string {
  if (part === whole) return "100%";
  return `${trimmed(Math.min((100 * part) / whole, 99.9).toPrecision(3))}%`;
}

/** Return a number with at most four significant digits. */
export function short(value: number): string {
  if (Number.isInteger(value)) return grouped(value);
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2);
  return trimmed(value.toPrecision(4));
}

/** Return a time in a unit that keeps it between 1 and 1,000. */
export function duration(seconds: number): string {
  if (seconds >= 1) return `${trimmed(seconds.toPrecision(3))} s`;
  if (seconds >= 1e-3) return `${trimmed((1e3 * seconds).toPrecision(3))} ms`;
  if (seconds >= 1e-6) return `${trimmed((1e6 * seconds).toPrecision(3))} µs`;
  return `${trimmed((1e9 * seconds).toPrecision(3))} ns`;
}

const trimmed = (text: string): string =>
  text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text;
