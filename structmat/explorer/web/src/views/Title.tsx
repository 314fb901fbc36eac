import { counted } from "@/text";
import type { Network } from "@/types";
import { useStore } from "@/views/context";

/** The name and size of a network. */
export function Title({ net }: { net: Network }) {
  const { asked } = useStore();
  const unnamed = asked.value?.network === undefined ? "drawn by hand" : "from Python";
  return (
    <>
      {net.spec === null ? unnamed : <code>{net.spec}</code>}
      <span class="aside">{` · ${counted(net.width, "wire")}, ${counted(net.depth, "stage")}`}</span>
    </>
  );
}
