import type { Stage } from "@/types";
import { useStore } from "@/views/context";
import type { Layout } from "@/views/layout";

const ROW = 52;

/** Buttons of a drawing: insert a stage at a column, or remove a stage. By keyboard: + and Delete. */
export function Tools({ stages, shape }: { stages: Stage[]; shape: Layout }) {
  const { insertStage, removeStage } = useStore();
  const last = stages.length - 1;
  return (
    <g>
      {stages.map((stage, t) => (
        <g key={t}>
          {t < last && (
            <Tool
              x={shape.x(t)}
              label={`Insert a stage before stage ${t + 1}`}
              path="M-4 0H4M0-4V4"
              act={() => insertStage(t)}
            />
          )}
          {t < last && stage.switches.length > 0 && (
            <Tool
              x={(shape.x(t) + shape.x(t + 1)) / 2}
              label={`Remove stage ${t + 1}`}
              path="M-3.5-3.5 3.5 3.5M-3.5 3.5 3.5-3.5"
              act={() => removeStage(t)}
            />
          )}
        </g>
      ))}
    </g>
  );
}

interface ToolProps {
  x: number;
  label: string;
  path: string;
  act(): void;
}

function Tool({ x, label, path, act }: ToolProps) {
  return (
    <g
      class="tool"
      role="button"
      tabindex={-1}
      aria-label={label}
      transform={`translate(${x} ${ROW})`}
      onClick={(event) => {
        event.stopPropagation();
        act();
      }}
    >
      <title>{label}</title>
      <circle class="disc" r={9} />
      <path d={path} />
    </g>
  );
}
