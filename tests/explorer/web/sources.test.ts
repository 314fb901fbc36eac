import { Lost, Refused } from "@/sources/refused";
import { saved } from "@/sources/saved";
import { served } from "@/sources/served";
import { unmeasured } from "@/sources/unmeasured";
import { type Model, widget } from "@/sources/widget";
import type { Network, PageData, WidgetQuestion } from "@/types";

const net: Network = { ...unmeasured(4, [[[0, 1]]], ""), spec: "benes" };
const data = { saved: [net], atlas: {}, survey: {} } as unknown as PageData;

const answers = (status: unknown) => (async () => ({ json: async () => status })) as never;

test("a server is asked by name, with the question as JSON", async () => {
  const asked: unknown[] = [];
  const source = served("page", (async (path: string, { body }: { body: string }) => {
    asked.push([path, JSON.parse(body)]);
    return { json: async () => net };
  }) as never);
  expect(await source.network({ spec: "benes", width: 4 })).toEqual(net);
  await source.dimension({ spec: "benes", width: 4 });
  expect(asked).toEqual([
    ["api/network", { spec: "benes", width: 4 }],
    ["api/dimension", { spec: "benes", width: 4, page: "page" }],
  ]);
});

test("a refusal has the message and widths of the library", async () => {
  const source = served("", answers({ error: "no", widths: [8] }));
  const error = await source.atlas(3).catch((caught: Refused) => caught);
  expect(error).toBeInstanceOf(Refused);
  expect(error).toMatchObject({ message: "no", widths: [8] });
});

test("without its server the page still shows drawings", async () => {
  const source = served("", (() => Promise.reject(new TypeError("offline"))) as never);
  const drawn = await source.network({ width: 4, stages: [[[0, 1]]] });
  expect(drawn.unmeasured).toContain("does not answer");
  await expect(source.network({ width: 4, spec: "benes" })).rejects.toBeInstanceOf(Lost);
});

test("a saved page answers from its data", async () => {
  const source = saved(data);
  expect(await source.network({ spec: "benes", width: 4 })).toBe(net);
  await expect(source.network({ spec: "benes", width: 8 })).rejects.toThrow("not on this page");
  expect((await source.network({ width: 4, stages: [[[2, 3]]] })).parameters).toBe(1);
  expect((await source.survey(8, 0))?.rows).toEqual([]);
});

test("a widget matches answers to questions by number, in any order", async () => {
  const sent: WidgetQuestion[] = [];
  let receive: (message: unknown) => void = () => {};
  const model = {
    send: (content: WidgetQuestion) => sent.push(content),
    on: (_: string, callback: typeof receive) => {
      receive = callback;
    },
    off: () => {},
  } as unknown as Model;
  const { source } = widget(model);
  const first = source.network({ spec: "benes", width: 4 });
  const second = source.atlas(4);
  const third = source.survey(4, 0).catch((error: Refused) => error.message);
  receive({ id: 3, error: "no" });
  receive({ id: 2, answer: [] });
  receive({ id: 1, answer: net });
  receive({ id: 9, answer: null });
  expect([await first, await second, await third]).toEqual([net, [], "no"]);
  expect(sent.map(({ id, name }) => [id, name])).toEqual([
    [1, "network"],
    [2, "atlas"],
    [3, "survey"],
  ]);
});
