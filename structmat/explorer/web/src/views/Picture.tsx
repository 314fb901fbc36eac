import { useRef } from "preact/hooks";
import { VIEWS, type ViewName } from "@/address";
import { drawingOf } from "@/drawing";
import { useIds, useStore } from "@/views/context";
import { ExportMenu } from "@/views/ExportMenu";
import { MatrixView } from "@/views/MatrixView";
import { NetworkView } from "@/views/NetworkView";
import { ScheduleView } from "@/views/ScheduleView";
import { Share } from "@/views/Share";
import { Survey } from "@/views/Survey";
import { Title } from "@/views/Title";

const NAMES: Record<ViewName, string> = {
  network: "Network",
  matrix: "Matrix",
  schedule: "Schedule",
  families: "All families",
};

/** The picture: a network, its matrix, its schedule, or all families of its width. */
export function Picture() {
  const store = useStore();
  const id = useIds();
  const { isStale, net, view } = store;
  const body = useRef<HTMLDivElement>(null);
  return (
    <section class={`card picture${isStale.value ? " stale" : ""}`} aria-labelledby={id("title")}>
      <div class="head">
        <h2 id={id("title")} aria-live="polite" aria-atomic="true">
          {net.value && <Title net={net.value} />}
        </h2>
        <div class="actions">
          <EditButton />
          <BesideButtons />
          <Share />
          <ExportMenu picture={body} />
        </div>
      </div>
      <Tabs />
      <div
        class="panel"
        role="tabpanel"
        id={id("panel")}
        aria-labelledby={id(`tab-${view.value}`)}
        ref={body}
      >
        {view.value === "network" && <NetworkView />}
        {view.value === "matrix" && <MatrixView />}
        {view.value === "schedule" && <ScheduleView />}
        {view.value === "families" && <Survey />}
      </div>
    </section>
  );
}

function Tabs() {
  const { view, setView } = useStore();
  const id = useIds();
  const home = useRef<HTMLDivElement>(null);
  const move = (event: KeyboardEvent) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = VIEWS[(VIEWS.indexOf(view.value) + by + VIEWS.length) % VIEWS.length]!;
    setView(next);
    home.current?.querySelector<HTMLElement>(`#${id(`tab-${next}`)}`)?.focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label="Views" ref={home} onKeyDown={move}>
      {VIEWS.map((name) => (
        <button
          key={name}
          type="button"
          role="tab"
          id={id(`tab-${name}`)}
          aria-selected={view.value === name}
          aria-controls={id("panel")}
          tabIndex={view.value === name ? 0 : -1}
          onClick={() => setView(name)}
        >
          {NAMES[name]}
        </button>
      ))}
    </div>
  );
}

function EditButton() {
  const store = useStore();
  const { data, isDrawing, net } = store;
  const id = useIds();
  if (isDrawing.value || !net.value) return null;
  const canEdit = drawingOf(net.value, data.drawn) !== null;
  const why = net.value.straight
    ? "Networks of this size cannot be edited by hand."
    : "Networks with permutations between stages cannot be edited by hand.";
  return (
    <button
      type="button"
      id={id("edit")}
      disabled={!canEdit}
      title={canEdit ? "Change switches and stages by hand" : why}
      onClick={() => {
        store.setView("network");
        store.editShown();
      }}
    >
      Edit
    </button>
  );
}

function BesideButtons() {
  const { closeSecond, keepBeside, second, swap } = useStore();
  const id = useIds();
  if (!second.value) {
    return (
      <button
        type="button"
        id={id("beside")}
        title="Keep this network beside the next one that you show"
        onClick={keepBeside}
      >
        Compare
      </button>
    );
  }
  return (
    <>
      <button type="button" id={id("swap")} onClick={swap}>
        Swap
      </button>
      <button type="button" id={id("close-second")} onClick={closeSecond}>
        Show one
      </button>
    </>
  );
}
