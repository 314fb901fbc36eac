import { read, written } from "@/address";

const DRAWN = 128;

test.each([
  "#16:butterfly(block=4)",
  "#8=0-4,1-5;1-4",
  "#8=",
  "#16:benes&8:omega",
  "#16:benes&8=0-1",
  "#16:benes&view=matrix",
  "#12:product(graphs=('cycle', 'complete'), sides=(4, 3))&8:omega&view=families",
])("%s is read and written unchanged", (hash) => {
  const address = read(hash, DRAWN);
  expect(decodeURIComponent(written(address!))).toBe(hash);
  expect(read(written(address!), DRAWN)).toEqual(address);
});

test("a drawing is read stage by stage", () => {
  expect(read("#8=0-4,1-5;1-4", DRAWN)?.question).toEqual({
    width: 8,
    stages: [
      [
        [0, 4],
        [1, 5],
      ],
      [[1, 4]],
    ],
  });
});

test("an empty address is null", () => {
  expect(read("", DRAWN)).toBeNull();
  expect(read("#", DRAWN)).toBeNull();
});

test.each([
  ["#100%", "no such network"],
  ["#butterfly", "no such network"],
  ["#8:", "no such network"],
  ["#8=0-9", '"9" is not one of 8 wires'],
  ["#8=0-x", '"x" is not one of 8 wires'],
  ["#8=0-1,1-2", "joins wire 1 twice"],
  ["#8=1-1", "joins wire 1 twice"],
  ["#129=0-1", "2 to 128 wires can be drawn"],
  ["#8:benes&nothing", "no such network"],
])("%s is refused: %s", (hash, reason) => {
  expect(() => read(hash, DRAWN)).toThrow(reason);
});
