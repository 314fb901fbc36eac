"""Eigenangles, against matrices with known ones, Weyl's integration formula and scipy's sampler."""

import itertools
import json
from math import log, pi, sqrt

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis.spectrum import (
    SpectralStatistics,
    angles_of,
    eigenangles,
    haar_angles,
    spacing_ratio,
    spectral_statistics,
)
from structmat.errors import BlockError, StructmatError, WidthError
from structmat.linalg import factors as stagewise
from structmat.testing import networks, seeds


@given(st.lists(st.floats(0, pi), max_size=6), st.integers(0, 1), seeds())
def test_eigenangles_of_a_constructed_rotation_are_recovered(pairs, fixed, seed):
    d = 2 * len(pairs) + fixed
    if d == 0:
        return
    planes = [[[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]] for t in pairs]
    rotation = scipy.linalg.block_diag(*planes, np.eye(fixed))[:d, :d]
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    expected = np.sort(np.abs([*pairs, *pairs, *[0.0] * fixed]))
    found = eigenangles(q @ rotation @ q.T)
    assert (np.diff(found) >= 0).all()
    np.testing.assert_allclose(np.sort(np.abs(found)), expected, atol=64 * d * np.finfo(float).eps)


@given(st.lists(st.floats(-pi, pi), min_size=1, max_size=8), seeds())
def test_eigenangles_of_a_constructed_unitary_matrix_are_recovered(angles, seed):
    d = len(angles)
    v = scipy.stats.unitary_group.rvs(d, random_state=seed) if d > 1 else np.ones((1, 1))
    found = eigenangles(v @ np.diag(np.exp(1j * np.array(angles))) @ np.conj(v.T))
    distance = np.exp(1j * found)[:, None] - np.exp(1j * np.array(angles))  # on the circle: −π is π
    assert np.abs(distance).min(axis=0).max() < 64 * d * np.finfo(float).eps
    assert np.abs(distance).min(axis=1).max() < 64 * d * np.finfo(float).eps


@given(networks(screens=True), seeds(), st.sampled_from([np.float32, np.float64, np.complex128]))
def test_eigenangles_of_random_blocks_give_trace_and_determinant(net, seed, dtype):
    r = stagewise.matrix_of(net, sm.random_blocks(net, seed, dtype))
    angles = eigenangles(r)
    assert angles.shape == (net.width,)
    limit = 64 * (net.width + net.depth) ** 1.5 * np.finfo(r.dtype).eps
    assert abs(np.exp(1j * angles).sum() - np.trace(r)) < limit
    assert abs(np.exp(1j * angles.sum()) - np.linalg.det(r)) < limit


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1.0, 1.0], [0.0, 1.0]], "deviates from orthogonality by 1"),
        ([[1.0, 0.0]], r"matrix \(1, 2\) of dtype float64: it must be square"),
        ([["a"]], "it must be square and numeric"),
        ([[np.nan]], "deviates from orthogonality by nan"),
    ],
)
def test_eigenangles_rejects_invalid_arguments(matrix, message):
    with pytest.raises(BlockError, match=message):
        eigenangles(matrix)


@pytest.mark.parametrize("width", [2, 3, 4, 5, 6, 7])
def test_haar_angles_follow_weyls_integration_formula(width):
    """The joint density is ∏(cos θ_i − cos θ_j)², for odd widths times ∏ sin²(θ_i/2)."""
    points, weights = np.polynomial.legendre.leggauss(40)
    theta, weights = (points + 1) * pi / 2, weights * pi / 2
    grid = np.meshgrid(*[theta] * (width // 2), indexing="ij")
    density = np.ones_like(grid[0])
    for i, one in enumerate(grid):
        density *= np.sin(one / 2) ** 2 if width % 2 else 1.0
        for other in grid[:i]:
            density *= (np.cos(one) - np.cos(other)) ** 2
    for _ in range(width // 2 - 1):
        density = density @ weights
    density /= density @ weights
    # integrate the density of one angle against polynomials, by parts
    for power in range(1, 9):
        moment = (density * theta**power) @ weights
        below = haar_angles(theta, width)
        assert moment == pytest.approx(pi**power - (power * theta ** (power - 1) * below) @ weights)


@pytest.mark.parametrize("width", [2, 3, 8, 9, 64, 65])
def test_haar_angles_are_a_distribution_function(width):
    grid = np.linspace(0, pi, 2001)
    below = haar_angles(grid, width)
    assert below[0] == pytest.approx(0, abs=1e-12)
    assert below[-1] == pytest.approx(1, abs=1e-12)
    assert (np.diff(below) > -1e-15).all()


@pytest.mark.parametrize("width", [6, 7])
def test_haar_angles_agree_with_scipys_random_rotations(width):
    """One angle of each matrix is used, for independence; the bound is that of Dvoretzky et al."""
    draws = 2000
    rng = np.random.default_rng(3)
    rotations = scipy.stats.special_ortho_group.rvs(width, size=draws, random_state=rng)
    angles = [np.sort(np.abs(eigenangles(r)))[width % 2 :: 2] for r in rotations]
    picked = np.take_along_axis(
        np.array(angles), rng.integers(width // 2, size=draws)[:, None], axis=1
    )
    distance = scipy.stats.ks_1samp(picked.ravel(), haar_angles, (width,)).statistic
    assert distance < sqrt(log(2 / 1e-9) / (2 * draws))


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=20), st.floats(0.1, 10), st.floats(-1, 1))
def test_spacing_ratio_is_scale_invariant(gaps, scale, shift):
    angles = np.cumsum([0.0, *gaps])
    ratio = spacing_ratio(angles)
    expected = np.mean([min(a, b) / max(a, b) for a, b in itertools.pairwise(gaps)])
    assert ratio == pytest.approx(expected, rel=1e-9)
    assert spacing_ratio(angles * scale + shift) == pytest.approx(ratio, rel=1e-9)
    assert spacing_ratio([angles, angles]) == pytest.approx(ratio, rel=1e-9)


def test_spacing_ratio_of_known_angles():
    assert spacing_ratio(np.arange(9.0)) == 1
    assert spacing_ratio(np.zeros(9)) == 0
    apart = np.sort(np.random.default_rng(0).random(40_000))
    assert spacing_ratio(apart) == pytest.approx(2 * log(2) - 1, abs=0.01)


@pytest.mark.parametrize("width", [16, 17])
def test_one_switch_is_haar(width):
    net = sm.Network.of(width, [[range(width)]])
    found = spectral_statistics(net, samples=400, rng=0)
    assert found.ratio == pytest.approx(found.haar_ratio, abs=0.02)
    assert found.angle_distance < 0.03
    assert found.spacing_distance < 0.05


def test_butterflies_look_like_haar_and_broken_networks_do_not():
    haar = spectral_statistics(sm.butterfly(32), samples=100, rng=0)
    assert haar.spacing_distance < 0.06
    assert abs(haar.ratio - haar.haar_ratio) < 0.03
    for broken in (sm.block_diagonal(32, 4), sm.butterfly(32, block=8, depth=2)):
        apart = spectral_statistics(broken, samples=100, rng=0)
        assert apart.ratio < 0.45
        assert apart.spacing_distance > 0.15
    still = spectral_statistics(sm.Network(32), samples=2, rng=0)
    assert still.ratio == 0
    assert still.angle_distance == pytest.approx(1)


def test_wired_networks_are_straightened():
    wired = sm.families.omega(8)
    straight = wired.straightened().network
    assert spectral_statistics(wired, samples=5, rng=4) == spectral_statistics(
        straight, samples=5, rng=4
    )


def test_spectral_statistics_have_text_and_json():
    found = spectral_statistics(sm.butterfly(8), samples=20, rng=np.random.default_rng(0))
    assert found == spectral_statistics(sm.butterfly(8), samples=20, rng=0)
    assert SpectralStatistics(**json.loads(json.dumps(found.to_dict()))) == found
    lines = str(found).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert f"{found.ratio:.3f}" in lines[1]
    assert found._repr_html_().count("<tr>") == 4


def test_spectral_statistics_rejects_invalid_arguments():
    with pytest.raises(WidthError, match="width=5: comparing gaps between eigenangles"):
        spectral_statistics(sm.Network(5))
    with pytest.raises(StructmatError, match="samples=0"):
        spectral_statistics(sm.butterfly(8), samples=0)


# Unitary matrices ------------------------------------------------------------------------------


def test_unitary_eigenangles_are_uniform():
    net = sm.block_diagonal(8, 8)
    angles = angles_of(net, 400, field="complex", rng=0)
    assert angles.shape == (400, 8)
    assert (np.diff(angles, axis=1) >= 0).all()
    found = spectral_statistics(net, field="complex", samples=400, rng=0)
    assert found.angle_distance < 2 / (400 * 8) ** 0.5  # less than for independent angles
    assert found.spacing_distance < 0.05
    assert abs(found.ratio - 0.6) < 0.02  # 0.603 for the circular unitary ensemble (Atas)
    apart = spectral_statistics(sm.block_diagonal(8, 2), field="complex", samples=400, rng=0)
    assert apart.ratio < 0.5


def test_three_unitary_angles_suffice():
    three = sm.block_diagonal(3, 3)
    assert spectral_statistics(three, field="complex", samples=10, rng=0).samples == 10
    with pytest.raises(WidthError, match="width 3 or more"):
        spectral_statistics(sm.block_diagonal(2, 2), field="complex")
    assert haar_angles([-np.pi, 0, np.pi], 5, field="complex").tolist() == [0, 0.5, 1]
