import { influencedBy } from "@/mathematics/spreading";
import type { Stage, Switch } from "@/types";
import type { Layout } from "@/views/layout";
import { memo } from "@/views/memo";

interface Props {
  width: number;
  stages: Stage[];
  open: boolean;
  shape: Layout;
}

/** The edges of all stages: dotted outside of switches, coloured within. */
export const Edges = memo(({ width, stages, open, shape }: Props) => {
  const thickness = Math.max(open ? 1.2 : 0.6, 1.8 - width / 48);
  return (
    <g stroke-width={thickness}>
      {stages.map((stage, t) => (
        <g key={t}>
          <path class="edge bare" d={lines(shape, t, bare(stage, width))} />
          {stage.switches.map((one, k) => (
            <path
              key={k}
              class="edge switch"
              style={{ stroke: `var(--switch-${k % 6})` }}
              d={lines(shape, t, complete(one))}
            />
          ))}
        </g>
      ))}
    </g>
  );
});

/** Return the edges of a switch. */
export const complete = ([reads, writes]: Switch): [number, number][] =>
  reads.flatMap((from) => (writes ?? reads).map((to) => [from, to] as [number, number]));

/** Return the edges of a stage outside of its switches. */
export function bare(stage: Stage, width: number): [number, number][] {
  const switched = new Set(stage.switches.flatMap(([reads]) => reads));
  return influencedBy(stage, width).flatMap((targets, wire) =>
    switched.has(wire) ? [] : [[wire, targets[0]!] as [number, number]],
  );
}

/** Return a path of edges, or of their first part, from left or right. */
export function lines(
  { x, y }: Layout,
  t: number,
  edges: [number, number][],
  part = 1,
  isBackwards = false,
): string {
  const [start, stop] = isBackwards ? [x(t + 1), x(t)] : [x(t), x(t + 1)];
  const end = start + part * (stop - start);
  const path = edges.map(([from, to]) => {
    const [y0, y1] = isBackwards ? [y(to), y(from)] : [y(from), y(to)];
    return `M${start.toFixed(1)} ${y0}L${end.toFixed(1)} ${+(y0 + part * (y1 - y0)).toFixed(1)}`;
  });
  return path.join("");
}

interface NameProps extends Props {
  labels: string[] | null;
}

/** The names of wires and stages. */
export const Names = memo(({ labels, width, stages, open, shape }: NameProps) => {
  const every = width > 64 ? 8 : width > 32 ? 4 : width > 16 ? 2 : 1;
  const wires = Array.from({ length: Math.ceil(width / every) }, (_, k) => k * every);
  const shown = Math.ceil(30 / shape.step[0]);
  return (
    <g>
      {wires.map((wire) => {
        const name = labels?.[wire] ?? `${wire}`;
        const short = name.length > 12 ? `${name.slice(0, 11)}…` : name;
        return (
          <g key={wire}>
            <text class="name" x={shape.left - 16} y={shape.y(wire) + 4} text-anchor="end">
              {short}
            </text>
            <text class="name" x={shape.x(stages.length) + 16} y={shape.y(wire) + 4}>
              {short.length > 4 ? "" : short}
            </text>
          </g>
        );
      })}
      {stages.map((_, t) =>
        t % shown ? null : (
          <text key={t} class="stage" x={(shape.x(t) + shape.x(t + 1)) / 2} y={34}>
            {open && t === stages.length - 1 ? "next" : `B${t + 1}`}
          </text>
        ),
      )}
    </g>
  );
});
