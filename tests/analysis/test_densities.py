"""Edges and reachability between bins of wires, compared with whole matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis.densities import bins_of, edge_counts, reach_densities, sampled_inputs
from structmat.analysis.reachability import unreached, why_not_dense
from structmat.errors import StructmatError
from structmat.testing import networks


def binned(matrix, bins):
    """The sums of a matrix over pairs of bins."""
    indicator = np.equal.outer(np.arange(bins), bins_of(len(matrix), bins)).astype(int)
    return indicator @ matrix.astype(int) @ indicator.T


@given(networks(screens=True), st.data())
def test_densities_are_sums_over_the_matrices(net, data):
    bins = data.draw(st.integers(1, net.width))
    single = [sm.reach(sm.Network(net.width, [stage])) for stage in net.stages]
    assert edge_counts(net, bins).tolist() == [binned(m, bins).tolist() for m in single]
    assert edge_counts(net, bins).sum() == net.nonzeros
    pairs = binned(np.ones((net.width, net.width)), bins)
    expected = [binned(sm.reach(net[:t]), bins) / pairs for t in range(net.depth + 1)]
    assert np.array_equal(reach_densities(net, bins), expected)


@pytest.mark.parametrize(("spec", "width"), [("shuffle(block=3)", 3000), ("gossip", 4100)])
def test_sampled_densities_are_those_of_the_sampled_inputs(spec, width):
    net, bins = sm.parse(spec)(width), 50
    inputs, origin = sampled_inputs(width, bins)
    assert len(inputs) < width
    reached = sm.reach(net.inverse(), inputs)  # [k, i]: input k influences output i
    place = bins_of(width, bins)
    found = reach_densities(net, bins)[-1]
    for i, j in ((0, 0), (7, 33), (49, 49)):
        assert found[i, j] == reached[origin == j][:, place == i].mean()


def test_bins_must_fit_the_width():
    for bins in (0, 5):
        with pytest.raises(StructmatError, match=f"bins={bins}"):
            edge_counts(sm.Network(4), bins)


@given(networks(screens=True))
def test_a_missing_pair_is_missing_from_the_matrix(net):
    missing = unreached(net)
    reached = sm.reach(net)
    assert (missing is None) == reached.all() == (why_not_dense(net) is None)
    if missing is not None:
        source, output = missing
        assert not reached[output, source]
        assert unreached(net, [source]) == missing or not reached[:, source].all()


def test_a_missing_pair_is_found_beyond_the_first_inputs():
    whole = sm.Network.of(2999, [[range(2999)]])
    assert unreached(whole.direct_sum(sm.Network(1))) == (0, 2999)
    joined = sm.Network.of(3000, [[range(2999)], [[0, 2999]]])
    assert unreached(joined) == (2999, 1)
    assert "input 2999 does not influence output 1;" in why_not_dense(joined)
