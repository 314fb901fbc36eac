import type { Angles } from "@/mathematics/rotations";
import type { Network } from "@/types";

/** Return a program that makes a network with these angles as a `Rotation`. */
export function rotationCode(net: Network, angles: Angles): string {
  const rows = angles.map((stage) => `    ${JSON.stringify(stage)},\n`).join("");
  return `${net.code}

import numpy as np
from structmat.linalg.blocks import givens

angles = [  # for each stage, for each switch
${rows}]
numbers = (one for stage in angles for one in stage)
blocks = [
    givens(np.array([next(numbers) for _ in bank.reads]), bank.reads.shape[1])
    for stage in net.stages
    for bank in stage.banks
]
rotation = sm.Rotation(net, blocks)
`;
}
