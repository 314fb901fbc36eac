import { useState } from "preact/hooks";
import { copied } from "@/copying";

interface Props {
  text: () => string;
  label: string; // for screen readers
  name?: string;
  id?: string;
  title?: string;
}

/** A button that copies a text, and shows whether that worked. */
export function CopyButton({ text, label, name = "Copy", id, title }: Props) {
  const [said, setSaid] = useState("");
  return (
    <button
      type="button"
      id={id}
      title={title}
      aria-label={said ? undefined : label}
      onClick={async () => {
        setSaid((await copied(text())) ? "Copied" : "Select and copy by hand");
        setTimeout(() => setSaid(""), 2000);
      }}
    >
      {said || name}
    </button>
  );
}
