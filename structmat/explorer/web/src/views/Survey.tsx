import { axisBottom, axisLeft } from "d3-axis";
import { scaleLinear, scaleSymlog } from "d3-scale";
import { select } from "d3-selection";
import { symbol, symbolsFill } from "d3-shape";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { written } from "@/address";
import { AXES, type Axis, numberOf } from "@/mathematics/axes";
import { counted } from "@/text";
import type { SurveyRow } from "@/types";
import { useIds, useStore } from "@/views/context";
import { useRoom } from "@/views/room";

const MARGIN = { top: 16, right: 22, bottom: 48, left: 64 };
const HEIGHT = 460;

/** All families at a width as points; each is a link to its network. */
export function Survey() {
  const { net, survey } = useStore();
  const id = useIds();
  const [across, setAcross] = useState("parameters");
  const [up, setUp] = useState("dimension");
  const found = survey.value;
  const width = net.value?.width ?? 0;
  const isWaiting = !found || found.width !== width || found.next !== null;
  if (!found || found.width !== width || (isWaiting && !found.rows.length)) {
    return <p class="hint" role="status">{`Measuring all families at width ${width}…`}</p>;
  }
  if (!found.rows.length) {
    const why = found.error || "This page was saved without a survey of this width.";
    return <p class="hint">{why}</p>;
  }
  const [x, y] = [axisOf(across), axisOf(up)];
  const rows = found.rows.filter((row) => numberOf(row, x) !== null && numberOf(row, y) !== null);
  const missing = found.rows.length - rows.length;
  return (
    <div class="survey">
      <div class="axes">
        <AxisField id={id("axis-x")} label="Horizontal axis" value={across} change={setAcross} />
        <AxisField id={id("axis-y")} label="Vertical axis" value={up} change={setUp} />
      </div>
      <Scatter rows={rows} x={x} y={y} width={width} />
      <p class="hint" role="status">
        {`${counted(rows.length, "network")} of width ${width}; hollow points are networks not known to be dense. Points that would coincide are drawn next to each other.`}
        {missing > 0 &&
          ` Not shown, for lack of one of these numbers: ${counted(missing, "network")}.`}
        {isWaiting && " Others are being measured…"}
        {found.error && ` ${found.error}`}
      </p>
      {found.refused.length > 0 && (
        <details class="refused">
          <summary>
            {`${counted(found.refused.length, "family", "families")} without a network of this width`}
          </summary>
          <ul>
            {found.refused.map(({ family, reason }) => (
              <li key={`${family} ${reason}`}>{reason}</li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}

const axisOf = (name: string): Axis => AXES.find((axis) => axis.name === name)!;

interface FieldProps {
  id: string;
  label: string;
  value: string;
  change(value: string): void;
}

function AxisField({ id, label, value, change }: FieldProps) {
  return (
    <label for={id}>
      <span>{label}</span>
      <select id={id} value={value} onChange={(event) => change(event.currentTarget.value)}>
        {AXES.map((axis) => (
          <option key={axis.name} value={axis.name}>
            {axis.title}
          </option>
        ))}
      </select>
    </label>
  );
}

interface ScatterProps {
  rows: SurveyRow[];
  x: Axis;
  y: Axis;
  width: number;
}

function Scatter({ rows, x, y, width }: ScatterProps) {
  const { net, place, setView, show } = useStore();
  const home = useRef<HTMLDivElement>(null);
  const axes = useRef<SVGGElement>(null);
  const [pointed, setPointed] = useState<SurveyRow | null>(null);
  const room = useRoom(home);
  const inner = [
    Math.max(room - MARGIN.left - MARGIN.right, 10),
    HEIGHT - MARGIN.top - MARGIN.bottom,
  ] as const;
  const right = scaleOf(rows, x, [0, inner[0]]);
  const up = scaleOf(rows, y, [inner[1], 0]);
  useLayoutEffect(() => {
    if (!axes.current) return;
    const ticks = Math.max(Math.floor(inner[0] / 80), 2);
    const home = select(axes.current);
    home.select<SVGGElement>(".across").call(
      axisBottom(right)
        .ticks(ticks)
        .tickFormat((value) => x.format(+value)),
    );
    home.select<SVGGElement>(".up").call(
      axisLeft(up)
        .ticks(6)
        .tickFormat((value) => y.format(+value)),
    );
  });
  const kins = [...new Set(rows.map(({ kin }) => kin))];
  const points = apart(
    rows
      .map((row) => ({ row, cx: right(numberOf(row, x)!), cy: up(numberOf(row, y)!) }))
      .sort((a, b) => a.cx - b.cx),
  );
  const isShown = (row: SurveyRow) => row.spec === net.value?.spec;
  return (
    <div class="scatter" ref={home}>
      {room > 0 && (
        <svg
          data-picture
          width={room}
          height={HEIGHT}
          role="group"
          aria-label={`Families of width ${width}: ${y.title} by ${x.title}`}
        >
          <g transform={`translate(${MARGIN.left} ${MARGIN.top})`}>
            <g ref={axes}>
              <g class="across" transform={`translate(0 ${inner[1]})`} />
              <g class="up" />
              <text class="name" x={inner[0]} y={inner[1] + 40} text-anchor="end">
                {x.title}
              </text>
              <text class="name" x={-MARGIN.left + 6} y={-4}>
                {y.title}
              </text>
            </g>
            {points.map(({ row, cx, cy }) => (
              <a
                key={row.spec}
                class={`point${isShown(row) ? " shown" : ""}${row.dense ? "" : " hollow"}`}
                href={written({
                  question: { spec: row.spec, width },
                  second: null,
                  view: "network",
                })}
                aria-label={`${row.spec}: ${x.title} ${x.format(numberOf(row, x)!)}, ${y.title} ${y.format(numberOf(row, y)!)}`}
                onClick={(event) => {
                  if (place.link() !== null) return; // a page follows the link
                  event.preventDefault();
                  setView("network");
                  void show({ spec: row.spec, width });
                }}
                onPointerEnter={() => setPointed(row)}
                onPointerLeave={() => setPointed(null)}
                onFocus={() => setPointed(row)}
                onBlur={() => setPointed(null)}
              >
                <circle class="hit" cx={cx} cy={cy} r={12} />
                <path
                  d={symbol(symbolsFill[kins.indexOf(row.kin) % symbolsFill.length], 110)() ?? ""}
                  transform={`translate(${cx} ${cy})`}
                  style={{ "--own": `var(--switch-${kins.indexOf(row.kin) % 6})` }}
                />
              </a>
            ))}
          </g>
          {pointed && (
            <Tip
              row={pointed}
              x={x}
              y={y}
              place={[right(numberOf(pointed, x)!), up(numberOf(pointed, y)!)]}
              room={room}
            />
          )}
        </svg>
      )}
      <ul class="legend">
        {kins.map((kin, k) => (
          <li key={kin}>
            <svg width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">
              <path
                d={symbol(symbolsFill[k % symbolsFill.length], 70)() ?? ""}
                style={{ fill: `var(--switch-${k % 6})` }}
              />
            </svg>
            {kin}
          </li>
        ))}
      </ul>
    </div>
  );
}

interface TipProps {
  row: SurveyRow;
  x: Axis;
  y: Axis;
  place: [number, number];
  room: number;
}

function Tip({ row, x, y, place, room }: TipProps) {
  const isLeft = place[0] > room / 2;
  const at = [MARGIN.left + place[0] + (isLeft ? -14 : 14), MARGIN.top + place[1]] as const;
  const lines = [
    row.spec,
    `${x.title} ${x.format(numberOf(row, x)!)}`,
    `${y.title} ${y.format(numberOf(row, y)!)}`,
  ];
  return (
    <text class="tip" x={at[0]} y={Math.max(at[1] - 16, 14)} text-anchor={isLeft ? "end" : "start"}>
      {lines.map((line, k) => (
        <tspan key={k} x={at[0]} dy={k ? 16 : 0}>
          {line}
        </tspan>
      ))}
    </text>
  );
}

const NEAR = 13; // pixels between points

/** Return points of which none hides another: those at one place are moved apart. */
function apart<T extends { cx: number; cy: number }>(points: T[]): T[] {
  const placed: T[] = [];
  const isFree = (cx: number, cy: number) =>
    placed.every((other) => Math.hypot(other.cx - cx, other.cy - cy) >= NEAR);
  for (const point of points) {
    let [cx, cy] = [point.cx, point.cy];
    for (let k = 0; !isFree(cx, cy); k += 1) {
      const [angle, radius] = [2.4 * k, (NEAR / 2) * Math.sqrt(k)]; // a sunflower
      cx = point.cx + radius * Math.cos(angle);
      cy = point.cy + radius * Math.sin(angle);
    }
    placed.push({ ...point, cx, cy });
  }
  return placed;
}

function scaleOf(rows: SurveyRow[], axis: Axis, range: [number, number]) {
  const values = rows.map((row) => numberOf(row, axis)!);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low || Math.abs(high) || 1) * 0.04;
  const isWide = axis.isLogarithmic && low >= 0 && high > 50 * Math.max(low, high * 1e-6);
  if (isWide) {
    return scaleSymlog()
      .constant(Math.max(low, high * 1e-3))
      .domain([low * 0.9, high * 1.1])
      .range(range);
  }
  return scaleLinear()
    .domain([Math.min(low, high) - pad, high + pad])
    .range(range)
    .nice();
}
