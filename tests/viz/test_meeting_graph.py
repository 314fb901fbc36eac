"""Each pair that shares a switch is one line, in the colour of the first such stage."""

from __future__ import annotations

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings

import structmat as sm
from structmat import viz
from structmat.errors import StructmatError
from structmat.testing import networks

FLORENCE = nx.florentine_families_graph()


@settings(deadline=None, max_examples=30)
@given(networks(max_width=10, wired=False))
def test_every_pair_that_shares_a_switch_is_drawn_once(net):
    layout = {wire: (wire, wire**2) for wire in range(net.width)}
    drawn = {}
    for some in viz.meetings(net, layout=layout).collections:
        if some.get_label().startswith("stage"):
            for ends in some.get_segments():
                pair = frozenset(int(x) for x, _ in ends)
                assert pair not in drawn
                drawn[pair] = int(some.get_label().split()[1])
    first = {}
    for t, stage in enumerate(net.stages, 1):
        for bank in stage.banks:
            for switch in bank.reads.tolist():
                for pair in combinations(switch, 2):
                    first.setdefault(frozenset(pair), t)
    assert drawn == first


def test_a_graph_is_drawn_at_its_layout():
    graph = nx.petersen_graph()
    places = nx.circular_layout(graph)
    ax = viz.meetings(sm.from_graph(graph), layout=places)
    lines = np.concatenate([c.get_segments() for c in ax.collections[:-1]])
    expected = [[places[a], places[b]] for a, b in graph.edges]
    key = [sorted(map(tuple, np.round(line, 9).tolist())) for line in lines]
    assert sorted(key) == sorted(
        sorted(map(tuple, np.round(line, 9).tolist())) for line in expected
    )


def test_colours_of_many_stages_are_in_order():
    ax = viz.meetings(sm.families.round_robin(16))
    shades = [c.get_colors()[0] for c in ax.collections if c.get_label().startswith("stage")]
    light = [0.3 * r + 0.6 * g + 0.1 * b for r, g, b, _ in shades]
    assert len(light) == 15
    assert light == sorted(light)
    assert len(ax.get_legend().get_texts()) <= 7


@pytest.mark.parametrize("net", [sm.Network(3), sm.Network(1)])
def test_a_network_without_switches_is_drawn(net):
    ax = viz.meetings(net)
    assert [c.get_label() for c in ax.collections] == ["wires"]
    assert ax.get_legend() is None


@pytest.mark.parametrize("place", [5, (1, 2, 3), (np.nan, 1), "ab", None])
def test_a_position_is_two_numbers(place):
    with pytest.raises(StructmatError, match="the position of a wire must be two finite numbers"):
        viz.meetings(sm.butterfly(2), layout={0: place, 1: place})


def test_values_that_cannot_be_drawn_are_rejected():
    with pytest.raises(StructmatError, match="no position for wire 3"):
        viz.meetings(sm.butterfly(4), layout={0: (0, 0), 1: (1, 0), 2: (2, 0)})
    with pytest.raises(
        StructmatError, match="more than 50,000 pairs share a switch; draw a narrower"
    ):
        viz.meetings(sm.block_diagonal(512, 512))


@pytest.mark.parametrize("layout", [None, {0: (3, 0), 1: (3, 8)}, {0: (0, 3), 1: (8, 3)}])
@pytest.mark.parametrize("net", [sm.butterfly(2), sm.Network(2)])
def test_two_wires_fit_into_the_axes(net, layout):
    ax = viz.meetings(net, layout=layout)
    ax.figure.draw_without_rendering()
    box = ax.get_window_extent()
    [wires] = [c for c in ax.collections if c.get_label() == "wires"]
    ends = ax.transData.transform(wires.get_offsets())
    assert np.linalg.norm(ends[1] - ends[0]) > 150
    assert min(box.width, box.height) > 100
    for x, y in ends:
        assert box.contains(x, y)


@pytest.mark.parametrize(
    "layout", [None, nx.circular_layout(FLORENCE), nx.spring_layout(FLORENCE, seed=0)]
)
def test_names_do_not_cover_dots(layout):
    net = sm.from_graph(FLORENCE)
    ax = viz.meetings(net, layout=layout)
    ax.figure.draw_without_rendering()
    assert tuple(text.get_text() for text in ax.texts) == net.labels
    [wires] = [c for c in ax.collections if c.get_label() == "wires"]
    dots = ax.transData.transform(wires.get_offsets())
    paper = ax.figure.bbox
    for own, text in enumerate(ax.texts):
        box = text.get_window_extent()
        assert paper.x0 <= box.x0 < box.x1 <= paper.x1
        assert not box.contains(*dots[own])
        if layout is None:
            assert not any(box.contains(*dot) for dot in dots)


def test_names_are_placed_away_from_their_lines():
    star = sm.from_graph(nx.star_graph(2))  # wire 0 meets both others, which lie at its right
    ax = viz.meetings(star, layout={0: (0, 0), 1: (3, 1), 2: (3, -1)})
    assert [text.get_ha() for text in ax.texts] == ["right", "left", "left"]


def test_a_legend_shows_colours_of_thin_lines():
    ax = viz.meetings(sm.butterfly(256))
    assert max(c.get_linewidths()[0] for c in ax.collections[:-1]) < 1
    assert min(line.get_linewidth() for line in ax.get_legend().get_lines()) >= 1.5
