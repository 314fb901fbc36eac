import type { RefObject } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

/** Return the width of an element in pixels, 0 before it is known. */
export function useRoom(home: RefObject<HTMLElement | null>): number {
  const [room, setRoom] = useState(0);
  const observed = useRef<HTMLElement | null>(null);
  const observer = useRef<ResizeObserver | null>(null);
  useLayoutEffect(() => {
    const element = home.current;
    if (element === observed.current) return; // it may be rendered later than its component
    observer.current?.disconnect();
    observed.current = element;
    if (!element) return;
    setRoom(element.clientWidth);
    observer.current = new ResizeObserver(() => setRoom(element.clientWidth));
    observer.current.observe(element);
  });
  useLayoutEffect(() => () => observer.current?.disconnect(), []);
  return room;
}
