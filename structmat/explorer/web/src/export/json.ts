import type { Angles } from "@/mathematics/rotations";
import type { Network, RotationFile, Stage, Switch } from "@/types";

/** Return the stages of a network as `Network.to_json` writes it. */
export function networkJson(net: Network): object {
  const labels = net.labels ? { labels: net.labels } : {};
  const stages = (net.stages ?? []).map(written);
  return { format: "structmat.network", version: 1, width: net.width, stages, ...labels };
}

/** Return a network with its angles. */
export function rotationJson(net: Network, angles: Angles): RotationFile {
  return { format: "structmat.angles", version: 1, network: networkJson(net), angles };
}

/** A bank is [reads], or [reads, writes]; without `banks`, neighbours of one radix are a bank. */
function written({ switches, moves, banks = runs(switches) }: Stage): unknown[] {
  let start = 0;
  const rows: unknown[] = banks.map((count) => {
    const own = switches.slice(start, start + count);
    start += count;
    const reads = own.map(([wires]) => wires);
    return own[0]?.[1] ? [reads, own.map(([, wires]) => wires)] : [reads];
  });
  return moves.length ? [...rows, { moves }] : rows;
}

function runs(switches: Switch[]): number[] {
  const found: number[] = [];
  switches.forEach((one, k) => {
    const before = switches[k - 1];
    const isSame = before?.[0].length === one[0].length && before.length === one.length;
    if (isSame) found[found.length - 1]! += 1;
    else found.push(1);
  });
  return found;
}
