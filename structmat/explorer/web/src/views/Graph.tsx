import { effect, type ReadonlySignal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Selection } from "@/drawing";
import { type Place, spreader } from "@/mathematics/spreading";
import { counted } from "@/text";
import type { Stage } from "@/types";
import { useStore } from "@/views/context";
import { Edges, Names } from "@/views/Edges";
import { Glow } from "@/views/Glow";
import { useGestures } from "@/views/gestures";
import { layout } from "@/views/layout";
import { Nodes } from "@/views/Nodes";
import { useRoom } from "@/views/room";
import { Tools } from "@/views/Tools";

export interface GraphProps {
  width: number;
  stages: Stage[];
  labels: string[] | null;
  open: boolean; // a drawing, whose last stage is still to be drawn
  canEdit: boolean; // by dragging
  selected: Selection | null;
  at: ReadonlySignal<Place | null>; // the place whose reachable wires are highlighted
  pin(place: Place | null): void;
  hover(place: Place | null): void;
}

/** The grid graph: a column of wires before and after each stage. */
export function Graph(props: GraphProps) {
  const { width, stages, labels, open, at, hover } = props;
  const { playing } = useStore();
  const home = useRef<HTMLDivElement>(null);
  const svg = useRef<SVGSVGElement>(null);
  const [here, setHere] = useState<Place>({ column: 0, wire: 0 }); // with the keyboard focus
  const room = useRoom(home);
  const longest = Math.max(...(labels ?? [`${width - 1}`]).map((label) => label.length));
  const shape = useMemo(
    () => layout({ width, columns: stages.length, room, longest, hasTools: open }),
    [width, stages.length, room, longest, open],
  );
  const spread = useMemo(() => spreader(stages, width), [stages, width]);
  const newest = useRef(mark);
  newest.current = mark;
  useEffect(mark);
  useEffect(
    () =>
      effect(() => {
        void [at.value, playing.frame.value];
        newest.current();
      }),
    [at, playing],
  );

  /** Mark the highlighted wires, which is faster than rendering all of them again. */
  function mark(): void {
    const nodes = svg.current?.querySelectorAll(".node") ?? [];
    const place = at.value;
    const isIn = place && place.column <= stages.length && place.wire < width;
    const columns = isIn ? spread(place) : null;
    const frame = playing.frame.value ?? Number.POSITIVE_INFINITY;
    svg.current?.classList.toggle("busy", columns !== null);
    nodes.forEach((node, k) => {
      const [column, wire] = [Math.floor(k / width), k % width];
      const isShown = columns !== null && Math.abs(column - place!.column) <= frame;
      node.classList.toggle("on", isShown && columns[column]!.has(wire));
      node.classList.toggle("source", isIn === true && k === place.column * width + place.wire);
    });
  }

  const at0 = {
    column: Math.min(here.column, stages.length),
    wire: Math.min(here.wire, width - 1),
  };
  const gestures = useGestures(props, svg, setHere);
  return (
    <div class="graph" ref={home}>
      {room > 0 && (
        <svg
          ref={svg}
          data-picture
          width={shape.size[0]}
          height={shape.size[1]}
          viewBox={`0 0 ${shape.size.join(" ")}`}
          class={open ? "open" : undefined}
          role="group"
          aria-label={
            `Grid graph of ${counted(width, "wire")} and ` +
            `${counted(open ? stages.length - 1 : stages.length, "stage")};` +
            " arrow keys move from wire to wire"
          }
          onPointerLeave={() => hover(null)}
          {...gestures.handlers}
        >
          <Edges width={width} stages={stages} open={open} shape={shape} />
          <Glow at={at} spread={spread} stages={stages} width={width} shape={shape} />
          <Names labels={labels} width={width} stages={stages} open={open} shape={shape} />
          {open && <Tools stages={stages} shape={shape} />}
          <Nodes
            width={width}
            stages={stages}
            labels={labels}
            open={open}
            selected={props.selected}
            here={at0}
            shape={shape}
          />
          <path class="ghost" ref={gestures.ghost} />
        </svg>
      )}
    </div>
  );
}
