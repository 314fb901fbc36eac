"""A permutation of the inputs or outputs that makes a target exact is found, and reported."""

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.fitting import solver
from structmat.fitting.end_permutations import _Conditions, end_permutations
from structmat.fitting.named_permutations import named_permutations
from structmat.linalg import factors as stagewise
from structmat.networks.permutation import inverse
from structmat.testing import networks, seeds
from tests.fitting.targets import distance, haar, rounding

CHEAP = {"starts": 1, "sweeps": 1, "progress": False, "rng": 0}


def member(net, seed, dtype=float):
    return stagewise.matrix_of(net, sm.random_blocks(net, seed, dtype, special=False))


def check_permuted(found, net, target):
    """Check that `permuted` is the network with other ends, and equal to the target."""
    r = found.permuted
    assert distance(r.matrix(), target / found.scale) <= rounding(net)
    assert [s.parameters for s in r.network.stages] == [s.parameters for s in net.stages]
    for stage, own in zip(r.network.stages[1:-1], net.stages[1:-1], strict=True):
        assert stage == own
    if net.depth > 1:
        for own, changed, kept in (
            (net[0], r.network[0], "writes"),
            (net[-1], r.network[-1], "reads"),
        ):
            for bank, other in zip(own.banks, changed.banks, strict=True):
                assert (getattr(bank, kept) == getattr(other, kept)).all()
    assert f"With its {found.permutation}, the network represents" in str(found)


# Transforms --------------------------------------------------------------------------------------


def fourier(n):
    return scipy.fft.fft(np.eye(n), norm="ortho")


@pytest.mark.parametrize(
    ("spec", "target", "permutation"),
    [
        ("butterfly", fourier(8), "inputs bit-reversed"),
        ("butterfly", fourier(64), "inputs bit-reversed"),
        ("mixed_radix(reverse=True)", fourier(16), "outputs bit-reversed"),
        ("mixed_radix", fourier(12), "inputs digit-reversed for radices 2, 2, 3"),
        ("monarch(radices=(6, 2))", fourier(12), "inputs digit-reversed for radices 6, 2"),
        ("mixed_radix(reverse=True)", fourier(12), "outputs digit-reversed for radices 3, 2, 2"),
        ("monarch", fourier(20), "inputs digit-reversed for radices 4, 5"),
        ("omega", fourier(16), "outputs bit-reversed"),
        ("baseline", fourier(16), "inputs bit-reversed and outputs permuted"),
        ("butterfly", fourier(16)[::-1], "inputs bit-reversed"),
        ("butterfly", fourier(16)[:, np.r_[0, 15:0:-1]], "inputs bit-reversed"),
        ("butterfly", sm.transforms.hadamard(16, "sequency").matrix(), "outputs bit-reversed"),
        ("butterfly", sm.transforms.hadamard(16, "dyadic").matrix(), "inputs bit-reversed"),
    ],
)  # fmt: skip
def test_transforms_are_recognised(spec, target, permutation):
    net = sm.parse(spec)(len(target))
    found = sm.fit(net, target, **CHEAP)
    assert not found.exact
    assert found.lower_bound > 0.1  # without the permutation, it is not a matrix of the network
    assert found.permutation == permutation
    check_permuted(found, net, target)


@pytest.mark.parametrize("n", [8, 12, 20])
def test_transforms_are_exact_on_their_own_networks(n):
    for r in (sm.transforms.dft(n), sm.transforms.idft(n), sm.transforms.hadamard(n)):
        found = sm.fit(r.network, r.matrix(), **CHEAP)
        assert found.exact
        assert found.permuted is None
        assert found.permutation == ""
        assert found.error < 1e-14


@pytest.mark.parametrize(("target", "factor"), [(scipy.linalg.dft(8), 8), (fourier(8) * 1e-3, 1)])
def test_a_multiple_of_the_fourier_transform_is_reported_with_its_scale(target, factor):
    found = sm.fit(sm.butterfly(8), target, **CHEAP)
    scale = np.linalg.norm(target) / 8**0.5
    assert found.scale == pytest.approx(scale)
    check_permuted(found, sm.butterfly(8), target)
    assert f"represents target / {scale:.4g} exactly" in str(found)


@pytest.mark.parametrize("factor", [1e-200, 0.01, 3, 8**0.5, 1e100])
def test_exactness_is_recognised_for_multiples(factor):
    target = scipy.linalg.hadamard(8) / 8**0.5 * factor
    found = sm.fit(sm.butterfly(8), target, **CHEAP)
    assert found.exact
    assert found.permuted is None
    assert found.scaled_error < 1e-14
    assert found.error == pytest.approx(abs(1 - 1 / factor), rel=1e-12)
    assert f"norm is {factor:.4g} times" in str(found)
    assert f"so the target is {factor:.4g} times the fitted matrix" in str(found)


# Any permutation of one end ----------------------------------------------------------------------

SINGLE_PATHS = [
    "butterfly", "mixed_radix", "mixed_radix(reverse=True)", "monarch", "omega", "baseline",
    "shuffle(block=2)", "shuffle(block=4)",
]  # fmt: skip


@settings(max_examples=20)
@given(st.sampled_from(SINGLE_PATHS), seeds(), st.booleans(), st.sampled_from([float, complex]))
def test_any_permutation_of_one_end_is_found(spec, seed, outputs, dtype):
    net = sm.parse(spec)(16)
    p = np.random.default_rng(seed).permutation(16)
    matrix = member(net, seed, dtype)
    target = matrix[p] if outputs else matrix[:, p]
    found = sm.fit(net, target, **CHEAP)
    if not found.exact:  # a permutation that the blocks can absorb
        check_permuted(found, net, target)


@pytest.mark.parametrize("spec", ["butterfly(block=4, depth=2)", "block_diagonal(block=4)"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("steps", [1, 5])
def test_cyclic_shifts_are_found_on_sparse_networks(spec, axis, steps):
    net = sm.parse(spec)(16)
    target = np.roll(member(net, 1), steps, axis=axis)
    found = sm.fit(net, target, **CHEAP)
    assert found.permutation.startswith("outputs shifted" if axis == 0 else "inputs shifted")
    check_permuted(found, net, target)


@settings(max_examples=20)
@given(networks(max_width=9), seeds())
def test_the_conditions_hold_for_every_named_permutation(net, seed):
    straight = net.straightened().network
    conditions = _Conditions(net, 1e-9)
    matrix = member(net, seed)
    for name, p in named_permutations(straight):
        wires = np.arange(net.width)
        # Necessary conditions hold for every matrix of the network, wherever its ends are.
        assert conditions.hold(matrix[:, inverse(p)], wires, p), name
        assert conditions.hold(matrix[p], inverse(p), wires), name
    if not conditions.checked:
        assert list(end_permutations(net, matrix, 1e-9)) == []


@pytest.mark.parametrize("dtype", [np.float32, float, np.complex64, complex])
@pytest.mark.parametrize("special", [False, True])
def test_the_rotation_has_the_requested_dtype_and_determinants(dtype, special):
    net = sm.butterfly(16)
    matrix = member(net, 3, dtype)
    if special:
        matrix = stagewise.matrix_of(net, sm.random_blocks(net, 3, dtype, special=True))
    p = np.random.default_rng(0).permutation(16)
    if np.linalg.det(np.eye(16)[p]) < 0:
        p[:2] = p[1::-1]
    target = matrix[p]
    found = sm.fit(net, target, special=special, **CHEAP)
    assert found.permuted.dtype == dtype
    gap = found.permuted.matrix() - target
    assert np.abs(gap).max() < 100 * np.finfo(dtype).eps
    if special and np.dtype(dtype).kind == "f":
        assert all((np.linalg.det(b) > 0).all() for b in found.permuted.blocks)


def test_wired_networks_are_recognised_as_well():
    plain = sm.transforms.dft(16).network  # with the bit reversal at its inputs
    assert not plain.is_straight
    found = sm.fit(plain, fourier(16)[np.r_[5, 0:5, 6:16]], **CHEAP)
    check_permuted(found, plain, fourier(16)[np.r_[5, 0:5, 6:16]])


# What is not a member ----------------------------------------------------------------------------


@settings(max_examples=25)
@given(networks(max_width=8), seeds(), st.sampled_from(["haar", "permutation", "signs"]))
def test_reported_permutations_are_exact_and_do_not_change_other_results(net, seed, kind):
    rng = np.random.default_rng(seed)
    target = haar(net.width, seed)
    if kind != "haar":
        target = np.eye(net.width)[rng.permutation(net.width)]
    if kind == "signs":
        target *= rng.choice([-1.0, 1.0], net.width)
    found = sm.fit(net, target, **CHEAP)
    if found.permuted is not None:
        assert distance(found.permuted.matrix(), target) <= rounding(net)
        assert found.permutation
        assert found.error > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver, "_with_permutation", lambda *_, **__: None)
        plain = sm.fit(net, target, **CHEAP)
    assert plain.permuted is None
    assert (plain.error, plain.lower_bound, plain.exact) == (
        found.error, found.lower_bound, found.exact,
    )  # fmt: skip
    assert (plain.method, plain.history) == (found.method, found.history)
    assert all(map(np.array_equal, plain.blocks, found.blocks))


@pytest.mark.parametrize("spec", ["butterfly", "mixed_radix(largest=8)", "butterfly(block=8)"])
def test_a_target_without_structure_has_no_candidate(spec):
    for width in (64, 128):
        assert list(end_permutations(sm.parse(spec)(width), haar(width), 1e-10)) == []


def test_blocks_given_as_a_start_are_not_permuted():
    net = sm.butterfly(8)
    found = sm.fit(net, fourier(8), start=sm.identity_blocks(net), **CHEAP)
    assert found.permuted is None


# Names -------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(networks(max_width=12))
def test_named_permutations_are_distinct_permutations(net):
    straight = net.straightened().network
    found = list(named_permutations(straight))
    assert len({name for name, _ in found}) == len(found)
    keys = {tuple(p.tolist()) for _, p in found}
    assert len(keys) == len(found)
    assert tuple(range(net.width)) not in keys
    assert all(sorted(key) == list(range(net.width)) for key in keys)


def test_named_permutations_match_their_names():
    found = dict(named_permutations(sm.butterfly(8)))
    assert found["bit-reversed"].tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    assert found["in reverse order"].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert found["with even ones first"].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    walsh = scipy.linalg.hadamard(8)[found["in sequency order"]]
    assert (np.diff(walsh) != 0).sum(axis=1).tolist() == list(range(8))
    x = np.arange(8)
    assert x[found["shifted cyclically by 2"]].tolist() == np.roll(x, 2).tolist()
