import { useState } from "preact/hooks";
import { type Angles, nameOf, planes } from "@/mathematics/rotations";
import type { Network } from "@/types";
import { PRESETS, type Preset } from "@/values";
import { useIds, useStore } from "@/views/context";

const NAMES: Record<Preset, string> = { random: "Random", even: "Even", identity: "Identity" };
const HINTS: Record<Preset, string> = {
  random: "Independent uniform angles; click again for others",
  even: "Switches that spread energy evenly: Hadamard blocks where the radix is a power of two",
  identity: "All angles are zero",
};

/** Presets for the angles of all switches, and sliders for those of one switch. */
export function AngleControls({ net, angles }: { net: Network; angles: Angles }) {
  const { values } = useStore();
  const id = useIds();
  const [at, setAt] = useState("0 0");
  const [t, k] = at.split(" ").map(Number) as [number, number];
  const stages = net.stages ?? [];
  const one = stages[t]?.switches[k];
  const own = angles[t]?.[k];
  return (
    <>
      <h3 id={id("angles-title")}>Angles of all switches</h3>
      <div class="chips" role="group" aria-labelledby={id("angles-title")}>
        {PRESETS.map((name) => (
          <button
            key={name}
            type="button"
            title={HINTS[name]}
            aria-pressed={values.preset.value === name}
            onClick={() => values.choose(name)}
          >
            {NAMES[name]}
          </button>
        ))}
      </div>
      {stages.some(({ switches }) => switches.length > 0) && (
        <>
          <label for={id("switch")}>Switch</label>
          <select
            id={id("switch")}
            value={at}
            onChange={(event) => setAt(event.currentTarget.value)}
          >
            {stages.map(({ switches }, stage) => (
              <optgroup key={stage} label={`Stage ${stage + 1}`}>
                {switches.map((two, number) => (
                  <option key={number} value={`${stage} ${number}`}>
                    {`B${stage + 1}: wires ${nameOf(two)}`}
                  </option>
                ))}
              </optgroup>
            ))}
          </select>
        </>
      )}
      <div class="sliders">
        {one &&
          own &&
          planes(one[0].length).map(([i, j], plane) => {
            const name = `${one[0][i]} and ${one[0][j]}`;
            const degrees = Math.round((own[plane]! * 180) / Math.PI);
            return (
              <label key={plane} class="slider">
                <span>{name}</span>
                <input
                  type="range"
                  data-plane={plane}
                  aria-label={`Angle between wires ${name}`}
                  aria-valuetext={`${degrees} degrees`}
                  min="-180"
                  max="180"
                  step="1"
                  value={(own[plane]! * 180) / Math.PI}
                  onInput={(event) => {
                    const angle = (event.currentTarget.valueAsNumber * Math.PI) / 180;
                    values.change(t, k, plane, angle);
                  }}
                />
                <output>{`${degrees}°`}</output>
              </label>
            );
          })}
      </div>
    </>
  );
}
