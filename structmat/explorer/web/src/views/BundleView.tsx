import { type ReadonlySignal, useSignalEffect } from "@preact/signals";
import { select } from "d3-selection";
import { type ZoomTransform, zoom, zoomIdentity } from "d3-zoom";
import { useEffect, useRef } from "preact/hooks";
import type { Place } from "@/mathematics/spreading";
import type { Density, Network } from "@/types";
import { colour, css, scheme } from "@/views/colours";
import { useIds, useStore } from "@/views/context";
import { useRoom } from "@/views/room";

const HEIGHT = 520;
const MARGIN = 34;
const LEVELS = 6; // of opacity, to draw lines together

/** A wide network on a canvas: the density of edges between groups of wires, with zoom. */
export function BundleView({ net, at }: { net: Network; at: ReadonlySignal<Place | null> }) {
  const { pinned, playing } = useStore();
  const id = useIds();
  const home = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const view = useRef<ZoomTransform>(zoomIdentity);
  const room = useRoom(home);
  const bundles = net.bundles ?? [];
  const groups = bundles[0]?.columns ?? 1;

  function repaint(): void {
    if (!canvas.current || !room) return;
    const place = at.value ?? pinned.value;
    const source = place ? Math.min(place.wire, groups - 1) : null;
    const frame = playing.frame.value ?? bundles.length;
    paint(canvas.current, { bundles, reach: net.reach ?? null, source, frame }, view.current);
  }
  useSignalEffect(() => {
    void [at.value, pinned.value, playing.frame.value, scheme.value];
    repaint();
  });
  useEffect(repaint);
  useEffect(() => {
    const behaviour = zoom<HTMLCanvasElement, unknown>()
      .scaleExtent([1, 24])
      .on("zoom", ({ transform }) => {
        view.current = transform;
        repaint();
      });
    select(canvas.current!).call(behaviour);
  });

  return (
    <div class="bundles" ref={home}>
      <canvas
        data-picture
        id={id("bundles")}
        ref={canvas}
        role="img"
        aria-label={
          `Density of edges between ${groups} groups of wires:` +
          ` ${net.width.toLocaleString("en-US")} wires, ${net.depth} stages`
        }
        width={room * devicePixelRatio}
        height={HEIGHT * devicePixelRatio}
        style={{ width: `${room}px`, height: `${HEIGHT}px` }}
      />
      <label for={id("group")}>
        Group of inputs <span class="aside">whose influence is shown</span>
      </label>
      <div class="slider">
        <input
          type="range"
          id={id("group")}
          min="0"
          max={groups - 1}
          value={pinned.value?.wire ?? 0}
          onInput={(event) => {
            pinned.value = { column: 0, wire: event.currentTarget.valueAsNumber };
          }}
        />
        <output>{wiresOf(pinned.value?.wire ?? 0, groups, net.width)}</output>
      </div>
    </div>
  );
}

/** Return the wires of a group, as text. */
export function wiresOf(group: number, groups: number, width: number): string {
  const start = Math.floor((group * width) / groups);
  const end = Math.floor(((group + 1) * width) / groups) - 1;
  return `wires ${start.toLocaleString("en-US")} to ${end.toLocaleString("en-US")}`;
}

interface Painted {
  bundles: Density[];
  reach: Density[] | null;
  source: number | null;
  frame: number;
}

function paint(canvas: HTMLCanvasElement, shown: Painted, view: ZoomTransform): void {
  const { bundles, reach, source, frame } = shown;
  const context = canvas.getContext("2d")!;
  const scale = devicePixelRatio;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  const [across, down] = [canvas.width / scale, canvas.height / scale];
  context.clearRect(0, 0, across, down);
  context.setTransform(scale * view.k, 0, 0, scale * view.k, scale * view.x, scale * view.y);
  const step = (across - 2 * MARGIN) / Math.max(bundles.length, 1);
  const x = (column: number) => MARGIN + column * step;
  const y = (group: number, groups: number) =>
    MARGIN + ((group + 0.5) * (down - 2 * MARGIN)) / groups;
  const isLit = (column: number, group: number) =>
    source !== null && (reach?.[column]?.values[group * reach[column].columns + source] ?? 0) > 0;

  context.lineWidth = 1 / view.k;
  bundles.forEach((bundle, t) => {
    const [own, quiet] = [
      colour(canvas.parentElement!, `--switch-${t % 6}`),
      colour(canvas.parentElement!, "--wire"),
    ];
    const most = bundle.values.reduce((a, b) => Math.max(a, b), 0) || 1;
    const paths = new Map<string, Path2D>();
    bundle.values.forEach((value, k) => {
      if (!value) return;
      const [to, from] = [Math.floor(k / bundle.columns), k % bundle.columns];
      const isOn = source !== null && t < frame && isLit(t, from);
      const level = Math.ceil((LEVELS * value) / most);
      const key = `${isOn ? 1 : 0}${level}`;
      const path = paths.get(key) ?? new Path2D();
      const part = isOn ? Math.min(frame - t, 1) : 1;
      const [y0, y1] = [y(from, bundle.columns), y(to, bundle.rows)];
      path.moveTo(x(t), y0);
      path.lineTo(x(t) + part * step, y0 + part * (y1 - y0));
      paths.set(key, path);
    });
    const alpha = 1 / Math.max(Math.sqrt(bundle.values.filter(Boolean).length / 256), 1);
    for (const [key, path] of [...paths].sort()) {
      const isOn = key[0] === "1";
      const strength = (Number(key.slice(1)) / LEVELS) * alpha;
      const faded = source === null ? 0.85 : 0.2;
      context.strokeStyle = css(
        source === null || isOn ? own : quiet,
        isOn ? Math.max(strength, 0.25) : strength * faded,
      );
      context.stroke(path);
    }
  });
  paintReach(context, shown, {
    x,
    y,
    ink: colour(canvas.parentElement!, "--ink"),
    size: down / 160,
  });
}

interface Pen {
  x(column: number): number;
  y(group: number, groups: number): number;
  ink: [number, number, number];
  size: number;
}

/** Paint the groups of each column, darker the more of their wires the source influences. */
function paintReach(context: CanvasRenderingContext2D, shown: Painted, pen: Pen): void {
  const { bundles, reach, source, frame } = shown;
  for (let column = 0; column <= bundles.length; column += 1) {
    const groups = bundles[Math.min(column, bundles.length - 1)]?.columns ?? 0;
    for (let group = 0; group < groups; group += 1) {
      const cells = reach?.[column];
      const share =
        source === null || column > frame
          ? 0
          : (cells?.values[group * cells.columns + source] ?? 0);
      context.fillStyle = css(pen.ink, share ? 0.25 + 0.75 * share : 0.12);
      context.fillRect(
        pen.x(column) - pen.size / 2,
        pen.y(group, groups) - pen.size / 2,
        pen.size,
        pen.size,
      );
    }
  }
}
