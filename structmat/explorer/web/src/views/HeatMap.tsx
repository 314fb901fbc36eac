import { useEffect, useRef, useState } from "preact/hooks";
import { colour, scheme } from "@/views/colours";
import { useIds } from "@/views/context";
import { useRoom } from "@/views/room";

const BARS = 84; // pixels for the energies
const GAP = 10;
const LARGEST = 560;

interface Props {
  entries: Float64Array;
  width: number;
  input: number;
  shares: Float64Array;
  choose(input: number): void;
  name: string;
}

/** A matrix on a canvas, and beside its rows the energies of one column. */
export function HeatMap({ entries, width, input, shares, choose, name }: Props) {
  const home = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const room = useRoom(home);
  const id = useIds();
  const [pointed, setPointed] = useState<[number, number] | null>(null);
  const side = Math.max(Math.min(room - BARS - GAP, LARGEST), 0);
  const version = scheme.value;

  useEffect(() => {
    if (canvas.current && side) paint(canvas.current, entries, width, version);
  }, [entries, width, side, version]);

  const cell = side / width;
  const place = (event: PointerEvent): [number, number] => {
    const box = canvas.current!.getBoundingClientRect();
    const at = (from: number, start: number) =>
      Math.min(Math.max(Math.floor(((from - start) / box.width) * width), 0), width - 1);
    return [at(event.clientY, box.top), at(event.clientX, box.left)];
  };
  const largest = Math.max(...shares);
  const [i, j] = pointed ?? [0, 0];
  return (
    <div class="heat" ref={home}>
      {side > 0 && (
        <>
          <div class="heat-row">
            <div class="heat-frame">
              <canvas
                data-picture
                id={id(name)}
                ref={canvas}
                role="img"
                aria-label={`The matrix, ${width} rows and ${width} columns; column ${input} is marked`}
                width={width}
                height={width}
                style={{ width: `${side}px`, height: `${side}px` }}
                onPointerMove={(event) => setPointed(place(event))}
                onPointerLeave={() => setPointed(null)}
                onClick={(event) => choose(place(event as unknown as PointerEvent)[1])}
              />
              <span
                class="column-mark"
                style={{ left: `${input * cell}px`, width: `${cell}px`, height: `${side}px` }}
              />
            </div>
            <svg class="bars" width={BARS} height={side} aria-hidden="true">
              {Array.from(shares, (share, wire) => (
                <rect
                  key={wire}
                  y={wire * cell + cell * 0.1}
                  width={largest ? (share / largest) * BARS : 0}
                  height={cell * 0.8}
                />
              ))}
            </svg>
          </div>
          <div class="key">
            <span>−1</span>
            <span class="ramp" />
            <span>1</span>
            <span class="entry">
              {pointed
                ? `row ${i}, column ${j}: ${entries[i * width + j]!.toFixed(4)}`
                : "rows are outputs, columns are inputs; bars show energies"}
            </span>
          </div>
        </>
      )}
    </div>
  );
}

/** Paint entries from -1 to 1; square roots make small ones visible. */
function paint(canvas: HTMLCanvasElement, entries: Float64Array, width: number, _: number): void {
  const context = canvas.getContext("2d")!;
  const [low, middle, high] = ["--low", "--middle", "--high"].map((name) =>
    colour(canvas.parentElement!, name),
  ) as [number, number, number][];
  const image = context.createImageData(width, width);
  entries.forEach((entry, k) => {
    const weight = Math.min(Math.sqrt(Math.abs(entry)), 1);
    const end = entry < 0 ? low! : high!;
    for (let c = 0; c < 3; c += 1) {
      image.data[4 * k + c] = middle![c]! + weight * (end[c]! - middle![c]!);
    }
    image.data[4 * k + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}
