"""Learned topologies: soft permutations, their gradients, and networks found again."""

import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError, WidthError
from structmat.nn import learn_topology
from structmat.nn.learned_topology import hardened, proposals, sinkhorn, stages_product
from structmat.nn.parametrizations import exponential
from structmat.search.study.engine import search
from structmat.testing import seeds

QUICK = {"steps": 40, "starts": 2, "progress": False}


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def planted(width, depth, seed, *, block=2, dtype=float):
    net = sm.random(width, block, depth, rng=1000 + seed)
    return sm.Rotation(net, sm.random_blocks(net, seed, dtype)).matrix()


# Soft permutations ----------------------------------------------------------------------------


@settings(max_examples=25)  # each takes hundreds of steps
@given(st.integers(1, 6), seeds())
def test_sinkhorn_normalises_rows_and_columns(width, seed):
    logits = normal(seed, 3, width, width)
    soft = sinkhorn(logits, 3)
    assert (soft > 0).all()
    torch.testing.assert_close(soft.sum(-2), torch.ones(3, width, dtype=torch.float64))
    limit = sinkhorn(logits, 200)
    torch.testing.assert_close(limit.sum(-1), torch.ones(3, width, dtype=torch.float64))
    shifts = normal(seed + 1, 3, width, 1) + normal(seed + 2, 3, 1, width)
    torch.testing.assert_close(sinkhorn(logits + shifts, 200), limit)
    order = torch.randperm(width)
    torch.testing.assert_close(sinkhorn(logits[:, order], 3), soft[:, order])


@given(st.integers(1, 5), seeds())
def test_the_hardened_permutation_has_the_largest_sum(width, seed):
    soft = sinkhorn(normal(seed, 2, 3, width, width))
    found = hardened(soft)
    assert found.shape == soft.shape
    identity = torch.eye(width, dtype=soft.dtype)
    every = torch.stack([identity[list(p)] for p in itertools.permutations(range(width))])
    sums = torch.einsum("pij,abij->abp", every, soft)
    torch.testing.assert_close(every[sums.argmax(-1)], found, rtol=0, atol=0)
    torch.testing.assert_close((found * soft).sum((-1, -2)), sums.amax(-1))


def test_the_gradient_passes_through_a_hardened_permutation():
    soft = sinkhorn(normal(0, 4, 4)).requires_grad_()
    weight = normal(1, 4, 4)
    hard = hardened(soft, with_gradient=True)
    torch.testing.assert_close(hard, hardened(soft))
    (gradient,) = torch.autograd.grad((hard * weight).sum(), soft)
    torch.testing.assert_close(gradient, weight)
    assert not hardened(soft).requires_grad


@given(st.integers(2, 7), st.integers(2, 4), st.integers(1, 3), st.booleans(), seeds())
def test_hard_permutations_give_the_matrix_of_a_network(width, block, depth, is_complex, seed):
    block = min(block, width)
    used = width // block * block
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(width) for _ in range(depth)])
    net = sm.Network.of(width, orders[:, :used].reshape(depth, -1, block).tolist())
    blocks = np.stack(sm.random_blocks(net, seed, complex if is_complex else float))
    permutations = torch.eye(width, dtype=torch.float64)[torch.tensor(orders)]
    found = stages_product(permutations[None], torch.tensor(blocks)[None])
    np.testing.assert_allclose(found[0].numpy(), sm.Rotation(net, blocks).matrix(), atol=1e-14)


@pytest.mark.parametrize("each", [1, 4])  # of orthogonal and of unitary blocks
def test_gradients_agree_with_finite_differences(each):
    logits, generators = normal(0, 2, 5, 5), normal(1, 2, 2, each)

    def error(logits, generators):
        matrix = stages_product(sinkhorn(logits, 4), exponential(generators, 2))
        return (matrix - torch.eye(5)).abs().square().sum()

    given_ = logits.requires_grad_(), generators.requires_grad_()
    assert torch.autograd.gradcheck(error, given_)


# Learning -------------------------------------------------------------------------------------


def test_a_hidden_network_is_approximated_better_than_by_random_networks():
    better = []
    for seed in range(3):
        target = planted(8, 2, seed)
        found = learn_topology(
            8, target, depth=2, steps=100, starts=4, generator=seed, progress=False
        )
        assert (found.network.width, found.network.depth, found.network.parameters) == (8, 2, 8)
        others = [sm.random(8, 2, 2, rng=k) for k in range(4)]
        errors = [sm.fit(net, target, rng=0, starts=1, progress=False).error for net in others]
        better.append(found.loss < min(errors))
    assert sum(better) >= 2


@pytest.mark.parametrize("straight_through", [False, True])
def test_the_result_holds_the_error_of_its_rotation_and_repeats_with_the_seed(straight_through):
    target = planted(6, 2, 0)
    options = QUICK | {"depth": 2, "straight_through": straight_through}
    found = learn_topology(6, target, generator=3, **options)
    error = np.linalg.norm(found.rotation.matrix() - target) / math.sqrt(6)
    assert found.loss == pytest.approx(error, abs=1e-12)
    assert found.network.is_straight
    assert len(found.history) == 41
    assert len(found.losses) == 2
    assert found.history[-1] == min(found.losses)
    assert found.loss <= found.history[-1] + 1e-12
    again = learn_topology(6, target, generator=torch.Generator().manual_seed(3), **options)
    assert again.network == found.network
    assert again.history == found.history
    np.testing.assert_array_equal(again.rotation.matrix(), found.rotation.matrix())
    other = learn_topology(6, target, generator=4, **options)
    assert other.history != found.history


def test_a_loss_is_minimised_like_the_error_of_a_target():
    target = planted(6, 2, 1)
    goal = torch.tensor(target)

    def loss(matrix):
        return (matrix - goal).square().sum() / 6

    by_loss = learn_topology(6, loss, depth=2, generator=0, **QUICK)
    by_target = learn_topology(6, target, depth=2, generator=0, **QUICK)
    assert by_loss.network == by_target.network
    assert np.sqrt(by_loss.history) == pytest.approx(by_target.history)
    assert by_loss.loss == pytest.approx(loss(torch.tensor(by_loss.rotation.matrix())).item())
    assert by_loss.loss == by_loss.history[-1]


def test_a_loss_without_a_target_is_minimised():
    """The energy of the first input is spread evenly, which takes two stages at width 4."""

    def unevenness(matrix):
        energies = matrix[:, 0].square()
        return energies.square().sum() / energies.sum() ** 2  # soft matrices are not orthogonal

    found = learn_topology(4, unevenness, depth=2, steps=120, starts=4, generator=0, progress=False)
    assert found.loss == pytest.approx(1 / 4, abs=1e-3)
    assert found.rotation.matrix()[:, 0] ** 2 == pytest.approx(1 / 4, abs=0.02)
    assert sm.reach(found.network)[:, 0].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
def test_dtypes_of_the_blocks(dtype):
    target = planted(5, 1, 0, dtype=complex if dtype.is_complex else float)
    found = learn_topology(5, target, depth=1, dtype=dtype, generator=0, **QUICK)
    assert torch.tensor(found.rotation.matrix()).dtype == dtype
    assert [bank.reads.shape for bank in found.network.banks] == [(2, 2)]
    by_loss = learn_topology(5, lambda r: r.abs().sum(), depth=1, dtype=dtype, generator=0, **QUICK)
    assert torch.tensor(by_loss.rotation.matrix()).dtype == dtype
    if dtype.is_complex:
        real = learn_topology(5, np.eye(5), depth=1, dtype=dtype, generator=0, **QUICK)
        assert real.rotation.matrix().dtype.kind == "c"


def test_targets_may_be_arrays_tensors_or_rotations_of_any_norm():
    target = planted(4, 1, 0)
    net = sm.Network.of(4, [[range(4)]])
    options = QUICK | {"depth": 1, "generator": 0}
    found = learn_topology(4, target, **options)
    rotation = sm.Rotation(net, [target[None]])
    for same in (target.tolist(), torch.tensor(target), rotation):
        assert learn_topology(4, same, **options).history == found.history
    threefold = learn_topology(4, 3 * target, **options)
    assert threefold.history == pytest.approx(found.history)
    assert threefold.loss == pytest.approx(
        np.linalg.norm(threefold.rotation.matrix() - 3 * target) / 6
    )


def test_learned_networks_are_proposals_of_a_search():
    target = planted(6, 2, 0)
    propose = proposals(target, depth=2, block=3, **QUICK)
    result = search(
        6, "fit_error", target=target, proposals=[propose], trials=2, rng=1, progress=False
    )
    assert {trial.source for trial in result.trials} == {"learned"}
    assert result.best.network.parameters == 12
    assert result.best.values["fit_error"] == min(t.values["fit_error"] for t in result.trials)


def test_proposals_depend_only_on_the_generator_and_can_be_pickled():
    propose = proposals(planted(6, 2, 0), depth=2, block=3, **QUICK)
    rng = np.random.default_rng(0)
    nets = [propose(6, rng, []) for _ in range(2)]
    assert all((net.width, net.depth, net.parameters) == (6, 2, 12) for net in nets)
    assert nets[0] != nets[1]
    sent = pickle.loads(pickle.dumps(propose))  # noqa: S301 (our own)
    assert sent(6, np.random.default_rng(0), []) == nets[0]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((3, np.eye(3)), {"block": 4}, r"^width=3: it must be at least the block, 4$"),
        ((1, np.eye(1)), {}, r"^width=1: width must be an integer ≥ 2$"),
        ((4, np.eye(4)), {"depth": 0}, r"^depth=0: depth must be an integer ≥ 1$"),
        ((4, np.eye(4)), {"block": 1}, r"^block=1: block must be an integer ≥ 2$"),
        ((4, np.eye(4)), {"steps": 3}, r"^steps=3: steps must be an integer ≥ 4$"),
        ((4, np.eye(4)), {"starts": 0}, r"^starts=0: starts must be an integer ≥ 1$"),
        ((4, np.eye(4)), {"straight_through": 1}, r"^straight_through=1: it must be True or Fal"),
        ((4, np.eye(5)), {}, r"\(4, 4\)|width 4"),
        ((4, np.zeros((4, 4))), {}, "zero"),
        ((4, np.full((4, 4), np.nan)), {}, "finite"),
        ((4, "butterfly"), {}, "target"),
        ((4, 1j * np.eye(4)), {"dtype": torch.float64}, r"^dtype=torch.float64: the target is com"),
        ((4, np.eye(4)), {"dtype": torch.float16}, r"^dtype=torch.float16: it must be torch.float"),
        ((4, np.eye(4)), {"generator": -1}, r"^generator=-1: generator must be an integer ≥ 0$"),
        ((4, np.eye(4)), {"generator": 2**64}, r"^generator=\d+: a seed must be below 2\^64$"),
        ((4, lambda _: 3.0), {}, r"^loss=3.0: the loss must return a finite real tensor with one"),
        ((4, lambda r: r), {}, r"^loss=.*: the loss must return a finite real tensor with one"),
        ((4, lambda r: r.sum() * math.nan), {}, r"nan.*: the loss must return a finite real tens"),
        ((4, lambda r: r.sum().detach()), {}, r"one element that depends on R$"),
        ((4, lambda r: r.sum() * 1j), {}, r"the loss must return a finite real tensor"),
    ],
)
def test_invalid_arguments_are_rejected(arguments, options, message):
    kind = WidthError if "the block$" in message else StructmatError
    with pytest.raises(kind, match=message):
        learn_topology(*arguments, **{"depth": 1, "progress": False} | options)


def test_an_exception_in_the_loss_is_not_hidden():
    def fails(matrix):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        learn_topology(4, fails, depth=1, progress=False)
