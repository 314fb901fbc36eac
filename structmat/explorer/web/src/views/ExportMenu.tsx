import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { copied } from "@/copying";
import { command } from "@/export/command";
import { networkJson, rotationJson } from "@/export/json";
import { download, png, svgText } from "@/export/picture";
import { rotationCode } from "@/export/python";
import { useIds, useStore } from "@/views/context";

/** A menu that exports the picture and the network as files or as text. */
export function ExportMenu({ picture }: { picture: RefObject<HTMLElement | null> }) {
  const { data, net, values, view } = useStore();
  const id = useIds();
  const home = useRef<HTMLDetailsElement>(null);
  const close = () => home.current?.removeAttribute("open");

  useEffect(() => {
    const leave = (event: PointerEvent) => {
      if (!home.current?.contains(event.target as Node)) close();
    };
    document.addEventListener("pointerdown", leave);
    return () => document.removeEventListener("pointerdown", leave);
  });

  const one = net.value;
  if (!one) return null;
  const stem = fileName(one.spec ?? "drawing", one.width);
  const shown = () =>
    picture.current?.querySelector<SVGSVGElement | HTMLCanvasElement>("[data-picture]") ?? null;
  const angles = values.angles.value;
  const hasValues = view.value === "matrix" && angles !== null;
  const entries: { name: string; isOff?: boolean; act(): unknown }[] = [
    {
      name: "Picture as SVG",
      isOff: view.value === "matrix" || (view.value === "network" && !one.stages),
      act: () => {
        const svg = shown();
        if (svg instanceof SVGSVGElement) download(svgText(svg), `${stem}.svg`, "image/svg+xml");
      },
    },
    {
      name: "Picture as PNG",
      act: async () => {
        const any = shown();
        if (any) download(await png(any), `${stem}.png`);
      },
    },
    {
      name: hasValues ? "Network with angles as JSON" : "Network as JSON",
      isOff: !one.stages,
      act: () => {
        const value = hasValues ? rotationJson(one, angles) : networkJson(one);
        download(JSON.stringify(value), `${stem}.json`, "application/json");
      },
    },
    {
      name: hasValues ? "Network with angles as Python" : "Network as Python",
      act: () => {
        download(hasValues ? rotationCode(one, angles) : `${one.code}\n`, `${stem}.py`);
      },
    },
    {
      name: "Copy the terminal command",
      isOff: one.spec === null,
      act: () => copied(command(one, data)),
    },
  ];
  return (
    <details
      class="menu"
      id={id("export")}
      ref={home}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !home.current?.open) return;
        close();
        home.current.querySelector("summary")?.focus();
      }}
    >
      <summary>Export</summary>
      <ul>
        {entries.map(({ name, isOff, act }) => (
          <li key={name}>
            <button
              type="button"
              disabled={isOff}
              onClick={() => {
                close();
                void act();
              }}
            >
              {name}
            </button>
          </li>
        ))}
      </ul>
    </details>
  );
}

export const fileName = (spec: string, width: number): string =>
  `${spec.replace(/[^\w]+/g, "-").replace(/^-|-$/g, "")}-${width}`;
