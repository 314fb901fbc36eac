import { useIds, useStore } from "@/views/context";
import { DrawForm } from "@/views/DrawForm";
import { FamilyForm } from "@/views/FamilyForm";
import { SavedForm } from "@/views/SavedForm";

/** The panel in which a network is selected, or drawn. */
export function Choose() {
  const store = useStore();
  const { data, isDrawing } = store;
  const id = useIds();
  return (
    <section class="card choose" aria-label="Choose a network">
      <div class="modes" role="group" aria-label="Mode">
        <button
          type="button"
          id={id("mode-pick")}
          aria-pressed={!isDrawing.value}
          onClick={() => void store.pickMode()}
        >
          Select a family
        </button>
        <button
          type="button"
          id={id("mode-draw")}
          aria-pressed={isDrawing.value}
          onClick={() => store.drawMode()}
        >
          Draw a network
        </button>
      </div>
      {isDrawing.value ? <DrawForm /> : data.saved ? <SavedForm /> : <FamilyForm />}
    </section>
  );
}
