import { counted, grouped } from "@/text";
import { useIds, useStore } from "@/views/context";

/** The schedule in words. */
export function Cost() {
  const { net } = useStore();
  const id = useIds();
  const cost = net.value?.cost;
  if (!cost) return null;
  const { bytes, dense, flops, launches, steps } = cost;
  return (
    <div class="cost">
      <p id={id("cost")} class="energy">
        {`Applying the network to one vector takes ${counted(flops, "operation")} ` +
          `(${Number((flops / dense).toPrecision(2))} times the ${grouped(dense)} of a dense product) ` +
          `and moves ${counted(bytes, "byte")} of float32 data in ${counted(launches, "pass", "passes")}.`}
      </p>
      <ol id={id("steps")} class="steps">
        {steps.map((step, k) => (
          <li key={k}>{step}</li>
        ))}
      </ol>
    </div>
  );
}
