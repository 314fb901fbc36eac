"""The lower bound never exceeds an attained error and equals the minimum where it is known."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.fitting.error_bounds import lower_bound
from structmat.fitting.stage_splits import connected, groups
from structmat.linalg import factors as stagewise
from structmat.testing import networks, seeds
from tests.fitting.targets import distance, haar

EPS = np.finfo(float).eps


@st.composite
def targets(draw, width):
    """Draw a target: Haar, signed permutation, diagonal, a single entry, or arbitrary."""
    seed = draw(seeds())
    rng = np.random.default_rng(seed)
    return draw(
        st.sampled_from(
            [
                haar(width, seed),
                haar(width, seed, dtype=complex),
                np.eye(width)[rng.permutation(width)] * rng.choice([-1, 1], width)[:, None],
                np.diag(rng.choice([-1.0, 1.0], width)),
                np.eye(width)[::-1] * np.eye(width)[0],
                3 * rng.standard_normal((width, width)),
                rng.standard_normal((width, 1)) @ rng.standard_normal((1, width)) + 1e-3,
            ]
        ).filter(np.any)
    )


@settings(max_examples=300)
@given(networks(wired=False, max_width=10, screens=True), st.data(), st.booleans())
def test_no_choice_of_blocks_is_below_the_lower_bound(net, data, special):
    target = data.draw(targets(net.width))
    least = lower_bound(net, target, special=special)
    blocks = sm.random_blocks(net, data.draw(seeds()), target.dtype, special=special)
    norm = np.linalg.norm(target)
    for tried in (blocks, sm.identity_blocks(net, target.dtype)):
        assert least <= distance(stagewise.matrix_of(net, tried), target) / norm + 50 * EPS


@settings(max_examples=100)
@given(networks(max_width=10, screens=True), st.data(), st.booleans())
def test_no_fit_is_below_the_lower_bound(net, data, special):
    target = data.draw(targets(net.width))
    found = sm.fit(net, target, rng=0, starts=2, sweeps=10, special=special, progress=False)
    error = distance(stagewise.matrix_of(net, found.blocks), target) / np.linalg.norm(target)
    assert found.error == pytest.approx(error, rel=1e-12, abs=1e-13)
    assert found.lower_bound <= error + 50 * EPS


def certain(net, target):
    """Return the minimum error of a direct sum of 2×2 blocks, to fifty digits."""
    with mpmath.workdps(50):
        square = total = mpmath.mpf(0)
        for value in target.ravel().tolist():
            total += mpmath.mpf(value) ** 2
        square += total
        for a, b in net.banks[0].reads.tolist():
            (p, q), (r, s) = (
                [mpmath.mpf(float(v)) for v in row] for row in target[np.ix_([a, b], [a, b])]
            )
            both = mpmath.sqrt(p * p + q * q + r * r + s * s + 2 * abs(p * s - q * r))
            square += 2 - 2 * both  # of singular values: Σ(σ − 1)² = Σσ² + 2 − 2Σσ
        return mpmath.sqrt(square / total)


@pytest.mark.parametrize("width", [2, 4, 8, 16])
@pytest.mark.parametrize("size", [1.0, 1e-3, 30.0])
def test_the_bound_never_exceeds_an_attained_error_by_rounding(width, size):
    net = sm.block_diagonal(width, 2)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        target = haar(width, seed) if seed % 2 else rng.standard_normal((width, width))
        exact = certain(net, size * target)
        found = lower_bound(net, size * target)
        assert found <= exact  # without any slack
        assert found >= exact - 100 * width * EPS * (1 + exact)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [2, 4, 8, 16])
def test_an_error_that_attains_the_bound_is_never_below_it_by_rounding(width, dtype):
    """Blocks rounded to single precision may come nearer to the target than orthogonal ones."""
    net = sm.block_diagonal(width, 2)
    for seed in range(20):
        target = haar(width, seed).astype(dtype)
        found = sm.fit(net, target, progress=False)
        with mpmath.workdps(50):
            made, square = (
                stagewise.matrix_of(net, [b.astype(float) for b in found.blocks]),
                mpmath.mpf(0),
            )
            for a, b in zip(made.ravel().tolist(), target.ravel().tolist(), strict=True):
                square += (mpmath.mpf(a) - mpmath.mpf(b)) ** 2
            total = sum(mpmath.mpf(v) ** 2 for v in target.ravel().tolist())
            assert found.lower_bound <= mpmath.sqrt(square / total)
        assert found.lower_bound >= found.error - 200 * width * np.finfo(dtype).eps


@given(networks(wired=False, screens=True), seeds(), st.booleans())
def test_the_lower_bound_of_an_exactly_representable_matrix_is_zero(net, seed, special):
    member = stagewise.matrix_of(net, sm.random_blocks(net, rng=seed, special=special))
    assert lower_bound(net, member, special=special) < 1e-12


@given(networks(wired=False, screens=True), seeds())
def test_lower_bound_includes_all_unreachable_entries(net, seed):
    target = np.random.default_rng(seed).standard_normal((net.width, net.width))
    missed = np.linalg.norm(target[~sm.reach(net)]) / np.linalg.norm(target)
    assert lower_bound(net, target) >= missed - 1e-12


@pytest.mark.parametrize("block", [2, 4, 8, 16])
def test_the_lower_bound_of_a_direct_sum_is_attained(block):
    found = sm.fit(sm.block_diagonal(16, block), haar(16, 1))
    assert found.error == pytest.approx(found.lower_bound, abs=1e-12)


def test_a_bottleneck_bounds_the_rank():
    """Two halves joined by one switch: of a swap of the halves, three singular values are lost.

    So are three each of the two other parts, to which rows of length 1 must move instead.
    """
    half = [[0, 1, 2, 3], [4, 5, 6, 7]]
    net = sm.Network.of(8, [half, [[3, 4]], half])
    swap = np.roll(np.eye(8), 4, axis=0)
    assert sm.is_dense(net)
    assert lower_bound(net, swap) == pytest.approx((4 * 3 / 8) ** 0.5, abs=1e-12)
    found = sm.fit(net, swap, rng=0)
    assert found.error == pytest.approx(found.lower_bound, abs=1e-12)


def test_unique_paths_bound_the_rank_of_submatrices_by_one():
    """On a butterfly, two outputs and half of the inputs meet in one wire for each half."""
    net, target = sm.butterfly(16), haar(16, 2)
    square = 0.0
    for i in range(8):
        for half in (slice(0, 8), slice(8, 16)):
            large, small = np.linalg.svd(target[[i, i + 8], half], compute_uv=False)
            square += (large - 1) ** 2 + small**2
    assert lower_bound(net, target) >= (square / 16) ** 0.5 - 1e-12
    assert lower_bound(net, target) > 0.6


def test_the_bound_accounts_for_the_determinant():
    target = haar(9)
    target[0] *= -np.sign(np.linalg.det(target))
    found = sm.fit(sm.brickwall(9), target, special=True)
    assert found.exact
    assert found.error == pytest.approx(2 / 3)
    assert found.lower_bound == pytest.approx(2 / 3)
    assert sm.fit(sm.brickwall(9), target).error < 1e-14
    unitary = haar(9, dtype=complex)
    unitary[0] *= -1 / np.linalg.det(unitary)
    assert (
        lower_bound(sm.brickwall(9), unitary, special=True) == 0
    )  # no unitary matrix is out of reach


@given(networks(wired=False, screens=True))
def test_connected_components_agree_with_reachability(net):
    labels = connected(net)
    assert len(labels) == net.depth + 1
    for t, label in enumerate(labels):
        part = net[:t]
        both = part.then(part.inverse())
        joined = sm.reach(both.repeat(net.width))  # there and back often enough
        assert np.array_equal(label[:, None] == label, joined)
        assert np.array_equal(np.sort(np.concatenate(groups(label))), np.arange(net.width))
        assert all(len(set(label[group])) == 1 for group in groups(label))
