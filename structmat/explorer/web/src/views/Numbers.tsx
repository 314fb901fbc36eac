import type { ComponentChildren } from "preact";
import { counted, grouped, percent, short } from "@/text";
import type { Dimension, Network } from "@/types";
import { useIds, useStore } from "@/views/context";

/** The numbers that the library computes for the shown network. */
export function Numbers() {
  const { dimension, failure, isStale, net, second } = useStore();
  const id = useIds();
  const one = net.value;
  return (
    <section
      class={`card numbers${isStale.value ? " stale" : ""}`}
      aria-labelledby={id("numbers-title")}
    >
      <h2 id={id("numbers-title")}>Properties</h2>
      <dl id={id("numbers")} class="tiles">
        {one?.unmeasured ? <Unmeasured reason={one.unmeasured} /> : null}
        {one && !one.unmeasured ? (
          <>
            <Density net={one} beside={second.value?.net} />
            <DimensionTile
              net={one}
              found={dimension.value}
              failure={failure.value}
              beside={second.value?.dimension}
            />
            <Counts net={one} beside={second.value?.net} />
          </>
        ) : null}
      </dl>
    </section>
  );
}

function Unmeasured({ reason }: { reason: string }) {
  return (
    <div class="wide">
      <dt>Drawn by hand</dt>
      <dd class="more">
        {reason} The page still shows which wires influence which; to compute the numbers of a
        drawing, run <code>structmat explore</code>.
      </dd>
    </div>
  );
}

interface TileProps {
  id: string;
  name: string;
  value: ComponentChildren;
  more: string;
  share?: number;
  beside?: string | null | undefined;
  isWaiting?: boolean;
  isWrong?: boolean;
}

/** A number with a note, a bar for its fraction of a whole, and the second network's number. */
function Tile({ id, name, value, more, share, beside, isWaiting, isWrong }: TileProps) {
  const ids = useIds();
  return (
    <div id={ids(id)}>
      <dt>{name}</dt>
      <dd class={isWaiting ? "value waiting" : "value"}>{value}</dd>
      {beside !== undefined && beside !== null && (
        <dd class="beside">{`compared with ${beside}`}</dd>
      )}
      {share !== undefined && (
        <dd class="share">
          <svg
            class="meter"
            viewBox="0 0 100 4"
            preserveAspectRatio="none"
            width="100%"
            aria-hidden="true"
          >
            <rect width={100 * share} height={4} />
          </svg>
        </dd>
      )}
      <dd class={isWrong ? "more below" : "more"}>{more}</dd>
    </div>
  );
}

function Density({ net, beside }: { net: Network; beside: Network | undefined }) {
  const pairs = net.width ** 2;
  const show = (one: Network) =>
    one.reached === null ? "–" : percent(one.reached, one.width ** 2);
  const pieces =
    net.reached === null
      ? net.reasons?.reached
      : `${grouped(net.reached)} of ${grouped(pairs)} pairs`;
  return (
    <Tile
      id="density"
      name="Density"
      value={show(net)}
      share={(net.reached ?? 0) / pairs}
      more={[pieces, whyDense(net)].filter(Boolean).join("; ")}
      isWrong={net.dense === false && componentsOf(net) > 1}
      beside={beside && show(beside)}
    />
  );
}

export function componentsOf({ components }: Network): number {
  return typeof components === "number" ? components : (components?.count ?? 1);
}

function whyDense(net: Network): string {
  const several = componentsOf(net);
  if (several > 1) {
    return `${counted(several, "connected component")}: no repetition makes it dense`;
  }
  if (net.dense === null) return net.reasons?.dense ?? "";
  if (net.dense_depth === null)
    return `not dense${net.why_not_dense ? `: ${net.why_not_dense}` : ""}`;
  return `dense after ${net.dense_depth} of ${counted(net.depth, "stage")}`;
}

interface DimensionProps {
  net: Network;
  found: Dimension | null;
  failure: string;
  beside: Dimension | null | undefined;
}

function DimensionTile({ net, found, failure, beside }: DimensionProps) {
  const group = (net.width * (net.width - 1)) / 2;
  const common = { id: "dimension", name: "Dimension", beside: beside && between(beside) };
  if (!found) {
    return failure ? (
      <Tile {...common} value="–" share={0} more={failure} />
    ) : (
      <Tile {...common} value="…" share={0} more="being computed" isWaiting />
    );
  }
  return (
    <Tile
      {...common}
      value={between(found)}
      share={group ? found.lower / group : 1}
      more={aboutDimension(found, `of ${grouped(group)} in SO(${net.width})`)}
    />
  );
}

const between = ({ lower, upper, ranked, proved }: Dimension): string =>
  ranked || proved ? grouped(lower) : `${grouped(lower)} to ${grouped(upper)}`;

function aboutDimension(found: Dimension, of: string): string {
  const { late, parameters, proved, ranked, redundant, upper } = found;
  if (late) return `${of}; computing it takes more than half a minute; use sm.dimension(net)`;
  if (!ranked && !proved) {
    return `${of}; these are bounds; sm.dimension(net) takes longer but computes the value`;
  }
  if (!proved) return `${of}; a lower bound, almost surely exact; at most ${grouped(upper)}`;
  if (redundant) return `${of}; ${counted(redundant, "parameter")} redundant`;
  return parameters ? `${of}; no parameter is redundant` : of;
}

function Counts({ net, beside }: { net: Network; beside: Network | undefined }) {
  const group = (net.width * (net.width - 1)) / 2;
  const { cost, mixing } = net;
  const also = (show: (one: Network) => number | null | undefined) => {
    const number = beside && show(beside);
    return typeof number === "number" ? short(number) : undefined;
  };
  return (
    <>
      <Tile
        id="parameters"
        name="Parameters"
        value={grouped(net.parameters)}
        share={group ? Math.min(net.parameters / group, 1) : 1}
        more={`SO(${net.width}) has ${grouped(group)} dimensions`}
        beside={also((one) => one.parameters)}
      />
      <Tile
        id="flops"
        name="Operations"
        value={cost ? grouped(cost.flops) : "–"}
        share={cost ? Math.min(cost.flops / cost.dense, 1) : 0}
        more={
          cost
            ? `per vector; a dense matrix needs ${grouped(cost.dense)}`
            : (net.reasons?.cost ?? "")
        }
        beside={also((one) => one.cost?.flops)}
      />
      <Tile
        id="depth"
        name="Stages"
        value={grouped(net.depth)}
        more={net.straight ? "no permutations between them" : "permutations between them"}
        beside={also((one) => one.depth)}
      />
      <Tile
        id="dense_depth"
        name="Dense depth"
        value={net.dense_depth === null ? "–" : grouped(net.dense_depth)}
        more={net.reasons?.dense_depth ?? "stages until every input influences every output"}
        beside={also((one) => one.dense_depth)}
      />
      <Tile
        id="nonzeros"
        name="Non-zeros"
        value={grouped(net.nonzeros)}
        more="entries of all factors"
        beside={also((one) => one.nonzeros)}
      />
      <Tile
        id="free_edges"
        name="Free edges"
        value={grouped(net.free_edges)}
        more="twice the parameters"
        beside={also((one) => one.free_edges)}
      />
      {mixing !== undefined && (
        <Tile
          id="mixing"
          name="Mixing"
          value={mixing ? short(mixing.value) : "–"}
          more={mixing?.method ?? net.reasons?.mixing ?? ""}
          beside={also((one) => one.mixing?.value)}
        />
      )}
    </>
  );
}
