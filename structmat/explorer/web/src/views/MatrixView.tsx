import { useMemo, useState } from "preact/hooks";
import { energies, matrix } from "@/mathematics/rotations";
import { percent } from "@/text";
import type { Network } from "@/types";
import { AngleControls } from "@/views/AngleControls";
import { useIds, useStore } from "@/views/context";
import { HeatMap } from "@/views/HeatMap";
import { Title } from "@/views/Title";

/** The matrix as a heat map, with the energy of each output, and angles to change. */
export function MatrixView() {
  const { net, second, values } = useStore();
  const [input, setInput] = useState(0);
  const id = useIds();
  const one = net.value;
  if (!one) return null;
  if (!one.stages) {
    return (
      <p class="hint">
        The matrix is shown only for networks that are drawn wire by wire, of up to 128 wires.
      </p>
    );
  }
  const other = second.value?.net;
  return (
    <div class="matrix-view">
      <div class={other?.stages ? "panes two" : "panes"}>
        <Pane net={one} input={input} choose={setInput} name="matrix" />
        {other?.stages && <Pane net={other} input={input} choose={setInput} name="second-matrix" />}
      </div>
      <div class="values" key={`${one.width} ${one.depth}`}>
        <label for={id("input")}>
          Input <span class="aside">whose energy is shown</span>
        </label>
        <div class="slider">
          <input
            type="range"
            id={id("input")}
            min="0"
            max={one.width - 1}
            value={Math.min(input, one.width - 1)}
            onInput={(event) => setInput(event.currentTarget.valueAsNumber)}
          />
          <output>{one.labels?.[input] ?? Math.min(input, one.width - 1)}</output>
        </div>
        <AngleControls net={one} angles={values.angles.value ?? []} />
      </div>
    </div>
  );
}

interface PaneProps {
  net: Network;
  input: number;
  choose(input: number): void;
  name: string;
}

function Pane({ net, input, choose, name }: PaneProps) {
  const { second, values } = useStore();
  const id = useIds();
  const angles = values.anglesOf(net);
  const stages = net.stages!;
  const entries = useMemo(() => matrix(stages, angles, net.width), [stages, angles, net.width]);
  const column = Math.min(input, net.width - 1);
  const shares = energies(entries, net.width, column);
  const most = shares.reduce((best, share, wire) => (share > shares[best]! ? wire : best), 0);
  const reached = shares.filter((share) => share > 1e-20).length;
  return (
    <div class="pane">
      {second.value && (
        <h3>
          <Title net={net} />
        </h3>
      )}
      <HeatMap
        entries={entries}
        width={net.width}
        input={column}
        shares={shares}
        choose={choose}
        name={name}
      />
      <p class="energy" id={id(`${name}-energy`)}>
        {`The energy of a unit vector on input ${net.labels?.[column] ?? column} reaches ${reached} of ` +
          `${net.width} outputs. Output ${net.labels?.[most] ?? most} has the most, ${percent(shares[most]!, 1)}; ` +
          `if it were spread evenly, each output would have ${percent(1, net.width)}.`}
      </p>
    </div>
  );
}
