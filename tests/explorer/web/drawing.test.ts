import { choose, type Drawing, drag, filled, inserted, removed, resized } from "@/drawing";

const empty: Drawing = { width: 8, stages: [] };
const two: Drawing = {
  width: 8,
  stages: [
    [
      [0, 4],
      [1, 5],
    ],
    [[1, 4]],
  ],
};

test("wires are selected until a switch is complete", () => {
  const first = choose(empty, 0, 4, 3, null);
  expect(first).toMatchObject({ drawing: null, selected: { stage: 0, wires: [4] } });
  const second = choose(empty, 0, 0, 3, first.selected);
  const third = choose(empty, 0, 2, 3, second.selected);
  expect(third.drawing?.stages).toEqual([[[0, 2, 4]]]);
  expect(third.selected).toBeNull();
});

test("a selected wire is deselected, and a joined one loses its switch", () => {
  const { selected } = choose(empty, 0, 4, 2, null);
  expect(choose(empty, 0, 4, 2, selected).selected?.wires).toEqual([]);
  expect(choose(two, 0, 1, 2, null).drawing?.stages).toEqual([[[0, 4]], [[1, 4]]]);
});

test("the last column belongs to the next stage", () => {
  const wires = { stage: 2, wires: [6] };
  for (const column of [2, 3]) {
    expect(choose(two, column, 7, 2, wires).drawing?.stages.at(-1)).toEqual([[6, 7]]);
  }
});

test("dragging joins free wires and whole switches", () => {
  const at = (column: number, wire: number) => ({ column, wire });
  expect(drag(empty, at(0, 3), at(0, 1)).drawing?.stages).toEqual([[[1, 3]]]);
  expect(drag(two, at(0, 2), at(1, 3)).drawing?.stages[0]).toEqual([
    [0, 4],
    [1, 5],
    [2, 3],
  ]);
  expect(drag(two, at(0, 0), at(0, 5)).drawing?.stages[0]).toEqual([[0, 1, 4, 5]]);
  expect(drag(two, at(1, 2), at(0, 4)).drawing?.stages[0]).toEqual([
    [1, 5],
    [0, 2, 4],
  ]);
});

test("dragging within a switch takes a wire out", () => {
  const wide: Drawing = { width: 8, stages: [[[0, 1, 2]]] };
  const once = drag(wide, { column: 0, wire: 1 }, { column: 1, wire: 2 });
  expect(once.drawing?.stages).toEqual([[[0, 2]]]);
  const again = drag(once.drawing!, { column: 0, wire: 0 }, { column: 0, wire: 2 });
  expect(again.drawing?.stages).toEqual([]);
});

test("dragging to the same wire or over a stage changes nothing", () => {
  const from = { column: 0, wire: 0 };
  expect(drag(two, from, { column: 1, wire: 0 }).drawing).toBeNull();
  expect(drag(two, from, { column: 2, wire: 1 }).drawing).toBeNull();
});

test("a stage is inserted anywhere, and only one is empty", () => {
  for (const t of [0, 1]) {
    const { drawing } = inserted(two, t);
    expect(drawing?.stages).toEqual(two.stages.toSpliced(t, 0, []));
    expect(filled(drawing!.stages)).toEqual(two.stages);
    const elsewhere = choose(drawing!, t === 0 ? 2 : 0, 6, 2, null);
    expect(elsewhere.drawing?.stages).toEqual(two.stages);
  }
});

test("a stage is removed, and a smaller width drops switches", () => {
  expect(removed(two, 0).drawing?.stages).toEqual([[[1, 4]]]);
  expect(resized(two, 5)).toEqual({
    drawing: { width: 5, stages: [[[0, 4]], [[1, 4]]] },
    dropped: 1,
  });
});
