/** The angles of the shown network: a preset, and angles changed by hand. */

import { computed, type ReadonlySignal, signal } from "@preact/signals";
import { type Angles, anglesBy, evenAngles, nameOf, randomAngles } from "@/mathematics/rotations";
import type { Network } from "@/types";

export const PRESETS = ["random", "even", "identity"] as const;
export type Preset = (typeof PRESETS)[number];

export function createValues(net: ReadonlySignal<Network | null>) {
  const preset = signal<Preset>("even");
  const seed = signal(0);
  const changed = signal<Record<string, number[]>>({}); // by stage and wires

  const key = (one: Network, t: number, k: number) =>
    `${t}: ${nameOf(one.stages![t]!.switches[k]!)}`;

  /** Return the angles of a network, with those changed by hand if it is the shown one. */
  function anglesOf(one: Network): Angles {
    const made =
      preset.value === "random"
        ? randomAngles(one, seed.value)
        : preset.value === "even"
          ? evenAngles(one)
          : anglesBy(one, () => 0);
    if (one !== net.value) return made;
    return made.map((stage, t) => stage.map((own, k) => changed.value[key(one, t, k)] ?? own));
  }

  const angles = computed(() => (net.value?.stages ? anglesOf(net.value) : null));

  return {
    preset,
    seed,
    angles,
    anglesOf,
    choose(name: Preset): void {
      if (name === "random" && preset.value === "random") seed.value += 1;
      preset.value = name;
      changed.value = {};
    },
    change(t: number, k: number, plane: number, angle: number): void {
      const own = angles.value?.[t]?.[k];
      if (!own || !net.value) return;
      changed.value = { ...changed.value, [key(net.value, t, k)]: own.with(plane, angle) };
    },
  };
}
