/** The families at a width, which are measured while they are shown. */

import { type ReadonlySignal, signal } from "@preact/signals";
import type { ViewName } from "@/address";
import { Refused } from "@/sources/refused";
import type { Network, Source, SurveyPart } from "@/types";

/** The families at a width that are known so far; next is null if these are all. */
export interface Surveyed extends SurveyPart {
  width: number;
  error: string;
}

export function createSurveying(
  source: Source,
  net: ReadonlySignal<Network | null>,
  view: ReadonlySignal<ViewName>,
) {
  const survey = signal<Surveyed | null>(null);
  let asking: number | null = null; // the width that is asked for

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

  return { survey, showSurvey };
}
