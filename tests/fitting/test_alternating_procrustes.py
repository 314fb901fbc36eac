"""Alternating Procrustes: the error never increases, and the limit is stationary."""

from math import comb

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.fitting.alternating_procrustes import procrustes_sweeps
from structmat.fitting.levenberg_marquardt import refined
from structmat.fitting.procrustes import polar
from structmat.linalg import factors as stagewise
from structmat.linalg.blocks import cayley
from structmat.testing import assert_orthogonal, networks, seeds
from tests.fitting.targets import distance, haar, rounding

DTYPES = st.sampled_from([float, complex])


@given(networks(wired=False, screens=True), seeds(), DTYPES, st.booleans())
def test_the_distance_decreases_with_every_sweep_and_is_exact(net, seed, dtype, special):
    """This includes non-orthogonal targets, and sweeps after products are recomputed."""
    rng = np.random.default_rng(seed)
    target = rng.standard_normal((net.width, net.width)).astype(dtype)
    if target.dtype.kind == "c":
        target += 1j * rng.standard_normal(target.shape)
    begin = sm.random_blocks(net, rng, dtype, special=special)
    last = distance(stagewise.matrix_of(net, begin), target) * (1 + 1e-14)
    for sweep, (blocks, now) in enumerate(procrustes_sweeps(net, target, begin, special=special)):
        assert now <= last if sweep == 0 else now < last
        last = now
        assert now == pytest.approx(
            distance(stagewise.matrix_of(net, blocks), target), rel=1e-13, abs=1e-13
        )
        for array in blocks:
            if special and dtype is float:
                assert (np.linalg.det(array) > 0).all()
            for block in array:
                assert_orthogonal(block)
        if sweep == 20:
            break


@given(networks(wired=False, max_depth=1, screens=True), seeds())
def test_one_stage_solves_the_procrustes_problem_of_each_switch(net, seed):
    target = haar(net.width, seed)
    (blocks, _), *_ = procrustes_sweeps(net, target, sm.identity_blocks(net))
    for bank, array in zip(net.banks, blocks, strict=True):
        for wires, block in zip(bank.reads, array, strict=True):
            best, _ = scipy.linalg.orthogonal_procrustes(
                np.eye(len(wires)), target[np.ix_(wires, wires)]
            )
            assert np.allclose(block, best, atol=1e-10)


@given(st.integers(1, 5), seeds(), st.booleans(), DTYPES)
def test_no_orthogonal_matrix_is_nearer_than_the_polar_factor(radix, seed, special, dtype):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((radix, radix)).astype(dtype)
    best = polar(matrix, special=special)
    assert_orthogonal(best)
    net = sm.Network.of(radix, [[list(range(radix))]] if radix > 1 else [])
    for blocks in (sm.random_blocks(net, rng, dtype, special=special) for _ in range(20)):
        other = stagewise.matrix_of(net, blocks)
        assert distance(best, matrix) <= distance(other, matrix) + 1e-12
    if special and dtype is float and radix > 1:
        assert np.linalg.det(best) > 0


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(
    "net",
    [
        sm.butterfly(8),
        sm.random(9, 3, 3, rng=1),
        sm.shuffle(12, 4),
        sm.brickwall(6, depth=4),
        sm.gossip(7),
    ],
)
def test_a_converged_fit_is_stationary_in_every_generator(net, special):
    """Central differences with respect to each generator of each block vanish."""
    target = haar(net.width, 3)
    found = sm.fit(net, target, rng=0, sweeps=2000, tolerance=0, special=special)
    step = 1e-5
    for k, bank in enumerate(net.banks):
        for row in range(bank.count):
            for g in np.eye(bank.radix * (bank.radix - 1) // 2):
                values = []
                for way in (step, -step):
                    blocks = [b.copy() for b in found.blocks]
                    blocks[k][row] = cayley(way * g, bank.radix) @ blocks[k][row]
                    values.append(distance(stagewise.matrix_of(net, blocks), target) ** 2)
                assert abs(values[0] - values[1]) / (2 * step) < 1e-5
                assert min(values) > (found.error * net.width**0.5) ** 2 - 1e-9


@given(networks(wired=False, max_width=6, screens=True).filter(lambda net: net.parameters), seeds())
def test_refinement_decreases_the_distance(net, seed):
    target = haar(net.width, seed)
    last = np.inf
    for blocks, now in list(refined(net, target, sm.identity_blocks(net)))[:10]:
        assert now < last
        last = now
        assert now == pytest.approx(distance(stagewise.matrix_of(net, blocks), target), abs=1e-13)


@pytest.mark.parametrize("dtype", [float, complex])
def test_refinement_converges_quadratically_near_an_exact_fit(dtype):
    net = sm.random(12, 4, 3, rng=0).then(sm.Network.of(12, [[[w] for w in range(12)]]))
    blocks = sm.random_blocks(net, 1, dtype)
    member = stagewise.matrix_of(net, blocks)
    rng = np.random.default_rng(2)
    near = []
    for bank, array in zip(net.banks, blocks, strict=True):
        each = bank.radix**2 if dtype is complex else comb(bank.radix, 2)
        small = 1e-3 * rng.standard_normal((bank.count, each))
        near.append(cayley(small, bank.radix) @ array)
    distances = [now for _, now in refined(net, member, near)]
    assert distances[-1] <= rounding(net)
    assert sum(now > rounding(net) for now in distances) < 6  # then it falls by rounding only
