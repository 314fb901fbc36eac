import type { Angles } from "@/mathematics/rotations";
import type { Network } from "@/types";

/** Return a program that makes a network with these angles as a `Rotation`. */
export function rotationCode(net: Network, angles: Angles): string {
  const rows = angles.map((stage) => `    ${JSON.stringify(stage)},\n`).join("");
  return `${net.code}

from structmat.linalg.angle_file import blocks_of

angles = [  # for each stage, for each switch
${rows}]
rotation = sm.Rotation(net, blocks_of(net, angles))
`;
}
