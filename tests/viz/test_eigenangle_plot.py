"""The histogram against the sampled matrices, and the Haar curve against Haar matrices."""

from __future__ import annotations

import numpy as np
import pytest

import structmat as sm
from structmat import viz
from structmat.errors import WidthError


def heights(net, **options):
    """The heights of the histogram and of the Haar curve."""
    bars, line = viz.eigenangles(net, **options).patches
    return bars.get_data().values, line.get_data().values


@pytest.mark.parametrize("net", [sm.butterfly(8), sm.brickwall(7), sm.benes(4)])
def test_both_curves_are_densities(net):
    for values in heights(net, samples=5, bins=30):
        assert values.mean() == pytest.approx(1)


@pytest.mark.parametrize("width", [2, 5, 6])
def test_one_switch_of_all_wires_is_haar(width):
    samples, bins = 4000, 8
    bars, line = heights(sm.block_diagonal(width, width), samples=samples, bins=bins, rng=1)
    angles = samples * (width // 2)
    # counts are binomial at most: angles of a matrix repel each other
    spread = np.sqrt(line / bins * (1 - line / bins) / angles) * bins
    assert np.abs(bars - line).max() < 5 * spread.max()


def test_blocks_of_two_deviate_from_the_haar_curve():
    bars, line = heights(sm.block_diagonal(16, 2), samples=1000, bins=8)
    assert np.abs(line - 1).max() > 5 * np.abs(bars - 1).max()  # theirs are spread evenly


def test_plots_are_reproducible_and_need_two_wires():
    net = sm.butterfly(8)
    first, again, other = (heights(net, samples=3, rng=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    with pytest.raises(WidthError, match="a single wire has no rotations"):
        viz.eigenangles(sm.Network(1))
