import { type ReadonlySignal, useComputed, useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { inWords, type Place, spreader } from "@/mathematics/spreading";
import type { Network, Stage } from "@/types";
import { BundleView } from "@/views/BundleView";
import { useIds, useStore } from "@/views/context";
import { Graph } from "@/views/Graph";
import { Title } from "@/views/Title";
import { Transport } from "@/views/Transport";

const USUAL =
  "Point at a wire, or move to it with the keyboard, to see which inputs influence it and which" +
  " outputs it influences; click to keep them highlighted.";

/** The network, beside a second one if there is one. */
export function NetworkView() {
  const store = useStore();
  const { second } = store;
  const id = useIds();
  const hovered = useSignal<Place | null>(null);
  const at = useComputed(() => hovered.value ?? store.pinned.value);
  const other = second.value;
  if (!store.net.value) return null;
  return (
    <>
      <div class={other ? "panes two" : "panes"}>
        <div class="pane">
          {other && (
            <h3>
              <Title net={store.net.value} />
            </h3>
          )}
          <Main hovered={hovered} at={at} />
        </div>
        {other && (
          <div class="pane" id={id("second")}>
            <h3>
              <Title net={other.net} />
            </h3>
            <Other
              net={other.net}
              at={at}
              hover={(place) => {
                hovered.value = place;
              }}
            />
          </div>
        )}
      </div>
      <Transport hasWires={Boolean(store.net.value.stages || store.net.value.bundles)} />
      <Said at={at} />
    </>
  );
}

function Main({
  hovered,
  at,
}: {
  hovered: { value: Place | null };
  at: ReadonlySignal<Place | null>;
}) {
  const store = useStore();
  const id = useIds();
  const net = store.net.value!;
  const { drawing, isDrawing, pinned, playing } = store;
  const open = isDrawing.value;
  const stages = useStages();
  const { width } = open ? drawing.value : net;
  useEffect(() => {
    playing.length.value = open ? stages!.length - 1 : net.depth;
  }, [playing, open, stages, net]);
  if (!stages) return <Wide net={net} at={at} />;
  return (
    <div id={id("graph")}>
      <Graph
        key={open ? "open" : "shown"}
        width={width}
        stages={stages}
        labels={open ? null : net.labels}
        open={open}
        canEdit={open || (net.straight && net.width <= store.data.drawn)}
        selected={store.selected.value}
        at={at}
        pin={(place) => {
          pinned.value = place;
        }}
        hover={(place) => {
          hovered.value = place;
        }}
      />
    </div>
  );
}

function Other({
  net,
  at,
  hover,
}: {
  net: Network;
  at: ReadonlySignal<Place | null>;
  hover(place: Place | null): void;
}) {
  const { pinned } = useStore();
  const within = useComputed(() => {
    const place = at.value;
    return place && place.column <= net.depth && place.wire < net.width ? place : null;
  });
  if (!net.stages) return <Wide net={net} at={within} />;
  return (
    <Graph
      width={net.width}
      stages={net.stages}
      labels={net.labels}
      open={false}
      canEdit={false}
      selected={null}
      at={within}
      pin={(place) => {
        pinned.value = place;
      }}
      hover={hover}
    />
  );
}

function Wide({ net, at }: { net: Network; at: ReadonlySignal<Place | null> }) {
  const id = useIds();
  return (
    <>
      {net.bundles && <BundleView net={net} at={at} />}
      <pre
        id={id("outline")}
        tabIndex={0}
        role="region"
        aria-label="Description of the stages"
        hidden={Boolean(net.bundles)}
      >
        {net.summary}
      </pre>
    </>
  );
}

/** Return the stages of the picture: in a drawing, the next stage is empty. */
function useStages(): Stage[] | null {
  const { drawing, isDrawing, net } = useStore();
  const open = isDrawing.value;
  const { stages } = drawing.value;
  const shown = net.value?.stages ?? null;
  return useMemo(() => {
    if (!open) return shown;
    return [...stages, []].map((stage) => ({
      switches: stage.map((wires) => [[...wires]] as [number[]]),
      moves: [],
    }));
  }, [open, stages, shown]);
}

/** The reachable wires in words, for screen readers, too. */
function Said({ at }: { at: ReadonlySignal<Place | null> }) {
  const { isDrawing, net, said } = useStore();
  const id = useIds();
  const stages = useStages();
  const one = net.value!;
  const open = isDrawing.value;
  const width = useStore().drawing.value.width;
  const shownWidth = open ? width : one.width;
  const spread = useMemo(() => stages && spreader(stages, shownWidth), [stages, shownWidth]);
  const place = at.value;
  let text = open ? "" : USUAL;
  if (!stages) {
    text = one.bundles
      ? "Each line stands for the edges between two groups of wires; scroll or pinch to zoom."
      : "Too large to draw: there are too many stages.";
  } else if (place && spread && place.column <= stages.length && place.wire < shownWidth) {
    const every = spread(place);
    const columns = open ? every.slice(0, -1) : every; // the next stage is not drawn yet
    const column = Math.min(place.column, columns.length - 1);
    const name = (!open && one.labels?.[place.wire]) || `${place.wire}`;
    text = inWords(columns, shownWidth, column, name);
  }
  return (
    <p id={id("spreading")} class="spreading" role="status" aria-live="polite">
      {[said.value, text].filter(Boolean).join(" ")}
    </p>
  );
}
