import { grouped } from "@/text";
import { useIds, useStore } from "@/views/context";
import { componentsOf } from "@/views/Numbers";

/** The lower bounds for networks of this width. */
export function Bounds() {
  const { isStale, net } = useStore();
  const id = useIds();
  const one = net.value;
  const isHidden = !one || Boolean(one.unmeasured);
  const several = one ? componentsOf(one) : 1;
  return (
    <section
      class={`card bounds${isStale.value ? " stale" : ""}`}
      aria-labelledby={id("bounds-title")}
      hidden={isHidden}
    >
      <h2 id={id("bounds-title")}>Lower bounds at this width</h2>
      <p class="hint">
        A network below a bound cannot attain the goal. Meeting all bounds is necessary, not
        sufficient.
      </p>
      <table>
        <thead>
          <tr>
            <th scope="col">goal</th>
            <th scope="col">bound</th>
            <th scope="col">network</th>
            <th scope="col">
              <span class="hidden">comparison with the lower bound</span>
            </th>
          </tr>
        </thead>
        <tbody id={id("bounds")}>
          {one?.bounds.map((bound) => {
            const meets = bound.excess >= 0; // necessary, not sufficient
            const isVain = meets && bound.goal === "dense" && one.dense === false;
            return (
              <tr
                key={`${bound.goal} ${bound.quantity}`}
                data-bound={`${bound.goal} ${bound.quantity}`}
              >
                <th scope="row">
                  {`${bound.goal}: ${bound.quantity}`}
                  <span>{bound.reason}</span>
                </th>
                <td data-label="bound">{grouped(bound.least)}</td>
                <td data-label="network">{grouped(bound.value)}</td>
                <td class={meets ? (isVain ? "vain" : "meets") : "below"}>
                  {meets
                    ? "meets the lower bound"
                    : `${grouped(-bound.excess)} below the lower bound`}
                  {isVain && (
                    <span class="yet">
                      {several > 1 ? "never dense: several components" : "not dense"}
                    </span>
                  )}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}
