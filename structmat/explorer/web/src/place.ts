/** Where the shown networks are written down: the address of the page, or nowhere in a notebook. */

export interface Place {
  hash(): string;
  /** Write an address; consecutive ones of one kind are one step for Back, null begins a new one. */
  write(hash: string, kind: string | null): void;
  onChange(visit: () => void): void;
  link(): string | null; // a link to share, if there is an address
}

export function browserPlace(): Place {
  return {
    hash: () => location.hash,
    write(hash, kind) {
      const goesOn = kind === "address" || (kind !== null && history.state?.kind === kind);
      const write = hash === location.hash || goesOn ? "replaceState" : "pushState";
      history[write]({ kind }, "", hash);
    },
    onChange: (visit) => addEventListener("hashchange", visit),
    link: () => location.href,
  };
}

/** A place for a page without an address. */
export function nowhere(): Place {
  return { hash: () => "", write: () => {}, onChange: () => {}, link: () => null };
}
