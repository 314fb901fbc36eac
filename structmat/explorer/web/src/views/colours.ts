/** Colours of the style sheet for canvases, in the present colour scheme. */

import { signal } from "@preact/signals";

/** Changes whenever the colour scheme does, so that canvases are painted again. */
export const scheme = signal(0);

export function watchScheme(): void {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    scheme.value += 1;
  });
}

/** Return a custom property as red, green and blue. */
export function colour(home: HTMLElement, name: string): [number, number, number] {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  home.append(probe);
  const [r = 0, g = 0, b = 0] = (getComputedStyle(probe).color.match(/[\d.]+/g) ?? []).map(Number);
  probe.remove();
  return [r, g, b];
}

export const css = ([r, g, b]: [number, number, number], alpha = 1) =>
  `rgba(${r}, ${g}, ${b}, ${alpha})`;
