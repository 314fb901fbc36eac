import { counted, duration, percent, short } from "@/text";

test("a fraction below 1 is never rounded up to 100%", () => {
  expect([percent(1, 1), percent(9999, 10_000), percent(1, 3), percent(0, 4)]).toEqual([
    "100%",
    "99.9%",
    "33.3%",
    "0%",
  ]);
});

test("numbers are grouped, counted and shortened", () => {
  expect(counted(1, "wire")).toBe("1 wire");
  expect(counted(1024, "wire")).toBe("1,024 wires");
  expect([short(0.123456), short(12), short(1234.5678)]).toEqual(["0.1235", "12", "1235"]);
});

test("times have a suitable unit", () => {
  expect([2, 0.0125, 3e-6, 5e-10].map(duration)).toEqual(["2 s", "12.5 ms", "3 µs", "0.5 ns"]);
});
