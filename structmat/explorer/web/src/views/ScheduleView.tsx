import { linkHorizontal } from "d3-shape";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { type Column, columnsOf, type Link } from "@/mathematics/permuting";
import { Cost } from "@/views/Cost";
import { useIds, useStore } from "@/views/context";
import { useRoom } from "@/views/room";
import { Transport } from "@/views/Transport";

const TOP = 30;
const SIDE = 34;
const BOX = 18; // pixels of a block
const link = linkHorizontal<unknown, [number, number]>();

/** The schedule as moving wires: gathers permute them, and blocks multiply neighbouring ones. */
export function ScheduleView() {
  const { net, playing } = useStore();
  const id = useIds();
  const home = useRef<HTMLDivElement>(null);
  const room = useRoom(home);
  const one = net.value;
  const steps = one?.permutations ?? null;
  const width = one?.width ?? 0;
  const columns = useMemo(() => (steps ? columnsOf(steps, width) : []), [steps, width]);
  useEffect(() => {
    playing.length.value = columns.length;
  }, [playing, columns]);
  if (!one) return null;
  const canDraw = steps && columns.length && columns.every((column) => column !== null);
  const frame = playing.frame.value ?? columns.length;
  const now = Math.min(Math.floor(frame), columns.length - 1);
  return (
    <div class="schedule-view">
      <div class="graph" ref={home}>
        {canDraw && room > 0 && (
          <Wires columns={columns as Column[]} width={width} room={room} frame={frame} />
        )}
        {!canDraw && (
          <p class="hint">
            {one.reasons?.permutations ??
              "The moving wires are shown for networks of up to 128 wires; the steps are listed below."}
          </p>
        )}
      </div>
      {canDraw && <Transport hasWires unit="step" />}
      <p class="spreading" id={id("step")} role="status">
        {columns[now] && playing.frame.value !== null
          ? `Step ${now + 1} of ${columns.length}: ${columns[now].text}.`
          : "Each wire has the colour of the input at which it begins; boxes multiply by the blocks of switches."}
      </p>
      <Cost />
    </div>
  );
}

interface WiresProps {
  columns: Column[];
  width: number;
  room: number;
  frame: number;
}

function Wires({ columns, width, room, frame }: WiresProps) {
  const down = width <= 16 ? 26 : width <= 32 ? 18 : width <= 64 ? 11 : 7;
  const across = Math.min(Math.max((room - 2 * SIDE) / columns.length, 40), 220);
  const size = [2 * SIDE + across * columns.length, TOP + down * width + 8] as const;
  const y = (row: number) => TOP + row * down;
  const hue = (origin: number) => `hsl(${(300 * origin) / width} 62% var(--wire-light))`;
  return (
    <svg
      data-picture
      width={size[0]}
      height={size[1]}
      viewBox={`0 0 ${size.join(" ")}`}
      role="img"
      aria-label={`The schedule: ${columns.length} steps on ${width} wires`}
    >
      {columns.map((column, t) => {
        const x = SIDE + t * across;
        const faded = t > frame ? "later" : undefined;
        return (
          <g key={t} class={faded}>
            {column.links.map((one) => (
              <path
                key={one.origin}
                class={t === Math.floor(frame) ? "thread now" : "thread"}
                style={{ stroke: hue(one.origin) }}
                d={curve(one, x, across, y) ?? ""}
              />
            ))}
            {column.boxes.map(([start, radix], k) => (
              <rect
                key={k}
                class="box"
                x={x + across / 2 - BOX / 2}
                y={y(start) - down * 0.38}
                width={BOX}
                height={down * (radix - 0.24)}
                rx={5}
                style={{ fill: `var(--switch-${k % 6})` }}
              />
            ))}
            <text class="stage" x={x + across / 2} y={14}>
              {column.name}
            </text>
          </g>
        );
      })}
      {frame < columns.length && (
        <Beads columns={columns} frame={frame} x0={SIDE} across={across} y={y} hue={hue} />
      )}
    </svg>
  );
}

interface BeadsProps {
  columns: Column[];
  frame: number;
  x0: number;
  across: number;
  y(row: number): number;
  hue(origin: number): string;
}

/** A bead on every wire, at the frame of the animation. */
function Beads({ columns, frame, x0, across, y, hue }: BeadsProps) {
  const t = Math.floor(frame);
  const part = frame - t;
  const eased = part * part * (3 - 2 * part); // like the curves, whose ends are horizontal
  return (
    <g>
      {columns[t]?.links.map(({ origin, from, to }) => (
        <circle
          key={origin}
          class="bead"
          r={5}
          cx={x0 + (t + part) * across}
          cy={y(from) + eased * (y(to) - y(from))}
          style={{ fill: hue(origin) }}
        />
      ))}
    </g>
  );
}

function curve({ from, to }: Link, x: number, across: number, y: (row: number) => number) {
  if (from === to) return `M${x} ${y(from)}H${x + across}`;
  return link({ source: [x, y(from)], target: [x + across, y(to)] } as never);
}
