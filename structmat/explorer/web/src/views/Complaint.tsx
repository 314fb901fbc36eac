import { useEffect, useRef } from "preact/hooks";
import { useIds, useStore } from "@/views/context";

/** The library's error message, or a note, next to the form. */
export function Complaint() {
  const { complaint, note } = useStore();
  const id = useIds();
  const home = useRef<HTMLParagraphElement>(null);
  useEffect(() => {
    if (complaint.value) home.current?.scrollIntoView({ block: "nearest" });
  }, [complaint.value]);
  return (
    <>
      <p
        ref={home}
        id={id("error")}
        class="error"
        role="alert"
        tabIndex={0}
        hidden={!complaint.value}
      >
        {complaint.value}
      </p>
      <p id={id("note")} class="note" role="status" hidden={!note.value}>
        {note.value}
      </p>
    </>
  );
}
