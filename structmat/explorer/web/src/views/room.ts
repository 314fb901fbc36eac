import type { RefObject } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";

/** Return the width of an element in pixels, 0 before it is known. */
export function useRoom(home: RefObject<HTMLElement | null>): number {
  const [room, setRoom] = useState(0);
  useLayoutEffect(() => {
    const element = home.current;
    if (!element) return undefined;
    setRoom(element.clientWidth);
    const observer = new ResizeObserver(() => setRoom(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, [home]);
  return room;
}
