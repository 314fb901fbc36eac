"""Curves and bars show their data; every plot takes axes and can be saved."""

from __future__ import annotations

import io
import subprocess
import sys
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread

import structmat as sm
from structmat import viz
from structmat.errors import FileError, StructmatError


def test_curves_draws_every_history():
    histories = {f"method {k}": [(0, 2.0), (10, 1.0 / (k + 1))] for k in range(9)}
    ax = viz.curves(histories, x="step", y="validation loss")
    assert {line.get_label(): line.get_xydata().tolist() for line in ax.lines} == {
        label: [list(map(float, pair)) for pair in pairs] for label, pairs in histories.items()
    }
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in ax.lines}
    assert len(looks) == 9
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "validation loss")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(histories)


def test_plain_numbers_are_plotted_against_their_index():
    for values in ([0.3, 0.2, 0.1], np.array([0.3, 0.2, 0.1]), (0.3, 0.2, 0.1)):
        [line] = viz.curves({"loss": values}, x="step", y="loss").lines
        assert line.get_xydata().tolist() == [[0, 0.3], [1, 0.2], [2, 0.1]]


@pytest.mark.parametrize(
    "pairs", [[], 5, "ab", [1.0, (1, 2)], [(1, 2, 3)], [("a", "b")], [(0, 1), (2,)]]
)
def test_curves_refuses_points_that_are_not_pairs(pairs):
    with pytest.raises(StructmatError, match="history 'a': it must be a sequence of"):
        viz.curves({"a": pairs}, x="x", y="y")


def test_curves_rejects_empty_input():
    with pytest.raises(StructmatError, match="at least one curve"):
        viz.curves({}, x="x", y="y")


@settings(deadline=None, max_examples=20)
@given(
    st.dictionaries(st.text("abc", min_size=1), st.floats(0, 1e6), min_size=1, max_size=6),
    st.none() | st.floats(0, 10),
)
def test_bars_have_the_lengths_of_their_values_and_start_at_the_top(values, mark):
    ax = viz.bars(values, x="ratio", mark=mark)
    assert [bar.get_width() for bar in ax.patches] == list(values.values())
    assert [label.get_text() for label in ax.get_yticklabels()] == list(values)
    bottom, top = ax.get_ylim()
    assert bottom > top
    assert [line.get_xdata()[0] for line in ax.lines] == ([] if mark is None else [mark])
    assert ax.get_xlabel() == "ratio"


def test_large_numbers_are_written_out():
    ax = viz.bars({"a": 24_576, "b": 1_300_000, "c": 125}, x="parameters")
    assert [text.get_text() for text in ax.texts] == ["24,576", "1,300,000", "125"]
    ax.figure.draw_without_rendering()
    ticks = [tick.get_text() for tick in ax.get_xticklabels()]
    assert ticks == [f"{round(tick):,}" for tick in ax.get_xticks()]
    assert ax.xaxis.get_offset_text().get_text() == ""
    boxes = [tick.get_window_extent() for tick in ax.get_xticklabels()]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


@pytest.mark.parametrize("draw", [viz.curves, viz.pareto])
def test_axes_of_large_numbers_are_written_out(draw):
    def ticks(pairs, **options):
        ax = draw({"a": pairs}, x="x", y="y", **options)
        ax.figure.draw_without_rendering()
        return [tick.get_text() for tick in ax.get_xticklabels()]

    assert "1,000,000" in ticks([(0, 1), (2_000_000, 2)])
    assert "0.4" in ticks([(0, 1), (1.25, 2)])
    assert not any("," in tick for tick in ticks([(1, 1), (2_000_000, 2)], log="x"))


def test_bars_can_be_drawn_in_logarithmic_axes():
    ax = Figure().add_subplot(xscale="log")
    assert viz.bars({"a": 24_576, "b": 10}, x="x", ax=ax).get_xscale() == "log"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "at least one bar"),
        ({"a": np.nan}, "'a' is nan: it must be a finite number"),
        ({"a": "x"}, "'a' is 'x': it must be a finite number"),
        ([1, 2], "values of type list: pass a mapping from labels, such as"),
    ],
)
def test_bars_rejects_invalid_values(values, reason):
    with pytest.raises(StructmatError, match=reason):
        viz.bars(values, x="x")


def test_curves_draw_bands_and_logarithmic_scales():
    pairs, band = [(1, 2.0), (10, 3.0)], [(1.0, 4.0), (2.0, 5.0)]
    ax = viz.curves({"a": pairs, "b": pairs}, x="x", y="y", log="xy", bands={"b": band})
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    [drawn] = ax.collections
    corners = {tuple(point) for point in drawn.get_paths()[0].vertices.tolist()}
    assert corners == {(1.0, 1.0), (1.0, 4.0), (10.0, 2.0), (10.0, 5.0)}
    assert viz.curves({"a": pairs}, x="x", y="y").get_xscale() == "linear"


@pytest.mark.parametrize("bands", [{"b": [(1, 2)]}, {"a": [(1, 2), (1, 2)]}])
def test_curves_rejects_a_band_without_a_curve(bands):
    with pytest.raises(StructmatError, match="it must belong to a history"):
        viz.curves({"a": [(0, 1)]}, x="x", y="y", bands=bands)


@pytest.mark.parametrize("draw", [viz.curves, viz.pareto])
def test_only_axes_can_be_logarithmic(draw):
    with pytest.raises(StructmatError, match="log='z': it must be"):
        draw({"a": [(0, 1)]}, x="x", y="y", log="z")


PICTURES = [viz.grid, viz.sparsity, viz.reach, viz.paths, viz.meetings, viz.eigenangles]


@pytest.mark.parametrize("draw", PICTURES)
def test_plots_of_networks_accept_graphs(draw):
    graph = nx.complete_graph(6)
    theirs, ours = (draw(net).get_title() for net in (graph, sm.from_graph(graph)))
    assert theirs == ours


@pytest.mark.parametrize("draw", PICTURES)
@pytest.mark.parametrize("net", ["butterfly", nx.path_graph, sm.butterfly, None])
def test_plots_of_networks_reject_other_values(draw, net):
    rule = rf"^{draw.__name__} of .*: it takes a network; .* from_graph\(graph\) or"
    with pytest.raises(StructmatError, match=rule):
        draw(net)


@pytest.mark.parametrize("ax", [np.array([None]), Figure(), 0, "left"], ids=type)
def test_plots_accept_only_axes(ax):
    net, pairs, rule = (
        sm.butterfly(4),
        {"a": [(0, 1)]},
        "^ax of type .*: pass matplotlib Axes, such as",
    )
    for draw in PICTURES:
        with pytest.raises(StructmatError, match=rule):
            draw(net, ax=ax)
    for draw in (viz.curves, viz.pareto):
        with pytest.raises(StructmatError, match=rule):
            draw(pairs, x="x", y="y", ax=ax)
    for call in (
        lambda: viz.bars({"a": 1}, x="x", ax=ax),
        lambda: viz.tradeoff({"a": net}, ax=ax),
    ):
        with pytest.raises(StructmatError, match=rule):
            call()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda given: viz.curves(given, x="x", y="y"), "histories"),
        (lambda given: viz.curves({"a": [(0, 1)]}, x="x", y="y", bands=given), "bands"),
        (lambda given: viz.pareto(given, x="x", y="y"), "given"),
        (viz.frontier, "given"),
        (viz.tradeoff, "networks"),
        (lambda given: viz.meetings(sm.butterfly(2), layout=given), "layout"),
    ],
)
def test_labelled_values_must_be_a_mapping(call, name):
    with pytest.raises(
        StructmatError, match=rf"^{name} of type list: pass a mapping from labels, such as"
    ):
        call([(0, 1)])


def test_every_plot_uses_the_given_axes():
    net, pairs = sm.butterfly(4), {"a": [(0, 1)]}
    for draw in (viz.grid, viz.sparsity, viz.reach, viz.paths, viz.meetings):
        ax = Figure().add_subplot()
        assert draw(net, ax=ax) is ax
    ax = Figure().add_subplot()
    assert viz.eigenangles(net, samples=2, ax=ax) is ax
    assert viz.curves(pairs, x="x", y="y", ax=ax) is ax
    assert viz.pareto(pairs, x="x", y="y", ax=ax) is ax
    assert viz.tradeoff({"a": net}, ax=ax) is ax
    assert viz.bars({"a": 1.0}, x="x", ax=ax) is ax


def test_plots_do_not_register_with_pyplot():
    code = (
        "import sys, structmat as sm; from structmat import viz;"
        "assert 'matplotlib' not in sys.modules;"
        "viz.grid(sm.butterfly(4)).figure.savefig(__import__('io').BytesIO());"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plots_display_in_notebooks():
    """The image has twice the pixels of its size on the page."""
    ax = viz.grid(sm.butterfly(8))
    data, size = ax._repr_png_()
    shape = imread(io.BytesIO(data)).shape
    inches = ax.figure.get_size_inches()
    assert size == {"width": round(100 * inches[0]), "height": round(100 * inches[1])}
    assert shape[:2] == pytest.approx([2 * size["height"], 2 * size["width"]], abs=1)


def test_integers_have_integer_ticks():
    def ticks(pairs, **options):
        ax = viz.curves({"a": pairs}, x="stages", y="y", **options)
        return ax.get_xticks()

    assert (ticks([(k, k) for k in range(1, 17)]) % 1 == 0).all()
    assert (ticks([(0.5, 0), (2, 1)]) % 1 != 0).any()
    assert len(ticks([(1, 1), (100, 2)], log="x")) > 0


@pytest.mark.parametrize(
    "label", ["short", "shuffle, blocks of 16", "shuffle, blocks of 16, repeated often"]
)
def test_the_legend_stays_in_the_figure(label, tmp_path):
    ax = viz.curves({f"{label} {k}": [(0, k)] for k in range(7)}, x="x", y="y")
    viz.save(ax, tmp_path / "a.png", dpi=int(ax.figure.dpi))  # lays it out
    legend, paper = ax.get_legend().get_window_extent(), ax.figure.bbox
    assert legend.x1 <= paper.width
    assert legend.y1 <= paper.height


def test_svg_output_is_reproducible(tmp_path):
    first, again = (
        viz.save(viz.grid(sm.butterfly(8)), tmp_path / name) for name in ("a.svg", "b.svg")
    )
    assert first.read_bytes() == again.read_bytes()
    assert first.read_text("utf-8").count("<svg") == 1


def test_the_resolution_of_a_png_is_an_option(tmp_path):
    sizes = []
    for dpi in (50, 100):
        path = viz.save(viz.grid(sm.butterfly(8)), str(tmp_path / "a.PNG"), dpi=dpi)
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG")
        sizes.append(int.from_bytes(data[16:20], "big"))
    assert sizes[1] == pytest.approx(2 * sizes[0], abs=2)


def test_only_figures_and_axes_are_saved(tmp_path):
    ax = viz.grid(sm.butterfly(8))
    first, again = viz.save(ax, tmp_path / "a.svg"), viz.save(ax.figure, tmp_path / "b.svg")
    assert first.read_bytes() == again.read_bytes()
    with pytest.raises(StructmatError, match="plot of type Network: pass matplotlib Axes"):
        viz.save(sm.butterfly(8), tmp_path / "c.svg")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a.pdf", "the suffix must be"), ("no/a.svg", "there is no directory .*no; create")],
)
def test_save_rejects_unwritable_paths(tmp_path, name, reason):
    with pytest.raises(FileError, match=reason):
        viz.save(viz.grid(sm.butterfly(4)), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
