import type { RefObject } from "preact";
import { useRef } from "preact/hooks";
import type { Place } from "@/mathematics/spreading";
import { useStore } from "@/views/context";
import type { GraphProps } from "@/views/Graph";

const FAR = 7; // pixels from which a movement is a drag

const STEPS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
  Home: [Number.NEGATIVE_INFINITY, 0],
  End: [Number.POSITIVE_INFINITY, 0],
};

/** Pointing, clicking, dragging and keys on the wires of a graph. */
export function useGestures(
  props: GraphProps,
  svg: RefObject<SVGSVGElement | null>,
  setHere: (place: Place) => void,
) {
  const store = useStore();
  const ghost = useRef<SVGPathElement>(null);
  const drag = useRef<{ from: Place; x: number; y: number; isFar: boolean } | null>(null);
  const wasDragged = useRef(false);
  const { width, stages, open, canEdit, pin, hover } = props;

  function rove(place: Place): void {
    setHere(place);
    const place0 = `[data-column="${place.column}"][data-wire="${place.wire}"]`;
    svg.current?.querySelector<SVGElement>(`.node${place0}`)?.focus();
  }

  function act(place: Place): void {
    if (open) {
      store.chooseWire(place.column, place.wire);
      return;
    }
    const before = store.pinned.value;
    const again = before?.column === place.column && before.wire === place.wire;
    pin(again ? null : place);
    store.playing.finish();
  }

  function trace(event: PointerEvent): void {
    const state = drag.current!;
    const box = svg.current!.getBoundingClientRect();
    const start = svg.current!.querySelector(
      `.node[data-column="${state.from.column}"][data-wire="${state.from.wire}"] .dot`,
    )!;
    const x = start.getAttribute("cx");
    const y = start.getAttribute("cy");
    const to = `${event.clientX - box.left} ${event.clientY - box.top}`;
    ghost.current?.setAttribute("d", `M${x} ${y}L${to}`);
  }

  function stop(): void {
    drag.current = null;
    ghost.current?.removeAttribute("d");
  }

  const handlers = {
    onPointerDown(event: PointerEvent) {
      const from = placeOf(event.target);
      wasDragged.current = false;
      const isMouse = event.pointerType !== "touch" || open;
      if (!from || !canEdit || event.button !== 0 || !isMouse) return;
      drag.current = { from, x: event.clientX, y: event.clientY, isFar: false };
      if (event.pointerType === "touch") {
        (event.target as Element).releasePointerCapture?.(event.pointerId);
      }
    },
    onPointerMove(event: PointerEvent) {
      const state = drag.current;
      if (!state) return;
      if (!event.buttons) {
        stop();
        return;
      }
      state.isFar ||= Math.hypot(event.clientX - state.x, event.clientY - state.y) > FAR;
      if (state.isFar) trace(event);
    },
    onPointerUp(event: PointerEvent) {
      const state = drag.current;
      stop();
      if (!state?.isFar) return;
      wasDragged.current = true;
      const to = placeOf(document.elementFromPoint(event.clientX, event.clientY));
      if (to) store.dragWire(state.from, to);
    },
    onPointerCancel: stop,
    onPointerOver(event: PointerEvent) {
      if (drag.current?.isFar) return;
      const focused = svg.current?.querySelector(".node:focus-visible");
      hover(placeOf(event.target) ?? (focused ? placeOf(focused) : null));
    },
    onFocusIn(event: FocusEvent) {
      const target = event.target as Element;
      if (target.matches(":focus-visible")) hover(placeOf(target));
    },
    onFocusOut: () => hover(null),
    onClick(event: MouseEvent) {
      if (wasDragged.current) {
        wasDragged.current = false;
        return;
      }
      const place = placeOf(event.target);
      if (!place) {
        if (!open) pin(null);
        return;
      }
      rove(place);
      act(place);
    },
    onKeyDown(event: KeyboardEvent) {
      const place = placeOf(event.target);
      if (!place) return;
      const step = STEPS[event.key];
      if (step) {
        rove({
          column: Math.min(Math.max(place.column + step[0], 0), stages.length),
          wire: Math.min(Math.max(place.wire + step[1], 0), width - 1),
        });
      } else if (event.key === "Enter" || event.key === " ") act(place);
      else if (event.key === "Escape") {
        store.letGo();
        pin(null);
        hover(null);
      } else if (open && event.key === "+") store.insertStage(place.column);
      else if (open && event.key === "Delete" && place.column < stages.length - 1) {
        store.removeStage(place.column);
      } else return;
      event.preventDefault();
    },
  };
  return { ghost, handlers };
}

function placeOf(target: EventTarget | Element | null): Place | null {
  const node = (target as Element | null)?.closest?.(".node") as SVGElement | null | undefined;
  if (!node) return null;
  return { column: Number(node.dataset.column), wire: Number(node.dataset.wire) };
}
