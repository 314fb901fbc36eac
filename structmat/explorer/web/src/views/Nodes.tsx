import type { Selection } from "@/drawing";
import type { Place } from "@/mathematics/spreading";
import type { Stage } from "@/types";
import type { Layout } from "@/views/layout";
import { memo } from "@/views/memo";

interface Props {
  width: number;
  stages: Stage[];
  labels: string[] | null;
  open: boolean;
  selected: Selection | null;
  here: Place;
  shape: Layout;
}

/** The wires of each column; a single wire is in the tab order. */
export const Nodes = memo(({ stages, ...rest }: Props) => (
  <g>
    {Array.from({ length: stages.length + 1 }, (_, column) => (
      <Column
        key={column}
        {...rest}
        column={column}
        depth={stages.length}
        stage={rest.open ? stages[column] : undefined}
        selected={rest.selected?.stage === column ? rest.selected : null}
        here={rest.here.column === column ? rest.here.wire : -1}
      />
    ))}
  </g>
));

interface ColumnProps extends Omit<Props, "stages" | "here"> {
  column: number;
  depth: number;
  stage: Stage | undefined;
  here: number;
}

const Column = memo((props: ColumnProps) => {
  const { width, labels, open, selected, column, depth, stage, here, shape } = props;
  const place = column === 0 ? "input" : column === depth ? "output" : `after stage ${column}`;
  const [dot, hit] = [Math.min(4.8, shape.step[1] / 4.2), Math.min(13, shape.step[1] / 2)];
  const cx = shape.x(column);
  return (
    <g>
      {Array.from({ length: width }, (_, wire) => {
        const [reads] = stage?.switches.find(([wires]) => wires.includes(wire)) ?? [[]];
        const others = reads.filter((other) => other !== wire);
        const joined = others.length ? `, joined with ${others.join(", ")}` : "";
        const isSelected = selected?.wires.includes(wire) ?? false;
        const cy = shape.y(wire);
        return (
          <g
            key={wire}
            class="node"
            role="button"
            tabindex={wire === here ? 0 : -1}
            data-column={column}
            data-wire={wire}
            aria-label={`wire ${labels?.[wire] ?? wire}, ${place}${joined}`}
            aria-pressed={open ? isSelected : undefined}
          >
            <circle class="hit" cx={cx} cy={cy} r={hit} />
            <circle class="dot" cx={cx} cy={cy} r={dot} />
          </g>
        );
      })}
    </g>
  );
});
