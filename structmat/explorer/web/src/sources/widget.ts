/** Answers from the kernel of a notebook, through the messages of an anywidget. */

import { Refused } from "@/sources/refused";
import type { Source, WidgetAnswer, WidgetQuestion } from "@/types";

/** The part of an anywidget model that the page uses. */
export interface Model {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  save_changes(): void;
  send(content: unknown): void;
  on(event: string, callback: (...values: never[]) => void): void;
  off(event: string, callback: (...values: never[]) => void): void;
}

/** Return the source, and a function that stops listening. */
export function widget(model: Model): { source: Source; stop: () => void } {
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let last = 0;

  const receive = (message: WidgetAnswer) => {
    const asked = waiting.get(message?.id);
    if (!asked) return;
    waiting.delete(message.id);
    if ("error" in message) {
      asked.reject(new Refused({ error: message.error, widths: message.widths ?? [] }));
    } else asked.resolve(message.answer);
  };
  model.on("msg:custom", receive);

  function asked<T>(name: WidgetQuestion["name"], question: WidgetQuestion["question"]) {
    last += 1;
    const id = last;
    return new Promise<T>((resolve, reject) => {
      waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      model.send({ id, name, question } satisfies WidgetQuestion);
    });
  }
  return {
    source: {
      isLive: true,
      network: (question) => asked("network", question),
      dimension: (question) => asked("dimension", question),
      atlas: (width) => asked("atlas", { width }),
      survey: (width, start) => asked("survey", { width, start }),
    },
    stop: () => model.off("msg:custom", receive),
  };
}
