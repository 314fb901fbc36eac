/** Answers from the data of a saved page. */

import { Refused } from "@/sources/refused";
import { unmeasured } from "@/sources/unmeasured";
import type { Network, PageData, Question, Source } from "@/types";

export function saved(data: PageData): Source {
  const known = (question: Question): Network | undefined =>
    data.saved?.find(({ spec, width }) => spec === question.spec && width === question.width);

  async function network(question: Question): Promise<Network> {
    if (question.stages) {
      return unmeasured(question.width, question.stages, "This page was saved.");
    }
    const found = known(question);
    if (found) return found;
    const error =
      `${question.spec} at width ${question.width} is not on this page;` +
      " structmat explore can show other networks";
    throw new Refused({ error, widths: [] });
  }

  return {
    isLive: false,
    network,
    dimension: async (question) =>
      question.stages ? null : ((await network(question)).dimension ?? null),
    atlas: async (width) => data.atlas?.[width] ?? [],
    survey: async (width) => ({
      rows: data.survey?.[width] ?? [],
      next: null,
      refused: [],
    }),
  };
}
