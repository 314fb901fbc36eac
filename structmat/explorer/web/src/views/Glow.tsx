import type { ReadonlySignal } from "@preact/signals";
import type { Place } from "@/mathematics/spreading";
import type { Stage } from "@/types";
import { useStore } from "@/views/context";
import { bare, complete, lines } from "@/views/Edges";
import type { Layout } from "@/views/layout";

interface Props {
  at: ReadonlySignal<Place | null>;
  spread(place: Place): Set<number>[];
  stages: Stage[];
  width: number;
  shape: Layout;
}

/** The highlighted edges, up to the frame of the animation, and the number of wires reached. */
export function Glow({ at, spread, stages, width, shape }: Props) {
  const { playing } = useStore();
  const frame = playing.frame.value;
  const place = at.value;
  if (!place || place.column > stages.length || place.wire >= width) return null;
  const columns = spread(place);
  const end = frame ?? stages.length;
  const every = Math.ceil(34 / shape.step[0]); // columns per number
  const distance = (t: number) => Math.abs(t - place.column);
  return (
    <>
      <g class={frame === null ? "glow" : "glow moving"}>
        {stages.map((stage, t) => {
          const isBackwards = t < place.column;
          const after = isBackwards ? place.column - t - 1 : t - place.column;
          const part = Math.min(end - after, 1);
          if (part <= 0) return null;
          const carried = ([from, to]: [number, number]) =>
            columns[t]!.has(from) && columns[t + 1]!.has(to);
          const path = (edges: [number, number][], colour: string, key: number) => {
            const found = edges.filter(carried);
            if (!found.length) return null;
            return (
              <path
                key={key}
                class="lit"
                style={{ stroke: colour, "--after": `${after}` }}
                d={lines(shape, t, found, part, isBackwards)}
              />
            );
          };
          return (
            <g key={t}>
              {path(bare(stage, width), "var(--wire)", -1)}
              {stage.switches.map((one, k) => path(complete(one), `var(--switch-${k % 6})`, k))}
            </g>
          );
        })}
      </g>
      <g>
        {columns.map((set, t) =>
          distance(t) > end || (t % every && t !== columns.length - 1) ? null : (
            <text key={t} class="count" x={shape.x(t)} y={16}>
              {set.size}
            </text>
          ),
        )}
      </g>
    </>
  );
}
