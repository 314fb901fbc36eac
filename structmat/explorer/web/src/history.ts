/** An immutable history of values: undo and redo return another history. */

export interface History<T> {
  readonly past: readonly T[];
  readonly present: T;
  readonly future: readonly T[];
}

const LONGEST = 500;

export const begun = <T>(present: T): History<T> => ({ past: [], present, future: [] });

/** Replace the present value; it can be restored by undo. */
export function changed<T>({ past, present }: History<T>, next: T): History<T> {
  return { past: [...past.slice(-LONGEST + 1), present], present: next, future: [] };
}

export function undone<T>(history: History<T>): History<T> {
  const { past, present, future } = history;
  if (!past.length) return history;
  return { past: past.slice(0, -1), present: past.at(-1)!, future: [present, ...future] };
}

export function redone<T>(history: History<T>): History<T> {
  const { past, present, future } = history;
  if (!future.length) return history;
  return { past: [...past, present], present: future[0]!, future: future.slice(1) };
}
