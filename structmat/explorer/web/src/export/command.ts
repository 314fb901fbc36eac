import type { Network, PageData } from "@/types";

/** Return the command that shows a network in a terminal. */
export function command({ spec, width }: Network, { families, load }: PageData): string {
  if (spec === null) return "";
  const words = spec.split(/\W+/);
  const loaded = families.some(({ name, own }) => own && words.includes(name));
  const quoted = /^\w+$/.test(spec) ? spec : `"${spec.replaceAll('"', "'")}"`;
  return `structmat show ${quoted} --width ${width} --full${loaded ? load : ""}`;
}
