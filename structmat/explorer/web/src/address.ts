/**
 * The address encodes what is shown: #16:butterfly(block=4) is a family at a width, and
 * #8=0-4,1-5;1-4 a drawing. A second network and a view may follow: #16:benes&8:omega&view=matrix.
 */

import { Refused } from "@/sources/refused";
import type { Question } from "@/types";

export const VIEWS = ["network", "matrix", "schedule", "families"] as const;
export type ViewName = (typeof VIEWS)[number];

export interface Address {
  question: Question;
  second: Question | null;
  view: ViewName;
}

/** Return the part of an address that identifies networks and a view. */
export function written({ question, second, view }: Address): string {
  const parts = [named(question)];
  if (second) parts.push(named(second));
  if (view !== "network") parts.push(`view=${view}`);
  return encodeURI(`#${parts.join("&")}`);
}

/** Return what an address names, or null if it is empty; `drawn` is the largest width of drawings. */
export function read(hash: string, drawn: number): Address | null {
  if (hash.length < 2) return null;
  const text = decoded(hash);
  const [first = "", ...rest] = text.slice(1).split("&");
  const address: Address = { question: network(first, text, drawn), second: null, view: "network" };
  for (const part of rest) {
    const view = VIEWS.find((name) => part === `view=${name}`);
    if (view) address.view = view;
    else address.second = network(part, text, drawn);
  }
  return address;
}

function named(question: Question): string {
  if (question.network !== undefined) return `${question.width}`; // of a notebook: not in addresses
  if (question.stages === undefined) return `${question.width}:${question.spec}`;
  const stages = question.stages.map((stage) => stage.map((wires) => wires.join("-")).join(","));
  return `${question.width}=${stages.join(";")}`;
}

function decoded(hash: string): string {
  try {
    return decodeURIComponent(hash);
  } catch {
    return hash; // with an invalid %
  }
}

function network(part: string, text: string, drawn: number): Question {
  const [, width, mark, rest = ""] = /^(\d+)([:=])(.*)$/.exec(part) ?? [];
  if (mark === ":" && rest) return { spec: rest, width: Number(width) };
  if (mark === "=")
    return { width: Number(width), stages: stages(rest, Number(width), text, drawn) };
  throw unreadable(text, "no such network");
}

/** Return the stages of a drawing, validated because they are drawn before the library is asked. */
function stages(rest: string, width: number, text: string, drawn: number): number[][][] {
  if (width < 2 || width > drawn) throw unreadable(text, `2 to ${drawn} wires can be drawn`);
  return rest
    .split(";")
    .filter(Boolean)
    .map((stage) => {
      const seen = new Set<number>();
      return stage.split(",").map((wires) =>
        wires.split("-").map((wire) => {
          const number = Number(wire);
          if (!/^\d+$/.test(wire) || number >= width) {
            throw unreadable(text, `"${wire}" is not one of ${width} wires`);
          }
          if (seen.has(number)) throw unreadable(text, `a stage joins wire ${number} twice`);
          seen.add(number);
          return number;
        }),
      );
    });
}

function unreadable(text: string, reason: string): Refused {
  const error =
    `The address ends in ${text}: ${reason}; give a width and a spec, as in` +
    " #16:butterfly(block=4), or the wires of switches, as in #8=0-4,1-5;1-4";
  return new Refused({ error, widths: [] });
}
