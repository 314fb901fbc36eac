"""Results of `fit`, invalid input and interruption."""

from contextlib import contextmanager

import numpy as np
import pytest
import scipy
from hypothesis import example, given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat._util.progress import bar
from structmat.errors import BlockError, StructmatError
from structmat.fitting import multistart, solver
from structmat.fitting.hierarchical_svd import hierarchical_blocks
from structmat.linalg import factors as stagewise
from structmat.testing import networks, seeds
from tests.fitting.targets import distance, haar, rounding


@given(networks(max_width=8), seeds())
@example(sm.Network.of(8, [[list(range(7))], [[0, 1, 2, 3], [4, 7]]]), 1)
def test_the_history_never_rises_and_ends_at_the_error(net, seed):
    target = haar(net.width, seed)
    found = sm.fit(net, target, rng=seed, starts=2, sweeps=20, progress=False)
    assert (np.diff(found.history) <= 0).all()
    assert found.history[-1] == found.error
    error = distance(stagewise.matrix_of(net, found.blocks), target) / net.width**0.5
    assert found.error == pytest.approx(error, abs=1e-13)


@pytest.mark.parametrize(
    "net",
    [
        sm.random(16, 4, 3, rng=0),
        sm.benes(16),
        sm.shuffle(24, 4),
        sm.families.waksman(12),
        sm.gossip(10),
        sm.brickwall(10, depth=5),
    ],
)
def test_exact_fits_without_a_direct_method_are_found_by_search(net):
    member = stagewise.matrix_of(net, sm.random_blocks(net, rng=5))
    found = sm.fit(net, member, rng=0)
    assert not found.exact
    assert found.error <= rounding(net) / net.width**0.5


def test_the_error_of_a_random_target_decreases_with_the_stages():
    """Only the complete ruler fits any target exactly."""
    target = haar(16)
    errors = [sm.fit(sm.ruler(16)[:k], target, rng=0).error for k in (4, 8, 12, 14, 15)]
    assert (np.diff(errors) < 0).all()
    assert errors[-2] > 0.01
    assert errors[-1] <= rounding(sm.ruler(16)) / 16**0.5


def test_the_same_seed_gives_the_same_fit():
    net, target = sm.random(12, 3, 2, rng=0), haar(12)
    one, other, third = (sm.fit(net, target, rng=seed, starts=1) for seed in (1, 1, 2))
    assert one.error == other.error
    assert all(map(np.array_equal, one.blocks, other.blocks))
    assert third.history[0] != one.history[0]


def test_more_starts_are_never_worse():
    net, target = sm.benes(8), haar(8)
    few, many = (
        min(sm.fit(net, target, rng=0, starts=n, sweeps=3).history) for n in (1, 8)
    )  # the first of eight starts is the one
    assert many <= few


@pytest.mark.parametrize("dtype", [np.float32, float, np.complex64, complex])
def test_the_blocks_have_the_dtype_of_the_target(dtype):
    for net in (sm.ruler(8), sm.butterfly(8), sm.families.omega(8)):
        found = sm.fit(net, haar(8, dtype=dtype), starts=1, sweeps=5)
        assert {b.dtype for b in found.blocks} == {np.dtype(dtype)}
    assert sm.fit(sm.ruler(8), haar(8, dtype=dtype)).error < 50 * np.finfo(dtype).eps
    assert sm.fit(sm.ruler(4), np.eye(4, dtype=int)[::-1]).blocks[0].dtype == float


def test_initial_blocks_are_used():
    net = sm.butterfly(16).repeat(2)
    blocks = sm.random_blocks(net, rng=0)
    member = stagewise.matrix_of(net, blocks)
    near = [b + 1e-2 * np.random.default_rng(1).standard_normal(b.shape) for b in blocks]
    found = sm.fit(net, member, start=near)
    assert found.error <= rounding(net) / 4  # where random starts end in a local minimum
    assert found.method.startswith("alternating Procrustes")


def test_an_interrupted_fit_returns_the_best_so_far(monkeypatch):
    net, target = sm.families.round_robin(9), haar(9)
    whole = sm.fit(net, target, rng=0, starts=1)

    def cut_short(*args, **options):
        for k, step in enumerate(all_sweeps(*args, **options)):
            if k == limit:
                raise KeyboardInterrupt
            yield step

    all_sweeps = multistart.procrustes_sweeps
    monkeypatch.setattr(multistart, "procrustes_sweeps", cut_short)
    limit = 3
    found = sm.fit(net, target, rng=0, starts=1)
    assert found.method == "alternating Procrustes, interrupted"
    assert found.history == pytest.approx(whole.history[:3], rel=1e-12)
    assert found.error == pytest.approx(
        distance(stagewise.matrix_of(net, found.blocks), target) / 3
    )
    limit = 0
    assert sm.fit(net, target, rng=0).method == "alternating Procrustes, interrupted"
    begins = [
        sm.random_blocks(sm.butterfly(8), rng=1),
        hierarchical_blocks(sm.butterfly(8), haar(8)),
    ]
    for begin, options in zip(begins, ({"start": begins[0]}, {}), strict=True):
        found = sm.fit(sm.butterfly(8), haar(8), **options)
        assert found.error == found.history[0]
        assert found.error == pytest.approx(
            distance(stagewise.matrix_of(sm.butterfly(8), begin), haar(8)) / 8**0.5
        )


def test_a_worse_refinement_step_is_rejected(monkeypatch):
    """Sweeps may compute the same distance in another order, and slightly lower."""
    net, target = sm.brickwall(6, depth=3), haar(6)
    search = multistart.Search(net, target, special=False, tolerance=0, enough=0.0)
    search.sweep(sm.random_blocks(net, rng=0), most=5)
    blocks, history = search.blocks, list(search.history)
    for distance_ in (history[-1] * (1 + 1e-12), history[-1]):
        steps = iter([(sm.identity_blocks(net), distance_), (blocks, 0.0)])
        monkeypatch.setattr(multistart, "refined", lambda *_, steps=steps: steps)
        search.refine()
        assert search.blocks is blocks
        assert search.history == history
        assert search.method == "alternating Procrustes"


# Precision and size ------------------------------------------------------------------------------

DTYPES = [np.float32, np.complex64, float, complex]


@settings(max_examples=100)
@given(networks(max_width=8), seeds(), st.sampled_from(DTYPES), st.booleans())
@example(net=sm.block_diagonal(8, 4), seed=0, dtype=np.float32, special=False)
@example(net=sm.block_diagonal(8, 4), seed=0, dtype=np.complex64, special=True)
def test_no_error_is_below_the_lower_bound_in_any_precision(net, seed, dtype, special):
    target = haar(net.width, seed, dtype=dtype)
    found = sm.fit(net, target, rng=0, starts=1, sweeps=5, special=special, progress=False)
    assert found.error >= found.lower_bound
    wide = [b.astype(np.result_type(b, float)) for b in found.blocks]
    error = distance(stagewise.matrix_of(net, wide), target.astype(np.result_type(target, float)))
    norm = np.linalg.norm(target.astype(np.result_type(target, float)))
    assert found.error == pytest.approx(error / norm, rel=1e-12, abs=1e-14)
    assert (np.diff(found.history) <= 0).all()


@settings(max_examples=40)
@given(networks(max_width=8), seeds(), st.sampled_from(DTYPES), st.integers(-60, -1))
def test_the_best_blocks_do_not_depend_on_the_scale_of_the_target(net, seed, dtype, power):
    """Bitwise equal for powers of two, which scale without rounding."""
    target = haar(net.width, seed, dtype=dtype)
    found, other = (
        sm.fit(net, target * factor, rng=0, starts=1, sweeps=5, progress=False)
        for factor in (target.dtype.type(2.0**power), target.dtype.type(2.0**40))
    )
    assert all(map(np.array_equal, found.blocks, other.blocks))
    double = np.result_type(target, float)
    product = stagewise.matrix_of(net, [b.astype(double) for b in found.blocks])
    for fit, wide in ((found, target.astype(double) * 2.0**power), (other, target * 2.0**40)):
        norm = np.linalg.norm(wide.astype(double))
        assert fit.error == pytest.approx(distance(product, wide) / norm, rel=1e-12)
        assert fit.lower_bound <= fit.error
        assert (np.diff(fit.history) <= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, float, complex])
@pytest.mark.parametrize("net", [sm.butterfly(8), sm.ruler(8), sm.benes(8)], ids=str)
def test_targets_of_extreme_norm_are_fitted_accurately(net, dtype):
    sizes = [1e-30, 1e30] if dtype == np.float32 else [1e-299, 1e-200, 1e200, 1e300]
    for target in (np.eye(8), haar(8), stagewise.matrix_of(net, sm.random_blocks(net, rng=0))):
        plain = sm.fit(net, target.astype(dtype), rng=0)
        for size in sizes:
            found = sm.fit(net, (target * size).astype(dtype), rng=0)
            assert found.error == pytest.approx(1 / size if size < 1 else 1.0, rel=1e-6)
            assert 0.999 * found.error < found.lower_bound <= found.error
            product = stagewise.matrix_of(net, found.blocks)
            assert distance(product, target) / 8**0.5 == pytest.approx(plain.error, abs=1e-6)
            assert found.exact == plain.exact


@pytest.mark.parametrize("dtype", [np.float32, float, np.complex64])
@pytest.mark.parametrize("net", [sm.butterfly(128), sm.butterfly(64, 32), sm.monarch(143)])
def test_an_exactly_representable_matrix_with_noise_is_not_fitted_exactly(net, dtype):
    """The noise is 100 ulps, or 1e-5 in single precision; without it, the fit is exact."""
    blocks = sm.random_blocks(net, rng=0, dtype=np.result_type(dtype, float))
    member = stagewise.matrix_of(net, blocks)
    assert sm.fit(net, member.astype(dtype)).exact
    noise = np.random.default_rng(1).standard_normal(member.shape) / net.width**0.5
    noisy = (member + 100 * np.finfo(dtype).eps * noise).astype(dtype)
    assert not sm.fit(net, noisy, starts=1, sweeps=1).exact


def test_a_network_without_switches_can_be_fitted():
    found = sm.fit(sm.Network(3), haar(3))
    assert found.blocks == []
    assert found.error == pytest.approx(found.lower_bound)
    assert sm.fit(sm.Network(1), [[2.0]]).error == 0.5


def test_wired_networks_can_be_fitted():
    net = sm.families.omega(16)
    member = stagewise.matrix_of(net, sm.random_blocks(net, rng=0))
    assert distance(stagewise.matrix_of(net, sm.fit(net, member).blocks), member) <= rounding(net)


def test_a_progress_bar_counts_the_sweeps_on_request(monkeypatch):
    bars = []

    @contextmanager
    def counted(what, total, *, unit, shown):
        with bar(what, total, unit=unit, shown=False) as steps:
            bars.append((total, shown, steps))
            yield steps

    net, target = sm.families.round_robin(9), haar(9)
    monkeypatch.setattr(solver, "bar", counted)
    for progress in (False, True):
        sm.fit(net, target, starts=2, sweeps=3, progress=progress)
        total, shown, steps = bars.pop()
        assert (total, shown, steps.n) == (6, progress, 6)
    sm.fit(net, target, starts=2, sweeps=3)
    assert bars[0][1] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": np.eye(3)}, r"target of shape \(3, 3\): this network has matrices of shape"),
        ({"target": [[1], [1, 2]]}, "target of shape"),
        ({"target": np.full((4, 4), np.nan)}, "NaN or infinity"),
        ({"target": np.zeros((4, 4))}, "the target is zero"),
        ({"target": scipy.sparse.eye_array(4)}, r"it must be an array of shape \(4, 4\), or a Rot"),
        ({"target": np.full((4, 4), "a")}, "real or complex"),
        ({"starts": 0}, "starts=0: starts must be an integer ≥ 1"),
        ({"sweeps": 0.5}, "sweeps=0.5: sweeps must be an integer ≥ 1"),
        ({"tolerance": 1.0}, "tolerance=1.0: it must be a number from 0 to below 1"),
        ({"tolerance": float("nan")}, "tolerance=nan"),
        ({"tolerance": "x"}, "tolerance='x': it must be a number"),
        ({"tolerance": None}, "tolerance=None: it must be a number"),
        ({"target": np.full((4, 4), 1e301)}, r"entries up to 1e\+301: errors would overflow"),
        ({"target": np.full((4, 4), 1e308 + 1.7e308j)}, "errors would overflow"),
        ({"target": np.full((4, 4), 5e-324)}, "entries up to 5e-324: errors would overflow"),
        ({"special": 1}, "special=1: special must be True or False"),
        ({"rng": -1}, "rng=-1"),
    ],
)
def test_invalid_arguments_are_rejected(options, message):
    target = options.pop("target", np.eye(4))
    with pytest.raises(StructmatError, match=message):
        sm.fit(sm.butterfly(4), target, **options)


@pytest.mark.parametrize("net", ["butterfly", None, sm.butterfly])
def test_only_a_network_is_fitted(net):
    with pytest.raises(StructmatError, match=r"^fit of .*: it takes a network"):
        sm.fit(net, np.eye(4))


def test_blocks_of_the_wrong_shape_are_rejected():
    with pytest.raises(BlockError, match="1 arrays of blocks: the network has 2 banks"):
        sm.fit(sm.butterfly(4), np.eye(4), start=[np.eye(2)])
    net = sm.butterfly(4)
    with pytest.raises(BlockError, match="start has complex blocks"):
        sm.fit(net, np.eye(4), start=sm.random_blocks(net, dtype=complex))


def test_rotations_are_targets():
    r = sm.transforms.dct(8)
    found = sm.fit(r.network, r)
    assert found.error == sm.fit(r.network, r.matrix()).error < 1e-14
    with pytest.raises(AttributeError, match=r"a Fit has no matrix: use its attribute rotation\.m"):
        _ = found.matrix
    with pytest.raises(AttributeError, match="a Fit has no attribute 'loss'"):
        _ = found.loss
