/** Where the wires and columns of a grid graph are drawn. */

export const MARGIN = { top: 44, right: 48, bottom: 10 };
const TOOLS = 20; // the height of the row of buttons of a drawing

export interface Layout {
  left: number;
  size: [number, number];
  step: [number, number];
  top: number;
  x(column: number): number;
  y(wire: number): number;
}

export interface Measured {
  width: number;
  columns: number; // stages
  room: number; // pixels
  longest: number; // letters of a label
  hasTools: boolean;
}

export function layout({ width, columns, room, longest, hasTools }: Measured): Layout {
  const left = 30 + Math.min(7 * longest, 90);
  const free = room - left - MARGIN.right;
  const across = Math.min(Math.max(free / Math.max(columns, 1), 34), 230);
  const down = width <= 8 ? 38 : width <= 16 ? 29 : width <= 32 ? 20 : width <= 64 ? 14 : 9;
  const top = MARGIN.top + 7 + (hasTools ? TOOLS : 0);
  return {
    left,
    top,
    step: [across, down],
    size: [
      Math.ceil(left + MARGIN.right + across * columns),
      top + MARGIN.bottom + down * (width - 1) + 7,
    ],
    x: (column) => left + column * across,
    y: (wire) => top + wire * down,
  };
}
