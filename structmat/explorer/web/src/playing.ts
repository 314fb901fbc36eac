/** The animation, in frames from 0 to a length: playing, pausing, stepping, at a speed. */

import { signal } from "@preact/signals";

export const SPEEDS = [0.5, 1, 2, 4] as const;
const PER_SECOND = 1.2; // stages at speed 1
const AT_REST = 0.8; // steps for which the last frame stays before the animation ends

export function createPlaying() {
  const frame = signal<number | null>(null); // null: everything is shown
  const isPlaying = signal(false);
  const speed = signal(1);
  const length = signal(0);
  let before: number | null = null;
  let exact = 0; // the exact frame; where motion is reduced, the shown one is rounded down

  const isReduced = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  function finish(): void {
    isPlaying.value = false;
    frame.value = null;
  }

  function tick(now: number): void {
    if (!isPlaying.value) return;
    const passed = before === null ? 0 : Math.min(now - before, 200) / 1000;
    before = now;
    exact += passed * PER_SECOND * speed.value;
    if (exact >= length.value + AT_REST) {
      finish();
      return;
    }
    const shown = isReduced() ? Math.floor(exact) : exact;
    frame.value = Math.min(shown, length.value);
    requestAnimationFrame(tick);
  }

  function seek(to: number): void {
    isPlaying.value = false;
    frame.value = Math.min(Math.max(to, 0), length.value);
  }

  return {
    frame,
    isPlaying,
    speed,
    length,
    finish,
    seek,
    play(): void {
      const at = frame.value;
      exact = at === null || at >= length.value ? 0 : at;
      before = null;
      isPlaying.value = true;
      frame.value = exact;
      requestAnimationFrame(tick);
    },
    pause(): void {
      isPlaying.value = false;
    },
    step(by: 1 | -1): void {
      const at = frame.value ?? (by > 0 ? -1 : length.value);
      seek(by > 0 ? Math.floor(at) + 1 : Math.ceil(at) - 1);
    },
  };
}
