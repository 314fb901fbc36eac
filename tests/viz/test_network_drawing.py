"""A grid graph has one line per edge, coloured along the paths from the inputs."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex

import structmat as sm
from structmat import viz
from structmat.errors import WiringError

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
    ax = viz.grid(net)
    [drawn] = [c for c in ax.collections if c.get_label() == "reached"]
    assert len(drawn.get_segments()) == net.nonzeros
    assert lines(ax, "reached") == set(net.to_networkx().edges)
    assert lines(ax, "unreached") == set()
    assert len(filled(ax)) == (net.depth + 1) * net.width


def test_grid_names_the_wires_by_their_labels():
    bare = sm.Network.of(3, [[[0, 1]]])
    for net, names in ((bare, ["0", "1", "2"]), (sm.Network(3, bare.stages, labels="abc"), "abc")):
        shown = [tick.get_text() for tick in viz.grid(net).get_yticklabels()]
        assert shown == list(names)


@settings(deadline=None, max_examples=25)
@given(networks, st.data())
def test_grid_highlights_the_wires_that_the_inputs_influence(net, data):
    inputs = data.draw(st.sets(st.integers(0, net.width - 1), max_size=3))
    ax = viz.grid(net, inputs=inputs)
    graph = net.to_networkx()
    reached = set().union(*({(0, j)} | nx.descendants(graph, (0, j)) for j in inputs))
    assert filled(ax) == reached
    assert lines(ax, "reached") == {edge for edge in graph.edges if edge[0] in reached}
    assert lines(ax, "reached") | lines(ax, "unreached") == set(graph.edges)
    last = {i for t, i in reached if t == net.depth}
    assert last == set(np.flatnonzero(sm.reach(net)[:, np.array(sorted(inputs), int)].any(axis=1)))
    assert ax.texts[-1].get_text() == str(len(last))


def test_edges_of_a_switch_share_a_colour_and_neighbours_differ():
    ax = viz.grid(sm.block_diagonal(6, 2))
    [drawn] = [c for c in ax.collections if c.get_label() == "reached"]
    colours = {}
    for line, colour in zip(drawn.get_segments(), drawn.get_colors(), strict=True):
        colours.setdefault(int(line[0][1]) // 2, set()).add(to_hex(colour))
    assert [len(colours[k]) for k in range(3)] == [1, 1, 1]
    assert len(set.union(*colours.values())) == 3


def test_stage_labels_are_thinned_to_the_available_space():
    def names(net):
        return [label.get_text() for label in viz.grid(net).get_xticklabels()]

    assert names(sm.butterfly(8)) == ["$B_{1}$", "$B_{2}$", "$B_{3}$"]
    assert len(names(sm.butterfly(4).repeat(100))) <= 32


def test_an_integer_input_is_one_wire():
    assert filled(viz.grid(NETWORKS["butterfly"], inputs=np.int64(5))) == filled(
        viz.grid(NETWORKS["butterfly"], inputs=[5])
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (16, "input 16: a network of width 16 has wires 0 to 15"),
        ([0, -1], "input -1"),
        (1.5, "inputs=1.5: give a wire or several wires"),
        ([float("nan")], "wires must be integers, not float64"),
        (True, "wires must be integers, not bool"),
        ("5", r"wires must be integers, not '5'; if the network has labels, net.labels.index"),
    ],
)
def test_grid_rejects_inputs_that_are_not_wires(inputs, message):
    with pytest.raises(WiringError, match=message):
        viz.grid(NETWORKS["butterfly"], inputs=inputs)


def test_inputs_may_be_given_by_label():
    net = sm.Network.of(4, [[[0, 1]], [[1, 2]]], labels=["Medici", "Pazzi", (0, 1), 1])
    by_number = filled(viz.grid(net, inputs=[0, 2]))
    assert filled(viz.grid(net, inputs=["Medici", (0, 1)])) == by_number
    assert filled(viz.grid(net, inputs=np.array([0, 2]))) == by_number
    assert filled(viz.grid(net, inputs="Pazzi")) == filled(viz.grid(net, inputs=1))
    twice = sm.Network(4, labels="abab")
    assert filled(viz.grid(twice, inputs="b")) == {(0, 1), (0, 3)}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("Medicy", "input 'Medicy': no wire has this label; did you mean Medici"),
        ([["Medici"]], "wires must be integers, not 'Medici'; if"),
        ([(0, 2)], "input 2: a network of width 2"),
    ],
)
def test_grid_rejects_unknown_labels(inputs, message):
    with pytest.raises(WiringError, match=message):
        viz.grid(sm.Network(2, labels=["Medici", "Pazzi"]), inputs=inputs)


def test_long_names_leave_space_for_the_plot():
    short, long = (
        sm.Network(4, sm.butterfly(4).stages[:1], labels=[m * k for m in "abcd"]) for k in (1, 20)
    )
    for draw in (viz.grid, viz.reach, viz.paths, viz.meetings):
        widths = []
        for net in (short, long):
            ax = draw(net)
            ax.figure.draw_without_rendering()
            widths.append(ax.get_window_extent().width)
        assert widths[1] > 0.8 * widths[0]


def test_names_are_shown_verbatim():
    """Names are not parsed as formulas, and are truncated to the available space."""
    net = sm.Network.of(2, [[[0, 1]]], labels=["$5 and $x_{", 60 * "a"])
    for ax in (viz.grid(net), viz.reach(net), viz.paths(net)):
        names = [tick.get_text() for tick in ax.get_yticklabels()]
        assert names == ["$5 and $x_{", 23 * "a" + "…"]
        ax.figure.draw_without_rendering()
    viz.meetings(net).figure.draw_without_rendering()


def test_a_wide_grid_bundles_neighbours():
    net = sm.shuffle(96, block=4)  # bundles of 3 wires
    ax = viz.grid(net, inputs=[5, 90])
    reached = {(0, 5), (0, 90)}
    for start, end in net.to_networkx().edges:
        if start in reached:
            reached.add(end)
    coloured, every = set(), set()
    for (t, a), (s, b) in net.to_networkx().edges:
        line = ((t, a // 3), (s, b // 3))
        every.add(line)
        if (t, a) in reached:
            coloured.add(line)
    assert lines(ax, "reached") == coloured
    assert lines(ax, "reached") | lines(ax, "unreached") == every
    assert filled(ax) == {(t, a // 3) for t, a in reached}
    for t, text in enumerate(ax.texts):
        assert int(text.get_text()) == sum(column == t for column, _ in reached)
    assert ax.get_ylabel() == "wires, 3 to a dot"


def test_the_shade_of_a_bundle_is_the_fraction_of_its_wires_that_are_reached():
    def shades(inputs):
        ax = viz.grid(sm.Network(640), inputs=inputs)
        [nodes] = [c for c in ax.collections if c.get_label() == "wires"]
        return nodes.get_facecolors()[:, 0]

    none, some, all_ = (shades(range(count))[0] for count in (0, 1, 20))
    assert none == 1 > some > all_
    assert all_ == pytest.approx(int("33", 16) / 255)


def test_counts_above_a_deep_grid_do_not_overlap():
    deep = viz.grid(sm.butterfly(4).repeat(100), inputs=0)
    assert len(deep.texts) <= 22
    assert deep.texts[-1].get_text() == "4"
