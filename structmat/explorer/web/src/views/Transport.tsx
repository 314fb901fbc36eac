import { SPEEDS } from "@/playing";
import { useIds, useStore } from "@/views/context";

/** The controls of the animation: play, pause, step, seek and speed. */
export function Transport({ hasWires, unit = "stage" }: { hasWires: boolean; unit?: string }) {
  const { pinned, playing, view } = useStore();
  const id = useIds();
  const { frame, isPlaying, length, speed } = playing;
  if (!hasWires || length.value === 0) return null;
  const needsWire = view.value === "network";
  const begin = (action: () => void) => () => {
    if (needsWire && !pinned.value) pinned.value = { column: 0, wire: 0 };
    action();
  };
  const at = frame.value ?? length.value;
  return (
    <div class="transport" role="group" aria-label="Animation">
      <button
        type="button"
        id={id("back")}
        aria-label={`Previous ${unit}`}
        onClick={begin(() => playing.step(-1))}
      >
        <Icon path="M6 5v14M19 5 9 12l10 7z" />
      </button>
      <button
        type="button"
        id={id("play")}
        class="primary"
        aria-label={isPlaying.value ? "Pause" : "Play"}
        onClick={begin(() => (isPlaying.value ? playing.pause() : playing.play()))}
      >
        <Icon path={isPlaying.value ? "M8 5v14M16 5v14" : "M7 4l13 8-13 8z"} />
      </button>
      <button
        type="button"
        id={id("forward")}
        aria-label={`Next ${unit}`}
        onClick={begin(() => playing.step(1))}
      >
        <Icon path="M18 5v14M5 5l10 7-10 7z" />
      </button>
      <input
        type="range"
        id={id("frame")}
        aria-label={`Show up to this ${unit}`}
        aria-valuetext={`${unit} ${Math.floor(at)} of ${length.value}`}
        min="0"
        max={length.value}
        step="any"
        value={at}
        onInput={(event) => {
          const to = event.currentTarget.valueAsNumber;
          begin(() => playing.seek(to))();
        }}
        onKeyDown={(event) => {
          const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key] as -1 | 1 | undefined;
          if (!by) return;
          event.preventDefault();
          begin(() => playing.step(by))();
        }}
      />
      <output class="at">{`${Math.floor(at)} / ${length.value}`}</output>
      <label class="speed">
        <span>Speed</span>
        <select
          id={id("speed")}
          value={`${speed.value}`}
          onChange={(event) => {
            speed.value = Number(event.currentTarget.value);
          }}
        >
          {SPEEDS.map((one) => (
            <option key={one} value={`${one}`}>{`${one}×`}</option>
          ))}
        </select>
      </label>
    </div>
  );
}

export function Icon({ path }: { path: string }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={path} />
    </svg>
  );
}
