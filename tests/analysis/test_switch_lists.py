"""Simplified networks represent the same matrices with the fewest switches and early stages.

`normal_form` and the bounds on the dimension are tested in test_dimension.py.
"""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis.mixing import energy
from structmat.analysis.switch_lists import normal_form, simplified
from structmat.errors import WiringError
from structmat.testing import networks, seeds

straight = networks(max_width=8, max_depth=5, wired=False)


@given(straight)
def test_a_simplified_network_represents_the_same_matrices(net):
    simple = simplified(net)
    assert simplified(simple) == simple
    assert simple.depth <= net.depth
    assert simple.parameters <= net.parameters
    assert all(stage.parameters for stage in simple)
    assert np.array_equal(sm.reach(simple), sm.reach(net))
    np.testing.assert_allclose(energy(simple), energy(net), atol=1e-14)
    wires = [sorted(map(sorted, (g.wires for g in normal_form(n)))) for n in (simple, net)]
    assert wires[0] == wires[1]


def rows(net):
    """Return (stage, bank number, row number, wires) of each switch."""
    numbered = enumerate((t, bank) for t, stage in enumerate(net) for bank in stage.banks)
    return [
        (t, k, n, tuple(row))
        for k, (t, bank) in numbered
        for n, row in enumerate(bank.reads.tolist())
    ]


def with_blocks(net, places, drawn):
    """Return the matrix of a network whose switches at the given (stage, wires) have blocks.

    The blocks of the k-th switch on some wires are `drawn[wires, k]`; other switches do nothing.
    """
    blocks = sm.identity_blocks(net)
    times = Counter()
    for t, bank, row, wires in rows(net):
        key = frozenset(wires)
        if (t, key) in places:
            order = np.argsort(np.argsort(wires))
            blocks[bank][row] = drawn[key, times[key]][np.ix_(order, order)]
            times[key] += 1
    return sm.Rotation(net, blocks).matrix()


@given(networks(max_width=6, max_depth=4, wired=False), seeds())
def test_a_simplified_network_is_the_network_with_identity_blocks(net, seed):
    """So its matrices are some of those of the network; their dimensions are equal."""
    simple = simplified(net)
    kept = {(gate.stage, gate.wires) for gate in normal_form(net)}
    every = {(t, frozenset(wires)) for t, _, _, wires in rows(simple)}
    rng, drawn = np.random.default_rng(seed), {}
    times = Counter()
    for gate in normal_form(net):
        size = len(gate.wires)
        block = np.linalg.qr(rng.standard_normal((size, size)))[0]
        drawn[gate.wires, times[gate.wires]] = block
        times[gate.wires] += 1
    expected = with_blocks(net, kept, drawn)
    np.testing.assert_allclose(with_blocks(simple, every, drawn), expected, atol=1e-14)
    assert sm.dimension(net).value == sm.dimension(simple).value


@given(straight, st.data())
def test_the_order_of_switches_without_common_wires_does_not_matter(net, data):
    """Split the stages into single switches, in any order, with idle stages in between."""
    stages = []
    for stage in net:
        found = [row for bank in stage.banks for row in bank.reads.tolist()]
        for row in data.draw(st.permutations(found)):
            stages += [[]] * data.draw(st.integers(0, 1)) + [[data.draw(st.permutations(row))]]
    assert simplified(sm.Network.of(net.width, stages)) == simplified(net)


def test_networks_that_are_not_straight_are_rejected():
    with pytest.raises(WiringError, match=r"must be straight; see Network\.straightened$"):
        simplified(sm.Network(2, [sm.Stage(2, moves=[[0, 1], [1, 0]])]))
