"""The bound on the dimension of shallow networks, against all networks of few wires."""

import itertools
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis.most_dimensions import most_dimensions
from structmat.errors import StructmatError
from structmat.families import affine
from structmat.testing import networks
from theory._tools import partitions

MET = [(3, 2), (4, 2), (4, 3), (4, 4), (5, 3), (6, 2), (6, 3), (7, 2), (7, 4)]  # attained


def pairs_of(parts):
    return {pair for part in parts for pair in itertools.combinations(part, 2)}


@pytest.mark.parametrize("width", range(1, 8))
@pytest.mark.parametrize("block", [2, 3, 4, 5])
def test_two_stages_join_at_most_so_many_pairs(width, block):
    """Two stages have as many dimensions as pairs that meet (T2): compare with all partitions."""
    stages = [p for p in partitions(list(range(width))) if max(map(len, p)) <= block]
    met = {}  # of all partitions with the same sizes, one is enough as the first stage
    for first in stages:
        met.setdefault(tuple(sorted(map(len, first))), pairs_of(first))
    others = [pairs_of(second) for second in stages]
    most = max(len(one | two) for one in met.values() for two in others)
    assert (
        most <= most_dimensions(width, block, 2) <= min(comb(width, 2), 2 * max(map(len, others)))
    )
    assert most_dimensions(width, block, 1) == max(map(len, others))
    if (width, block) in MET:
        assert most == most_dimensions(width, block, 2)


@given(networks(max_width=9, max_depth=5))
def test_no_network_has_more_dimensions(net):
    block = max([2, *(bank.radix for bank in net.banks)])
    assert sm.dimension(net).lower <= most_dimensions(net.width, block, net.depth)


@given(st.integers(1, 80), st.integers(2, 20), st.integers(0, 6))
def test_it_grows_with_every_argument(width, block, depth):
    bound = most_dimensions(width, block, depth)
    assert bound <= most_dimensions(width, block + 1, depth)
    assert bound <= most_dimensions(width, block, depth + 1)
    assert bound <= most_dimensions(width + 1, block, depth)
    assert most_dimensions(width, block, 0) == 0


def test_affine_lines_and_squares_meet_it():
    for width, block in [(16, 4), (27, 3), (64, 8), (64, 4), (256, 16)]:
        for depth in (1, 2, (width - 1) // (block - 1)):
            net = affine(width, block, depth)
            assert net.parameters == most_dimensions(width, block, depth)
    assert sm.dimension(sm.shuffle(64, 16)).value == most_dimensions(64, 16, 2) == 864


def test_invalid_numbers_are_refused():
    with pytest.raises(StructmatError, match="block=1: block must be an integer ≥ 2"):
        most_dimensions(8, 1, 2)
