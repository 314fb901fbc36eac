/** Answers from the library through the server of the page. */

import { Lost, Refused } from "@/sources/refused";
import { unmeasured } from "@/sources/unmeasured";
import type { Network, Question, Source } from "@/types";

/** `page` distinguishes open pages: a new question cancels only the previous one of the same page. */
export function served(page: string, ask: typeof fetch = fetch): Source {
  async function posted<T>(name: string, question: object): Promise<T> {
    let answer: T & { error?: string; widths: number[] };
    try {
      const response = await ask(`api/${name}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(question),
      });
      answer = await response.json();
    } catch {
      throw new Lost();
    }
    if (answer?.error !== undefined) throw new Refused({ ...answer, error: answer.error });
    return answer;
  }
  return {
    isLive: true,
    async network(question: Question) {
      try {
        return await posted<Network>("network", question);
      } catch (error) {
        if (error instanceof Lost && question.stages) {
          return unmeasured(question.width, question.stages, error.message);
        }
        throw error;
      }
    },
    dimension: (question) => posted("dimension", { ...question, page }),
    atlas: (width) => posted("atlas", { width }),
    survey: (width, start) => posted("survey", { width, start, page }),
  };
}
