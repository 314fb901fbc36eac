import { counted, grouped } from "@/text";
import { useIds, useStore } from "@/views/context";

/** The schedule in words. */
export function Cost() {
  const { isStale, net } = useStore();
  const id = useIds();
  const cost = net.value?.cost;
  return (
    <section
      class={`card cost${isStale.value ? " stale" : ""}`}
      aria-labelledby={id("cost-title")}
      hidden={!cost}
    >
      <h2 id={id("cost-title")}>Schedule</h2>
      <p id={id("cost")}>
        {cost &&
          `Applying the network to one vector takes ${counted(cost.flops, "operation")}, ` +
            `${Number((cost.flops / cost.dense).toPrecision(2))} of the ${grouped(cost.dense)} of a dense product, ` +
            `and moves ${counted(cost.bytes, "byte")} of float32 data in ${counted(cost.launches, "pass", "passes")}.`}
      </p>
      <ol id={id("steps")} class="steps">
        {cost?.steps.map((step, k) => (
          <li key={k}>{step}</li>
        ))}
      </ol>
    </section>
  );
}
