/** The state of the page: what is asked, shown, drawn and compared. */

import { signal } from "@preact/signals";
import { read, type ViewName, written } from "@/address";
import type { Place as Wire } from "@/mathematics/spreading";
import { createPicking } from "@/picking";
import type { Place } from "@/place";
import { createPlaying } from "@/playing";
import { createSketching } from "@/sketching";
import { Refused } from "@/sources/refused";
import { createSurveying } from "@/surveying";
import type { AtlasRecord, Dimension, Network, PageData, Question, Source } from "@/types";
import { createValues } from "@/values";

export type Store = ReturnType<typeof createStore>;

/** A network beside the shown one. */
export interface Second {
  net: Network;
  question: Question;
  dimension: Dimension | null;
}

export type Retry = (refused: Refused) => { question: Question; note: string } | null;

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

  let newest = 0; // the number of the newest question: late answers to older ones are dropped
  let slow: ReturnType<typeof setTimeout> | undefined;
  const atlas = new Map<number, AtlasRecord[]>();

  const values = createValues(net);
  const { survey, showSurvey } = createSurveying(source, net, view);
  const playing = createPlaying();
  const picking = createPicking(data, show);
  const sketching = createSketching({ data, net, pinned, note, show, stop: picking.stop });
  const { isDrawing, said, setDrawing, openDrawing } = sketching;

  /** Return the question for an answer, because the library may have completed the spec. */
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

  // Beginning -------------------------------------------------------------------------------

  /** Show the networks in the address, after a link, a reload or Back, or the first network. */
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
    sketching.visit(question.width, question.stages);
  }

  return {
    ...sketching,
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
    asked,
    show,
    setView,
    keepBeside,
    closeSecond,
    swap,
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
  };
}
