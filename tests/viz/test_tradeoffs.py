"""The frontier is the set of undominated points, with the numbers of the library."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat import viz
from structmat.errors import StructmatError

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=8)
DEEPER = [sm.butterfly(16, depth=k) for k in range(1, 5)]


@given(st.dictionaries(st.sampled_from("abc"), pairs.filter(len)), st.sampled_from(["high", "low"]))
def test_the_frontier_is_the_set_of_undominated_points(given_points, best):
    every = {point for points in given_points.values() for point in points}
    sign = 1 if best == "high" else -1

    def beats(p, q):
        return p != q and p[0] <= q[0] and sign * p[1] >= sign * q[1]

    ahead = sorted(q for q in every if not any(beats(p, q) for p in every))
    assert viz.frontier(given_points, best=best) == ahead


def test_filled_points_are_the_points_of_the_frontier():
    points = {"a": [(1, 5), (3, 7), (4, 6)], "b": [(2, 4), (5, 9)]}
    ax = viz.pareto(points, x="x", y="y")
    hollow = {tuple(place) for some in ax.collections for place in some.get_offsets().tolist()}
    every = {(float(x), float(y)) for some in points.values() for x, y in some}
    assert every - hollow == set(viz.frontier(points))
    assert {line.get_label(): len(line.get_xdata()) for line in ax.lines} == {
        "frontier": 4,
        "a": 3,
        "b": 2,
    }


@pytest.mark.parametrize(
    ("y", "of"),
    [
        ("density", lambda net: 100 * sm.reach(net).mean()),
        ("dimension", lambda net: sm.dimension(net).value),
        ("mixing", sm.mixing),
        ("depth", lambda net: net.depth),
    ],
)
def test_tradeoff_plots_the_counts_of_the_library(y, of):
    ax = viz.tradeoff({"butterfly": DEEPER, "gossip": sm.gossip(16)}, y=y)
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    expected = [(net.parameters, of(net)) for net in DEEPER]
    np.testing.assert_allclose(lines["butterfly"], expected)
    np.testing.assert_allclose(lines["gossip"], [(28, of(sm.gossip(16)))])


def test_a_smaller_mixing_distance_is_better():
    ax = viz.tradeoff({"butterfly": DEEPER}, y="mixing")
    assert ax.lines[0].get_ydata()[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: viz.frontier({"a": [(1, 2)]}, best="big"), 'must be "high" or "low"'),
        (lambda: viz.pareto({}, x="x", y="y"), "at least one to draw"),
        (lambda: viz.pareto({"a": [1, 2]}, x="x", y="y"), "history 'a'"),
        (lambda: viz.tradeoff({}), r"widths \[\]: compare networks of one width"),
        (lambda: viz.tradeoff({"a": DEEPER, "b": sm.gossip(8)}), r"widths \[8, 16\]"),
        (lambda: viz.tradeoff({"a": DEEPER}, y="densty"), "did you mean density"),
        (lambda: viz.tradeoff({"a": "gossip"}), "tradeoff of 'gossip': it takes a network"),
        (lambda: viz.tradeoff({"a": 5}), "tradeoff of 5: it takes a network"),
        (lambda: viz.tradeoff({"a": [DEEPER]}), r"tradeoff of \[Network"),
    ],
)
def test_incomparable_values_are_rejected(call, reason):
    with pytest.raises(StructmatError, match=reason):
        call()
