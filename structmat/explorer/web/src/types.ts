/** The contract between the page and the library: questions and answers are JSON. */

/**
 * A network of a family or a composition, one drawn by hand (stages of lists of wires), or the JSON
 * object of `Network.to_json`, which only a notebook asks about.
 */
export type Question =
  | { width: number; spec: string; stages?: undefined; network?: undefined }
  | { width: number; stages: number[][][]; spec?: undefined; network?: undefined }
  | { width: number; network: unknown; spec?: undefined; stages?: undefined };

/** A switch: the wires that it reads, and those that it writes where they differ. */
export type Switch = [reads: number[]] | [reads: number[], writes: number[]];

/** Wires in no switch keep their place, unless a move [from, to] is listed. */
export interface Stage {
  switches: Switch[];
  moves: [from: number, to: number][];
  banks?: number[]; // the number of switches of each bank
}

/** A matrix in row-major order, at most 128 x 128: rows are bins of wires after, columns before. */
export interface Density {
  rows: number;
  columns: number;
  values: number[];
}

export interface Bound {
  goal: string;
  quantity: string;
  least: number;
  value: number;
  reason: string;
  excess: number; // value - least: negative if the network is below the lower bound
}

export interface Cost {
  flops: number;
  dense: number;
  bytes: number;
  launches: number;
  steps: string[];
}

/** A step of the schedule; `order[k]` is the position before it of the wire at k after it. */
export type Step =
  | { kind: "gather"; text: string; order?: number[] | null } // order: up to 128 wires
  // Blocks on neighbouring positions from `start` on; a product with several radices is several steps.
  | {
      kind: "blocks";
      text: string;
      stage: number;
      start: number;
      radix: number;
      count: number;
    };

/** How unevenly inputs spread over the outputs: `value` is 0 for perfect mixing, at most 1. */
export interface Mixing {
  value: number;
  method: string; // shown as it is
}

export interface Components {
  count: number;
  sizes?: number[]; // if there are several
}

/** The answer to `network`. A number that is too expensive is null; `reasons` states why. */
export interface Network {
  spec: string | null; // null: drawn by hand
  form: { family: string; options: Record<string, string> } | null; // null: no single family
  code: string; // Python that makes the network
  widths: number[]; // suggestions
  width: number;
  depth: number;
  labels: string[] | null;
  straight: boolean;
  stages: Stage[] | null; // up to 128 wires, with a limit on edges
  summary?: string | null; // the diagram as text, where stages is null
  bundles?: Density[] | null; // where stages is null: for each stage, the number of edges
  reach?: Density[] | null; // for depth+1 columns: the fraction of pairs (input, wire) with a path
  reached: number | null; // pairs of an input and an output with a path
  bounds: Bound[];
  cost: Cost | null;
  parameters: number;
  nonzeros: number;
  free_edges: number;
  dense: boolean | null;
  dense_depth: number | null;
  why_not_dense: string | null;
  components?: Components | number | null;
  mixing?: Mixing | null;
  permutations?: Step[] | null;
  reasons?: Record<string, string>; // by the name of a null entry
  dimension?: Dimension; // of saved pages only
  unmeasured?: string; // set by the page: why there are no numbers
}

/** The answer to `dimension`; null if a newer question of the same page replaced it. */
export interface Dimension {
  lower: number;
  upper: number;
  parameters: number;
  ranked: boolean;
  value: number | null;
  proved: boolean;
  redundant: number;
  late: boolean;
}

/** A record of the atlas: an element of the answer to `atlas`. */
export interface AtlasRecord {
  purpose: string;
  title: string;
  blocks: number[];
  value: number | null;
  bound: number | null;
  meets: boolean | null;
  reason: string | null;
  topology: string | null;
  question: Question | null;
}

/** A part of the answer to `survey`: the question's `start` is the number of rows already known. */
export interface SurveyPart {
  rows: SurveyRow[];
  next: number | null; // the start of the next question; null at the end
  refused: { family: string; reason: string }[]; // families without a network of this width
}

/** A family at a width. */
export interface SurveyRow {
  spec: string;
  family?: string | null;
  kin: string;
  parameters: number;
  depth: number;
  dense: boolean | null;
  flops: number;
  dimension: { lower: number; upper: number; value: number | null } | null;
  mixing: number | null;
  seconds: number | null; // median time per vector of applying it to a block in numpy
}

/** An error of the library: one line, and widths that would be accepted. */
export interface Refusal {
  error: string;
  widths: number[];
}

export interface Option {
  name: string;
  default: string;
  needed: boolean;
  hint: string;
}

export interface FamilyInfo {
  name: string;
  kin?: string; // heading of its group, in the order of appearance
  widths: string;
  summary: string;
  own: boolean; // a user's own
  options: Option[];
  example?: { spec: string; width: number } | null; // one that works
}

/** The JSON of #structmat-data, or the trait `data` of the widget. */
export interface PageData {
  version: string;
  widest: number;
  drawn: number; // the largest width that can be drawn by hand, and as single wires
  colours?: string[]; // of switches: structmat.viz.COLOURS
  families: FamilyInfo[];
  compositions?: { spec: string; width: number }[]; // examples of operations on families
  first: Question;
  load: string; // " --load FILE", for commands
  saved: Network[] | null; // null: there is a server or a kernel
  atlas?: Record<string, AtlasRecord[]>; // of a saved page, by width
  survey?: Record<string, SurveyRow[]>; // of a saved page, by width
}

/** A source of answers: a server, the data of a saved page, or the kernel of a notebook. */
export interface Source {
  readonly isLive: boolean; // false: only the networks in the data have numbers
  network(question: Question): Promise<Network>;
  dimension(question: Question): Promise<Dimension | null>;
  atlas(width: number): Promise<AtlasRecord[]>;
  survey(width: number, start: number): Promise<SurveyPart | null>; // null: replaced by a newer one
}

/**
 * Messages of the widget: the page sends a WidgetQuestion, the kernel answers with a WidgetAnswer.
 * Its traits are `data` (PageData, `saved: null`) and `question` (Question), which is synchronised
 * both ways: the page sets it when it shows a network, and shows a network when it is set.
 */
export interface WidgetQuestion {
  id: number;
  name: "network" | "dimension" | "atlas" | "survey";
  question: Question | { width: number; start?: number };
}

export type WidgetAnswer =
  | { id: number; answer: unknown }
  | { id: number; error: string; widths?: number[] };

/**
 * A network with angles, as the page exports it. `network` is the JSON of `Network.to_json`;
 * `angles[t][k]` are the r(r-1)/2 angles of switch k of stage t in the order of
 * `structmat.linalg.blocks.givens`. Switches are numbered bank by bank, as in `stages`.
 */
export interface RotationFile {
  format: "structmat.angles";
  version: 1;
  network: unknown;
  angles: number[][][];
}
