import type { Refusal } from "@/types";

/** An error from the library: its message, and valid widths. */
export class Refused extends Error {
  readonly widths: number[];

  constructor(refusal: Refusal) {
    super(refusal.error);
    this.widths = refusal.widths ?? [];
  }
}

/** A question without an answer. */
export class Lost extends Refused {
  constructor(error = "The server does not answer; start structmat explore again.") {
    super({ error, widths: [] });
  }
}
