import { command } from "@/export/command";
import { CopyButton } from "@/views/CopyButton";
import { useIds, useStore } from "@/views/context";

const LAYER = "from structmat.nn import Orthogonal\n\nq = Orthogonal(net)";

/** The spec, command and code to copy for using the network. */
export function Use() {
  const { data, isStale, net } = useStore();
  const id = useIds();
  const one = net.value;
  const spec = one?.spec ?? null;
  return (
    <section class={`card copy${isStale.value ? " stale" : ""}`} aria-labelledby={id("copy-title")}>
      <h2 id={id("copy-title")}>Use it</h2>
      <div id={id("copy-spec")} hidden={spec === null}>
        <Snippet name="spec" title="Spec" what="the spec" text={spec ?? ""} />
        <Snippet
          name="shell"
          title="In a terminal"
          what="the command"
          text={one && spec !== null ? command(one, data) : ""}
        />
      </div>
      <Snippet name="code" title="Python" what="the Python code" text={one?.code ?? ""} />
      <Snippet name="layer" title="As a torch layer" what="the layer code" text={LAYER} />
    </section>
  );
}

interface SnippetProps {
  name: string;
  title: string;
  what: string;
  text: string;
}

function Snippet({ name, title, what, text }: SnippetProps) {
  const id = useIds();
  return (
    <>
      <div class="bar">
        <h3 id={id(`${name}-title`)}>{title}</h3>
        <CopyButton text={() => text} label={`Copy ${what}`} />
      </div>
      <pre
        id={id(`${name}-text`)}
        class={name}
        tabIndex={0}
        role="region"
        aria-labelledby={id(`${name}-title`)}
      >
        {text}
      </pre>
    </>
  );
}
