"""Shuffles against the least depth that any network of such blocks can have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm


@pytest.mark.parametrize("block", range(2, 14))
def test_shuffle_is_dense_at_the_least_depth_for_every_width(block):
    for width in range(block, 209, block):
        net = sm.shuffle(width, block)
        least = next(m for m in range(1, 99) if block**m >= width)
        assert net.depth == least
        assert sm.is_dense(net)
        assert least == 1 or not sm.is_dense(net[:-1])
        assert net.parameters == least * width * (block - 1) // 2


@given(st.integers(2, 8), st.integers(1, 12), st.integers(1, 4))
def test_shuffle_is_gsoft_straightened(block, hands, depth):
    """Blocks side by side, then i → (i mod r)·b + ⌊i/r⌋, again and again, as a wired network."""
    width = block * hands
    wires = np.arange(width).reshape(-1, block)
    to = np.array([(i % hands) * block + i // hands for i in range(width)])
    stage = sm.Stage(width, [sm.Bank(wires, to[wires])])
    assert sm.shuffle(width, block, depth) == sm.Network(width, [stage] * depth).straightened()[0]
