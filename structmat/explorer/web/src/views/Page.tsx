import { useEffect, useRef } from "preact/hooks";
import { Atlas } from "@/views/Atlas";
import { Bounds } from "@/views/Bounds";
import { Choose } from "@/views/Choose";
import { useHome } from "@/views/context";
import { Numbers } from "@/views/Numbers";
import { Picture } from "@/views/Picture";
import { Use } from "@/views/Use";

export function Page() {
  const { store, prefix, isEmbedded } = useHome();
  const { data, answered, isBusy } = store;
  const root = useRef<HTMLDivElement>(null);
  const Main = isEmbedded ? "div" : "main";

  useEffect(() => {
    data.colours?.forEach((colour, k) => {
      root.current?.style.setProperty(`--given-${k}`, colour);
    });
  }, [data]);
  useEffect(() => {
    if (answered.value && !isEmbedded) document.body.dataset.shown = `${answered.value}`;
  }, [answered.value, isEmbedded]);
  useEffect(() => {
    const keys = (event: KeyboardEvent) => {
      const isTyping = (event.target as Element | null)?.matches?.("input, textarea, select");
      if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || isTyping) return;
      if (!store.isDrawing.value) return;
      event.preventDefault();
      if (event.shiftKey) store.redo();
      else store.undo();
    };
    const home: HTMLElement | Document = isEmbedded ? root.current! : document;
    home.addEventListener("keydown", keys as EventListener);
    return () => home.removeEventListener("keydown", keys as EventListener);
  }, [store, isEmbedded]);

  return (
    <div class={isEmbedded ? "structmat embedded" : "structmat"} ref={root}>
      {!isEmbedded && <Header />}
      <p id={`${prefix}working`} class="working" role="status" hidden={!isBusy.value}>
        Working…
      </p>
      <Main class="layout" aria-busy={isBusy.value}>
        <Choose />
        <Picture />
        <Numbers />
        <Use />
        <Bounds />
        <Atlas />
      </Main>
      {!isEmbedded && (
        <footer id="about">
          {`structmat ${data.version}`}
          {data.saved
            ? ", a saved page: nothing is fetched."
            : ": the properties are computed by the library."}
        </footer>
      )}
    </div>
  );
}

function Header() {
  return (
    <header>
      <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
        <path class="through" d="M5 6H27M5 26H27" />
        <path class="across" d="M5 6 27 26M5 26 27 6" />
      </svg>
      <h1>structmat explorer</h1>
      <p>An orthogonal matrix as a network of small rotations</p>
    </header>
  );
}
