/** The explorer: starts itself on a page with its data, or is rendered as the widget of a notebook. */

import "./style/base.css";
import "./style/forms.css";
import "./style/picture.css";
import "./style/motion.css";
import "./style/matrix.css";
import "./style/families.css";
import "./style/numbers.css";
import { render as mount } from "preact";
import { browserPlace, nowhere } from "@/place";
import { saved } from "@/sources/saved";
import { served } from "@/sources/served";
import { type Model, widget } from "@/sources/widget";
import { createStore, type Store } from "@/store";
import type { PageData, Question } from "@/types";
import { watchScheme } from "@/views/colours";
import { HomeContext } from "@/views/context";
import { Page } from "@/views/Page";

function show(root: Element, store: Store, prefix: string, isEmbedded: boolean): void {
  mount(
    <HomeContext.Provider value={{ store, prefix, isEmbedded }}>
      <Page />
    </HomeContext.Provider>,
    root,
  );
}

let widgets = 0;

/** Render the widget; see the types of messages for the protocol. */
function render({ model, el }: { model: Model; el: HTMLElement }): () => void {
  watchScheme();
  widgets += 1;
  const { source, stop } = widget(model);
  const data = model.get("data") as PageData;
  const first = (model.get("question") as Question | null) ?? data.first;
  const place = {
    ...nowhere(),
    write: () => {
      const question = store.asked.value;
      if (!question || JSON.stringify(question) === JSON.stringify(model.get("question"))) return;
      model.set("question", question);
      model.save_changes();
    },
  };
  const store = createStore({ ...data, first }, source, place);
  const receive = () => {
    const question = model.get("question") as Question | null;
    if (!question || JSON.stringify(question) === JSON.stringify(store.asked.value)) return;
    if (question.stages) store.openDrawing(question.width, question.stages);
    else void store.show(question);
  };
  model.on("change:question", receive);
  show(el, store, `structmat-${widgets}-`, true);
  if (first.stages) store.openDrawing(first.width, first.stages);
  else void store.show(first);
  return () => {
    model.off("change:question", receive);
    stop();
    mount(null, el);
  };
}

const home = document.querySelector("#structmat-data");
const root = document.querySelector("#structmat");
if (home && root) {
  watchScheme();
  const data = JSON.parse(home.textContent ?? "") as PageData;
  const source = data.saved ? saved(data) : served(`${Math.random()}`);
  const store = createStore(data, source, browserPlace());
  show(root, store, "", false);
  store.start();
}

export default { render };
