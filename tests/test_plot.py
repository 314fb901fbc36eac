"""The pictures show what the network is: one line an edge, coloured where inputs are heard."""

from __future__ import annotations

import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import structmat as sm
from structmat import plot
from structmat.errors import StructmatError, WiringError

NETWORKS = {
    "butterfly": sm.butterfly(16, block=4),
    "wired": sm.benes(8),
    "idle wires": sm.Network.of(6, [[[5, 2, 3, 0], [1, 4]], [[0, 3]]]),
    "wide": sm.shuffle(64, block=8),
    "no stage": sm.Network(3),
}
networks = st.sampled_from(sorted(NETWORKS)).map(NETWORKS.get)


def lines(ax, label):
    """The lines of one collection, as ((t, from), (t + 1, to)) pairs of wires."""
    [found] = [c for c in ax.collections if c.get_label() == label]
    return {tuple(tuple(map(int, end)) for end in line) for line in found.get_segments()}


def filled(ax):
    [nodes] = [c for c in ax.collections if c.get_label() == "wires"]
    dark = [to_hex(colour) != "#ffffff" for colour in nodes.get_facecolors()]
    return {tuple(map(int, place)) for place in nodes.get_offsets()[np.array(dark)]}


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_grid_draws_each_edge_of_the_grid_graph_once(net):
    ax = plot.grid(net)
    [drawn] = [c for c in ax.collections if c.get_label() == "reached"]
    assert len(drawn.get_segments()) == net.nonzeros
    assert lines(ax, "reached") == set(net.to_networkx().edges)
    assert lines(ax, "quiet") == set()
    assert len(filled(ax)) == (net.depth + 1) * net.width


def test_grid_names_the_wires_by_their_labels():
    bare = sm.Network.of(3, [[[0, 1]]])
    for net, names in ((bare, ["0", "1", "2"]), (sm.Network(3, bare.stages, labels="abc"), "abc")):
        shown = [tick.get_text() for tick in plot.grid(net).get_yticklabels()]
        assert shown == list(names)


@settings(deadline=None, max_examples=25)
@given(networks, st.data())
def test_grid_highlights_what_the_inputs_reach(net, data):
    inputs = data.draw(st.sets(st.integers(0, net.width - 1), max_size=3))
    ax = plot.grid(net, inputs=inputs)
    graph = net.to_networkx()
    heard = set().union(*({(0, j)} | nx.descendants(graph, (0, j)) for j in inputs))
    assert filled(ax) == heard
    assert lines(ax, "reached") == {edge for edge in graph.edges if edge[0] in heard}
    assert lines(ax, "reached") | lines(ax, "quiet") == set(graph.edges)
    last = {i for t, i in heard if t == net.depth}
    assert last == set(np.flatnonzero(sm.reach(net)[:, np.array(sorted(inputs), int)].any(axis=1)))
    assert ax.texts[-1].get_text() == str(len(last))


def test_edges_of_a_switch_share_a_colour_and_neighbours_differ():
    ax = plot.grid(sm.block_diagonal(6, 2))
    [drawn] = [c for c in ax.collections if c.get_label() == "reached"]
    colours = {}
    for line, colour in zip(drawn.get_segments(), drawn.get_colors(), strict=True):
        colours.setdefault(int(line[0][1]) // 2, set()).add(to_hex(colour))
    assert [len(colours[k]) for k in range(3)] == [1, 1, 1]
    assert len(set.union(*colours.values())) == 3


def test_stages_are_named_as_far_as_there_is_room():
    def names(net):
        return [label.get_text() for label in plot.grid(net).get_xticklabels()]

    assert names(sm.butterfly(8)) == ["$B_{1}$", "$B_{2}$", "$B_{3}$"]
    assert len(names(sm.butterfly(4).repeat(100))) <= 32


def test_an_integer_input_is_one_wire():
    assert filled(plot.grid(NETWORKS["butterfly"], inputs=np.int64(5))) == filled(
        plot.grid(NETWORKS["butterfly"], inputs=[5])
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (16, "input 16: a network of width 16 has wires 0 to 15"),
        ([0, -1], "input -1"),
        (1.5, "inputs=1.5: give a wire or several wires"),
        ([float("nan")], "wires must be integers, not float64"),
        (True, "wires must be integers, not bool"),
    ],
)
def test_grid_refuses_inputs_that_are_no_wires(inputs, message):
    with pytest.raises(WiringError, match=message):
        plot.grid(NETWORKS["butterfly"], inputs=inputs)


def test_grid_refuses_what_nobody_could_read():
    with pytest.raises(StructmatError, match=r"width 128: .* up to 64 wires; .* sparsity\(net\)"):
        plot.grid(sm.butterfly(128))


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_sparsity_shows_factors_and_products(net):
    ax = plot.sparsity(net)
    assert len(ax.images) == 2 * net.depth
    blocks = sm.random_blocks(net, rng=0)
    for t, factor in enumerate(sm.factors(net, blocks)):
        shown = [(image.get_array() < 1).any(axis=2) for image in ax.images[2 * t : 2 * t + 2]]
        np.testing.assert_array_equal(shown[0], factor.toarray() != 0)
        np.testing.assert_array_equal(shown[1], sm.reach(net[: t + 1]))
        share = 100 * sm.reach(net[: t + 1]).mean()
        assert abs(float(ax.texts[t].get_text().rstrip("%")) - share) < 0.1


def test_sparsity_of_a_wide_network_averages_cells():
    net = sm.shuffle(768, block=8, depth=1)  # 3 entries a cell side; blocks of 8 on the diagonal
    ax = plot.sparsity(net)
    shade = 1 - ax.images[1].get_array()[:, :, 0]
    assert shade.shape == (256, 256)
    full = 1 - int("33", 16) / 255
    assert shade.mean() / full == pytest.approx(8 / 768)
    assert shade[0, 0] == pytest.approx(full)


def test_an_entry_short_of_full_is_not_called_full():
    net = sm.Network.of(64, [[[*range(63)]], [[*range(62), 63]]])  # 63 never reaches 62
    shares = [text.get_text() for text in plot.sparsity(net).texts]
    assert (~sm.reach(net)).sum() == 1
    assert shares[-1] == "99.9%"


def test_curves_draws_every_history():
    histories = {f"method {k}": [(0, 2.0), (10, 1.0 / (k + 1))] for k in range(9)}
    ax = plot.curves(histories, x="step", y="validation loss")
    assert {line.get_label(): line.get_xydata().tolist() for line in ax.lines} == {
        label: [list(map(float, pair)) for pair in pairs] for label, pairs in histories.items()
    }
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in ax.lines}
    assert len(looks) == 9
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "validation loss")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(histories)


@pytest.mark.parametrize("pairs", [[], [1.0, 2.0], [(1, 2, 3)], [("a", "b")], [(0, 1), (2,)]])
def test_curves_refuses_what_is_not_pairs(pairs):
    with pytest.raises(StructmatError, match="history 'a': it must be a sequence of"):
        plot.curves({"a": pairs}, x="x", y="y")


def test_curves_refuses_nothing():
    with pytest.raises(StructmatError, match="at least one curve"):
        plot.curves({}, x="x", y="y")


@settings(deadline=None, max_examples=20)
@given(
    st.dictionaries(st.text("abc", min_size=1), st.floats(0, 1e6), min_size=1, max_size=6),
    st.none() | st.floats(0, 10),
)
def test_bars_are_as_long_as_their_values_from_the_top(values, mark):
    ax = plot.bars(values, x="ratio", mark=mark)
    assert [bar.get_width() for bar in ax.patches] == list(values.values())
    assert [label.get_text() for label in ax.get_yticklabels()] == list(values)
    bottom, top = ax.get_ylim()
    assert bottom > top
    assert [line.get_xdata()[0] for line in ax.lines] == ([] if mark is None else [mark])
    assert ax.get_xlabel() == "ratio"


@pytest.mark.parametrize(
    ("values", "reason"), [({}, "at least one bar"), ({"a": np.nan}, "'a' is")]
)
def test_bars_refuses_what_cannot_be_drawn(values, reason):
    with pytest.raises(StructmatError, match=reason):
        plot.bars(values, x="x")


def test_every_picture_goes_into_given_axes():
    ax = Figure().add_subplot()
    net = sm.butterfly(4)
    assert plot.grid(net, ax=ax) is ax
    assert plot.sparsity(net, ax=ax) is ax
    assert plot.curves({"a": [(0, 1)]}, x="x", y="y", ax=ax) is ax
    assert plot.bars({"a": 1.0}, x="x", ax=ax) is ax


def test_pictures_leave_pyplot_alone():
    code = (
        "import sys, structmat as sm; from structmat import plot;"
        "assert 'matplotlib' not in sys.modules;"
        "plot.grid(sm.butterfly(4)).figure.savefig(__import__('io').BytesIO());"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
