"""Splitting signals between two halves, against exhaustive search."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from structmat.routing.bipartite_halving import Shares, Slots, flow, loops


def served(upper, switch, share):
    """Return whether each switch sends the required number of signals to either half."""
    return all(
        np.array_equal(np.bincount(switch[part], minlength=len(count)), count)
        for part, count in ((upper, share.upper), (~upper, share.lower))
    )


@st.composite
def halvings(draw):
    """Draw signals between switches, and shares at both ends that add up to them."""
    signals = draw(st.integers(1, 8))
    cases = []
    for _ in range(2):
        switch = np.array(draw(st.lists(st.integers(0, 3), min_size=signals, max_size=signals)))
        sizes = np.bincount(switch, minlength=4)
        upper = np.array([draw(st.integers(0, int(size))) for size in sizes])
        cases.append((switch, Shares(sizes - upper, upper)))
    (first, here), (last, there) = cases
    return first, last, here, there


@given(halvings())
def test_a_flow_is_found_if_one_exists(case):
    first, last, here, there = case
    ways = [
        upper
        for bits in itertools.product([False, True], repeat=len(first))
        if served(upper := np.array(bits), first, here) and served(upper, last, there)
    ]
    found = flow(*case)
    if found is None:
        assert not ways
    else:
        assert served(found, first, here)
        assert served(found, last, there)


@st.composite
def pairs(draw):
    """Draw signals between switches of at most two, each shared or fixed, as looping takes them."""
    signals = draw(st.integers(1, 8))
    cases = []
    for _ in range(2):
        order = draw(st.permutations(range(signals)))
        switch = np.empty(signals, dtype=np.int64)
        upper, count = [], 0
        while order:
            taken = order[: draw(st.integers(1, 2))]
            order = order[len(taken) :]
            switch[taken] = count
            shared = len(taken) == 2 and draw(st.booleans())
            upper.append(1 if shared else draw(st.sampled_from([0, len(taken)])))
            count += 1
        sizes = np.bincount(switch, minlength=count)
        cases.append((switch, Shares(sizes - np.array(upper), np.array(upper))))
    (first, here), (last, there) = cases
    return first, last, here, there


@given(pairs())
def test_looping_decides_switches_of_two(case):
    """Looping succeeds exactly if a flow exists, with missing and one-way wires."""
    first, last, here, there = case
    assert here.walkable
    assert there.walkable
    found = loops(*case)
    assert (found is None) == (flow(*case) is None)
    if found is not None:
        assert served(found, first, here)
        assert served(found, last, there)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_a_regular_multigraph_of_degree_r_has_r_colours(radix, switches, seed):
    """Kőnig: every switch gets every colour once, at both ends."""
    ends = np.repeat(np.arange(switches), radix)
    slots = Slots(ends, ends, np.tile(np.arange(radix), switches), 0, radix)
    last = np.random.default_rng(seed).permutation(ends)
    colours = slots.coloured(ends, last)
    for switch in (ends, last):
        assert sorted(zip(switch, colours, strict=True)) == [
            (k, colour) for k in range(switches) for colour in range(radix)
        ]
