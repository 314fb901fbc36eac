import { begun, changed, redone, undone } from "@/history";

test("undo and redo return to every value in turn", () => {
  const values = [0, 1, 2, 3, 4];
  let history = begun(0);
  for (const value of values.slice(1)) history = changed(history, value);
  for (const value of [3, 2, 1, 0, 0]) {
    history = undone(history);
    expect(history.present).toBe(value);
  }
  for (const value of [1, 2, 3, 4, 4]) {
    history = redone(history);
    expect(history.present).toBe(value);
  }
});

test("a change discards undone values and keeps earlier ones", () => {
  const before = undone(changed(changed(begun("a"), "b"), "c"));
  const after = changed(before, "d");
  expect(redone(after)).toBe(after);
  expect(undone(after).present).toBe("b");
  expect(before.future).toEqual(["c"]); // histories are immutable
});
