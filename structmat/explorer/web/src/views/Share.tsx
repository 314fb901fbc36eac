import { CopyButton } from "@/views/CopyButton";
import { useIds, useStore } from "@/views/context";

/** A button that copies the address of the current view. */
export function Share() {
  const { place } = useStore();
  const id = useIds();
  if (place.link() === null) return null;
  return (
    <CopyButton
      id={id("share")}
      text={() => place.link() ?? ""}
      label="Share: copy a link to this view"
      name="Share"
      title="Copy a link to this view"
    />
  );
}
