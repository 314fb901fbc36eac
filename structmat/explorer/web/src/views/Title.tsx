import { counted } from "@/text";
import type { Network } from "@/types";

/** The name and size of a network. */
export function Title({ net }: { net: Network }) {
  return (
    <>
      {net.spec === null ? "drawn by hand" : <code>{net.spec}</code>}
      <span class="aside">{` · ${counted(net.width, "wire")}, ${counted(net.depth, "stage")}`}</span>
    </>
  );
}
