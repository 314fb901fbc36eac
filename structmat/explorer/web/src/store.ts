/** The state of the page: what is asked, shown, drawn and compared. */

import { computed, signal } from "@preact/signals";
import { read, type ViewName, written } from "@/address";
import {
  choose,
  type Drawing,
  drag,
  drawingOf,
  filled,
  inserted,
  type Outcome,
  removed,
  resized,
  type Selection,
} from "@/drawing";
import { begun, changed, type History, redone, undone } from "@/history";
import type { Place as Wire } from "@/mathematics/spreading";
import { createPicking } from "@/picking";
import type { Place } from "@/place";
import { createPlaying } from "@/playing";
import { Refused } from "@/sources/refused";
import { counted } from "@/text";
import type {
  AtlasRecord,
  Dimension,
  Network,
  PageData,
  Question,
  Source,
  SurveyPart,
} from "@/types";
import { createValues } from "@/values";

export type Store = ReturnType<typeof createStore>;

/** A network beside the shown one. */
export interface Second {
  net: Network;
  question: Question;
  dimension: Dimension | null;
}

/** The families of a width that are known so far; next is null if they are all. */
export interface Surveyed extends SurveyPart {
  width: number;
  error: string;
}

export type Retry = (refused: Refused) => { question: Question; note: string } | null;

const BEGIN = "Click wires of one column: they are joined by a switch. Or drag from wire to wire.";

export function createStore(data: PageData, source: Source, place: Place) {
  const net = signal<Network | null>(null);
  const asked = signal<Question | null>(null); // the question that it answers
  const picked = signal<Network | null>(null); // the last one that was not drawn by hand
  const second = signal<Second | null>(null);
  const dimension = signal<Dimension | null>(null);
  const failure = signal(""); // why there is no dimension
  const complaint = signal("");
  const note = signal("");
  const isStale = signal(false);
  const isBusy = signal(false);
  const answered = signal(0); // the number of the last answered question
  const view = signal<ViewName>("network");
  const pinned = signal<Wire | null>(null);
  const records = signal<AtlasRecord[]>([]);
  const survey = signal<Surveyed | null>(null);

  const isDrawing = signal(false);
  const history = signal<History<Drawing>>(begun({ width: 8, stages: [] }));
  const selected = signal<Selection | null>(null);
  const said = signal(""); // about the last gesture
  const radix = signal(2);
  const drawing = computed(() => history.value.present);

  let newest = 0; // the number of the newest question: late answers to older ones are dropped
  let slow: ReturnType<typeof setTimeout> | undefined;
  let asking: number | null = null; // the width of the survey that is asked for
  const atlas = new Map<number, AtlasRecord[]>();

  const values = createValues(net);
  const playing = createPlaying();
  const picking = createPicking(data, show);

  const drawn = (): Question => ({
    width: drawing.value.width,
    stages: filled(drawing.value.stages),
  });
  /** Return the question about the answer to a question: the library may have completed the spec. */
  const completed = (question: Question, { spec, width }: Network): Question =>
    spec === null ? question : { spec, width };

  function begin(): number {
    newest += 1;
    clearTimeout(slow);
    return newest;
  }

  /**
   * Ask about a network and show the answer. Consecutive questions of one kind (typed into one
   * field, drawn, or from the address) are one step for Back. A reason states why this network is
   * shown instead of the one in the address, which is then kept, so that it can be corrected.
   */
  async function show(
    question: Question,
    kind: string | null = null,
    { reason = "", retry }: { reason?: string; retry?: Retry } = {},
  ): Promise<void> {
    const mine = begin();
    slow = setTimeout(() => {
      isBusy.value = true;
    }, 300);
    try {
      const found = await source.network(question);
      if (mine === newest) await present(found, completed(question, found), kind, reason);
    } catch (error) {
      if (mine !== newest) return;
      if (!(error instanceof Refused)) throw error;
      const other = retry?.(error);
      if (!other) return refuse(error, question);
      await show(other.question, kind);
      note.value = other.note;
    }
  }

  async function present(
    found: Network,
    question: Question,
    kind: string | null,
    reason = "",
  ): Promise<void> {
    const mine = begin();
    clearTimeout(slow);
    isBusy.value = false;
    isStale.value = false;
    complaint.value = reason;
    note.value = "";
    if (!question.stages) {
      if (found.spec !== null) picked.value = found;
      said.value = "";
      setDrawing(false);
      picking.fill(found);
    }
    if (net.value !== found) {
      if (!question.stages) pinned.value = null;
      playing.finish();
    }
    net.value = found;
    asked.value = question;
    dimension.value = null;
    failure.value = "";
    if (!reason) keep(kind);
    answered.value = mine;
    void showAtlas(found.width, mine);
    void showSurvey();
    try {
      const measured = await source.dimension(question);
      if (mine === newest) dimension.value = measured;
    } catch (error) {
      if (mine === newest) failure.value = (error as Error).message;
    }
    if (mine === newest) await measureSecond();
  }

  function refuse(error: Refused, question: Question | null): void {
    clearTimeout(slow);
    isBusy.value = false;
    complaint.value = error.message;
    if (!net.value && question !== data.first) {
      const { width } = data.first;
      const shown = data.first.spec ?? "the network";
      const reason = `${error.message}. Shown instead: ${shown} at width ${width}.`;
      void show(data.first, null, { reason });
      return;
    }
    isStale.value = true;
    if (!isDrawing.value && question) picking.blame(error, question);
  }

  /** Write the shown networks into the address. */
  function keep(kind: string | null): void {
    const question = asked.value;
    if (!question) return;
    const beside = second.value?.question ?? null;
    place.write(written({ question, second: beside, view: view.value }), kind);
  }

  async function showAtlas(width: number, mine: number): Promise<void> {
    try {
      if (!atlas.has(width)) atlas.set(width, await source.atlas(width));
    } catch (error) {
      if (!(error instanceof Refused)) throw error; // the server is asked again
    }
    if (mine === newest) records.value = atlas.get(width) ?? [];
  }

  /** Ask for the families of the shown width, part by part, while they are shown. */
  async function showSurvey(): Promise<void> {
    const width = net.value?.width;
    if (view.value !== "families" || width === undefined) return;
    const known = survey.value?.width === width && !survey.value.error ? survey.value : null;
    let found: Surveyed = known ?? { width, rows: [], refused: [], next: 0, error: "" };
    if (found.next === null || asking === width) return;
    asking = width;
    survey.value = found;
    try {
      while (found.next !== null && net.value?.width === width && view.value === "families") {
        const part: SurveyPart | null = await source.survey(width, found.next);
        if (!part) break;
        const rows = [...found.rows, ...part.rows];
        found = { ...found, rows, refused: part.refused, next: part.next };
        if (net.value?.width === width) survey.value = found;
      }
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (net.value?.width === width) survey.value = { ...found, next: null, error: error.message };
    }
    if (asking === width) asking = null;
  }

  function setView(name: ViewName): void {
    view.value = name;
    playing.finish();
    keep("view");
    void showSurvey();
  }

  // The second network ----------------------------------------------------------------------

  function keepBeside(): void {
    if (!net.value || !asked.value) return;
    second.value = {
      net: net.value,
      question: asked.value,
      dimension: dimension.value,
    };
    keep(null);
  }

  function closeSecond(): void {
    second.value = null;
    keep(null);
  }

  function swap(): void {
    const other = second.value;
    if (!other || !net.value) return;
    const { question } = other;
    keepBeside();
    if (question.stages) openDrawing(question.width, question.stages);
    else void show(question);
  }

  async function loadSecond(question: Question): Promise<void> {
    try {
      second.value = { net: await source.network(question), question, dimension: null };
      if (dimension.value) await measureSecond();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      complaint.value = error.message;
    }
  }

  async function measureSecond(): Promise<void> {
    const other = second.value;
    if (!other || other.dimension || other.net.unmeasured) return;
    try {
      const measured = await source.dimension(other.question);
      if (second.value === other) second.value = { ...other, dimension: measured };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    }
  }

  // Drawing ---------------------------------------------------------------------------------

  function setDrawing(isOn: boolean): void {
    isDrawing.value = isOn;
    if (!isOn) selected.value = null;
  }

  /** Show the drawing immediately, and its numbers once the library has answered. */
  function draw(message = BEGIN, kind: string | null = "drawing"): void {
    picking.stop();
    note.value = "";
    setDrawing(true);
    pinned.value = null;
    said.value = message;
    void show(drawn(), kind);
  }

  function apply({ drawing: next, selected: wires, said: message }: Outcome): void {
    selected.value = wires;
    said.value = message;
    if (!next) return;
    history.value = changed(history.value, next);
    draw(message, "drawing");
  }

  function replace(next: Drawing): void {
    history.value = changed(history.value, next);
    selected.value = null;
  }

  function openDrawing(width: number, stages: number[][][], kind: string | null = null): void {
    replace({ width, stages });
    draw(BEGIN, kind);
  }

  /** Apply a gesture to the drawing, or to the shown network if that is not being drawn. */
  function edit(gesture: (drawing: Drawing) => Outcome): void {
    const copy = isDrawing.value ? null : drawingOf(net.value, data.drawn);
    const open = isDrawing.value ? drawing.value : copy;
    if (!open) return;
    const outcome = gesture(open);
    if (copy && outcome.drawing) replace(copy);
    apply(outcome);
  }

  function travel(step: typeof undone<Drawing>, message: string): void {
    if (selected.value?.wires.length) {
      said.value = `Deselected: ${selected.value.wires.join(", ")}.`;
      selected.value = null;
      return;
    }
    const next = step(history.value);
    if (next === history.value) return;
    history.value = next;
    draw(message, "drawing");
  }

  // Beginning -------------------------------------------------------------------------------

  /** Show what the address names, as a link, a reload or Back does, or the first network. */
  function visit(): void {
    begin();
    picking.stop();
    let address: ReturnType<typeof read>;
    try {
      address = read(place.hash(), data.drawn);
    } catch (error) {
      refuse(error as Refused, null);
      return;
    }
    view.value = address?.view ?? "network";
    const question = address?.question ?? data.first;
    if (!address?.second) second.value = null;
    else if (JSON.stringify(second.value?.question) !== JSON.stringify(address.second)) {
      void loadSecond(address.second);
    }
    if (!question.stages) {
      void show(question, "address");
      return;
    }
    const same = JSON.stringify(drawn()) === JSON.stringify({ ...question });
    if (!same) replace({ width: question.width, stages: question.stages });
    draw(BEGIN, "address");
  }

  return {
    data,
    source,
    place,
    values,
    playing,
    picking,
    net,
    picked,
    second,
    dimension,
    failure,
    complaint,
    note,
    isStale,
    isBusy,
    answered,
    view,
    pinned,
    records,
    survey,
    isDrawing,
    history,
    drawing,
    selected,
    said,
    radix,
    asked,
    show,
    setView,
    keepBeside,
    closeSecond,
    swap,
    openDrawing,
    visit,
    start() {
      place.onChange(visit);
      visit();
    },
    pickMode: () => {
      const { spec, width } = picked.value ?? {};
      if (!picked.value || !spec || !width) return show(data.first);
      return present(picked.value, { spec, width }, null);
    },
    drawMode: () => draw(),
    chooseWire: (column: number, wire: number) =>
      edit((open) => choose(open, column, wire, Math.min(radix.value, open.width), selected.value)),
    dragWire: (from: Wire, to: Wire) => edit((open) => drag(open, from, to)),
    insertStage: (stage: number) => edit((open) => inserted(open, stage)),
    removeStage: (stage: number) => edit((open) => removed(open, stage)),
    editShown: (from = net.value) => {
      const copy = drawingOf(from, data.drawn);
      if (!copy) return;
      replace(copy);
      draw(`Continue drawing from ${from?.spec ?? "the network"}.`, "drawing");
    },
    undo: () => travel(undone, "Undone."),
    redo: () => travel(redone, "Redone."),
    clear() {
      replace({ width: drawing.value.width, stages: [] });
      draw("All switches removed; undo restores them.", "drawing");
    },
    letGo() {
      if (!selected.value?.wires.length) return;
      selected.value = null;
      said.value = "No wires are selected.";
    },
    setWidth(width: number) {
      if (width === drawing.value.width) return;
      const { drawing: next, dropped } = resized(drawing.value, width);
      replace(next);
      const lost = dropped
        ? ` ${counted(dropped, "switch", "switches")} dropped; undo restores them.`
        : "";
      draw(`${counted(width, "wire")}.${lost}`, "drawing");
    },
    setRadix(wires: number) {
      radix.value = wires;
      if ((selected.value?.wires.length ?? 0) >= wires) selected.value = null;
      said.value = `The next switches join ${wires} wires.`;
    },
  };
}
