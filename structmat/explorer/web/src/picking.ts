/** The form in which a family, its options and a width are selected. */

import { signal } from "@preact/signals";
import { Lost, type Refused } from "@/sources/refused";
import type { Retry } from "@/store";
import type { FamilyInfo, Network, PageData, Question } from "@/types";

export interface Form {
  family: string; // empty for a composition
  options: Record<string, string>;
  width: string;
  spec: string;
}

type Show = (question: Question, kind?: string | null, more?: { retry?: Retry }) => Promise<void>;

const PAUSE = 300; // milliseconds without typing after which the question is asked
const USUAL: Record<string, string> = { block: "4", depth: "2", degree: "3" };

export function createPicking(data: PageData, show: Show) {
  const form = signal<Form>({ family: "", options: {}, width: "", spec: "" });
  const widths = signal<number[]>([]);
  const wrong = signal<"width" | "spec" | null>(null);
  let waiting: ReturnType<typeof setTimeout> | 0 | null = null; // of a question being typed

  const familyOf = (name: string) => data.families.find((family) => family.name === name);

  function stop(): void {
    if (waiting) clearTimeout(waiting);
    waiting = null;
  }

  function ask(kind: string | null = null, retry?: Retry): void {
    stop();
    const { spec, width } = form.value;
    void show({ spec, width: asNumber(width) }, kind, retry ? { retry } : {});
  }

  function later(kind: string): void {
    stop();
    waiting = setTimeout(() => ask(kind), PAUSE);
  }

  return {
    form,
    widths,
    wrong,
    stop,
    ask,
    familyOf,

    /** Fill in the form for a network, unless the next question is being typed. */
    fill(net: Network): void {
      if (waiting !== null) return;
      const family = net.form?.family ?? "";
      const options = { ...net.form?.options };
      form.value = { family, options, width: `${net.width}`, spec: net.spec ?? "" };
      wrong.value = null;
      widths.value = net.widths;
    },

    /** Mark the invalid field of a question, and offer valid widths. */
    blame(error: Refused, question: Question): void {
      if (data.saved || error instanceof Lost) return;
      const { spec = "", width } = question;
      const isTyped = asNumber(form.value.width) === width && form.value.spec === spec;
      if (waiting === null && !isTyped) form.value = { ...form.value, spec, width: `${width}` };
      wrong.value = error.widths.length ? "width" : "spec";
      widths.value = error.widths;
    },

    chooseFamily(name: string): void {
      const composed = data.compositions?.find(({ spec }) => spec === name);
      if (composed) {
        const { spec } = composed;
        form.value = { ...form.value, family: "", options: {}, spec };
        ask(null, (refused) => instead(form.value, composed, refused));
        return;
      }
      const family = familyOf(name);
      const needed = (family?.options ?? []).filter((option) => option.needed);
      const options = Object.fromEntries(
        needed.map((option) => [option.name, USUAL[option.name] ?? ""]),
      );
      const isExample = needed.some((option) => !USUAL[option.name]);
      const example = isExample && family?.example?.spec;
      const spec = example || written(name, family, options);
      form.value = { ...form.value, family: name, options, spec };
      ask(null, (refused) => instead(form.value, family?.example ?? null, refused));
    },

    typeOption(name: string, value: string): void {
      const options = { ...form.value.options, [name]: value };
      const spec = written(form.value.family, familyOf(form.value.family), options);
      form.value = { ...form.value, options, spec };
      later(`option-${name}`);
    },

    typeWidth(width: string): void {
      form.value = { ...form.value, width };
      later("width");
    },

    chooseWidth(width: number): void {
      form.value = { ...form.value, width: `${width}` };
      ask();
    },

    typeSpec(spec: string): void {
      stop();
      form.value = { ...form.value, spec };
      waiting = 0; // no timer: a spec is asked about when it is complete
    },
  };
}

/** Return a number, or the text as typed, which the library rejects with an error. */
const asNumber = (width: string): number =>
  /^\d+$/.test(width) ? Number(width) : (width as unknown as number);

/** Write a family and its options as a spec. */
function written(name: string, family: FamilyInfo | undefined, options: Record<string, string>) {
  const given = (family?.options ?? []).filter((option) => options[option.name]?.trim());
  const list = given.map((option) => `${option.name}=${options[option.name]}`).join(", ");
  return name + (list && `(${list})`);
}

/** Return the nearest suggested width of a newly chosen family, or else its example. */
function instead(form: Form, example: (FamilyInfo["example"] & {}) | null, refused: Refused) {
  const wanted = Number(form.width);
  if (refused instanceof Lost || Number.isNaN(wanted)) return null;
  if (refused.widths.length) {
    const width = refused.widths.reduce((a, b) =>
      Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a,
    );
    const note = `${form.spec} does not accept ${wanted} wires; shown with ${width} instead.`;
    return { question: { spec: form.spec, width }, note };
  }
  if (!example) return null;
  const { spec, width } = example;
  return { question: { spec, width }, note: `Shown instead: ${spec} at width ${width}.` };
}
