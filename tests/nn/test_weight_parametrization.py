"""Orthogonal weights through torch.nn.utils.parametrize agree with rotations."""

import copy
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

import structmat as sm
from structmat.errors import StructmatError
from structmat.fitting.column_fit import fit_columns
from structmat.nn import Orthogonal, orthogonal
from structmat.testing import networks, seeds
from tests.random_modules import randomised


def bare(rows, columns, dtype=torch.float64):
    return nn.Linear(columns, rows, bias=False, dtype=dtype)


def trained(**options):
    return networks(**options).filter(lambda net: net.parameters > 0)


@given(trained(max_width=8), seeds(), st.data())
def test_the_weight_consists_of_columns_of_a_rotation(net, seed, data):
    few = data.draw(st.integers(1, net.width), "few")
    wide = few < net.width and data.draw(st.booleans(), "wide")
    torch.manual_seed(seed)
    layer = bare(few, net.width) if wide else bare(net.width, few)
    assert orthogonal(layer, topology=net) is layer
    kind = layer.parametrizations.weight[0]
    made = [p.detach() for p in layer.parametrizations.weight.parameters()]
    q = Orthogonal(net, parametrization="exp", dtype=torch.float64)
    with torch.no_grad():
        for own, g in zip(q.generators, made, strict=True):
            own.copy_(g)
    expected = q.matrix()[:, :few]
    torch.testing.assert_close(layer.weight, expected.T if wide else expected)
    rows = layer.weight if wide else layer.weight.T
    torch.testing.assert_close(rows @ rows.T, torch.eye(few, dtype=torch.float64))
    assert kind.shape == tuple(layer.weight.shape)
    assert sum(g.numel() for g in made) == net.parameters


@pytest.mark.parametrize("shape", [(8, 8), (8, 3), (3, 8)])
@pytest.mark.parametrize("parametrization", ["exp", "cayley"])
def test_gradients_equal_finite_differences(shape, parametrization):
    layer = bare(*shape)
    orthogonal(layer, topology="butterfly", parametrization=parametrization)
    held = tuple(p.detach().requires_grad_() for p in layer.parametrizations.weight.parameters())
    assert torch.autograd.gradcheck(layer.parametrizations.weight[0], held)


@pytest.mark.parametrize("shape", [(16, 16), (16, 5), (5, 16)])
def test_the_weight_stays_orthogonal_in_training(shape):
    torch.manual_seed(0)
    layer = orthogonal(bare(*shape), topology="butterfly(block=4)", start="identity")
    assert torch.equal(layer.weight, torch.eye(*shape, dtype=torch.float64))
    goal = orthogonal(bare(*shape), topology="butterfly(block=4)").weight.detach()
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    losses = []
    for _ in range(40):
        loss = (layer.weight - goal).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    few = min(shape)
    rows = layer.weight if shape[0] < shape[1] else layer.weight.T
    torch.testing.assert_close(rows @ rows.T, torch.eye(few, dtype=torch.float64))


def test_random_weights_follow_torchs_seed():
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(orthogonal(bare(8, 8), topology="butterfly").weight.detach())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_an_orthogonal_matrix_can_be_assigned():
    layer = orthogonal(bare(8, 8), topology="ruler")
    goal = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))[0]
    goal[0] *= torch.linalg.det(goal).sign()
    layer.weight = goal
    torch.testing.assert_close(layer.weight, goal, rtol=0, atol=1e-10)


@pytest.mark.parametrize("wide", [False, True])
def test_orthonormal_columns_can_be_assigned(wide):
    net = sm.butterfly(16, block=4)
    rotation = sm.Rotation(net, sm.random_blocks(net, 1)).power(0.3)
    goal = torch.tensor(rotation.matrix()[:, :4])
    goal = goal.T if wide else goal
    layer = orthogonal(bare(*goal.shape), topology=net)
    layer.weight = goal
    torch.testing.assert_close(layer.weight, goal, rtol=0, atol=1e-2)


def test_starting_from_an_unreachable_weight_warns():
    layer = bare(8, 8)
    with pytest.warns(UserWarning, match="relative Frobenius error of .* a deeper network"):
        orthogonal(layer, topology="butterfly", start="weight")
    tall = bare(8, 3)
    with pytest.warns(UserWarning, match="relative Frobenius error"):
        orthogonal(tall, topology="butterfly", start="weight")


@given(networks(max_width=8, max_depth=3), seeds(), st.data())
def test_fit_columns_returns_its_error_and_never_exceeds_that_of_the_identity(net, seed, data):
    """The returned error is that of the fitted columns."""
    few = data.draw(st.integers(1, net.width))
    target = np.linalg.qr(np.random.default_rng(seed).standard_normal((net.width, few)))[0]
    rotation, error = fit_columns(net, target, rng=seed)
    reached = np.linalg.norm(rotation.matrix()[:, :few] - target) / np.linalg.norm(target)
    assert error == pytest.approx(reached, rel=1e-6, abs=1e-10)
    identity = sm.Rotation(net, sm.identity_blocks(net)).matrix()[:, :few]
    start = np.linalg.norm(identity - target) / np.linalg.norm(target)
    assert error <= start + 1e-12


@given(trained(max_width=6, max_depth=3), seeds(), st.data())
def test_the_dimension_of_columns_is_the_rank_of_their_derivative(net, seed, data):
    few = data.draw(st.integers(1, net.width))
    found = sm.dimension(net, columns=few, points=2)
    layer = orthogonal(bare(net.width, few), topology=net)
    torch.manual_seed(seed)
    held = tuple(torch.randn_like(p) for p in layer.parametrizations.weight.parameters())
    rank = 0
    if held:
        slopes = torch.autograd.functional.jacobian(layer.parametrizations.weight[0], held)
        flat = torch.cat([s.flatten(2).flatten(0, 1) for s in slopes], dim=1)
        rank = int(torch.linalg.matrix_rank(flat, rtol=1e-9)) if flat.numel() else 0
    assert found.lower == rank
    assert found.upper >= rank
    assert found.upper <= net.width * few - few * (few + 1) // 2
    if few == net.width:
        assert found.lower == sm.dimension(net, points=2).lower


def test_the_dimension_of_columns_is_at_most_that_of_the_stiefel_manifold():
    whole = sm.dimension(sm.ruler(8), columns=3)
    assert (whole.lower, whole.upper) == (8 * 3 - 6, 8 * 3 - 6)
    skipped = sm.dimension(sm.butterfly(64), columns=3, largest=1)
    assert (skipped.lower, skipped.ranked) == (0, False)
    with pytest.raises(StructmatError, match="columns=9: the matrix has only 8 columns"):
        sm.dimension(sm.butterfly(8), columns=9)


def test_orthogonal_weights_can_be_cached_saved_copied_cast_and_removed(tmp_path):
    layer = orthogonal(nn.Linear(8, 8), topology="benes")
    x = torch.randn(3, 8)
    expected = layer(x)
    with parametrize.cached():
        assert layer.weight is layer.weight
        torch.testing.assert_close(layer(x), expected)
    other = orthogonal(nn.Linear(8, 8), topology="benes")
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x), expected)
    torch.testing.assert_close(copy.deepcopy(layer)(x), expected)
    wide = layer.double()
    assert wide.weight.dtype == torch.float64
    torch.testing.assert_close(wide(x.double()).float(), expected)
    parametrize.remove_parametrizations(layer, "weight")
    assert isinstance(layer.weight, nn.Parameter)
    torch.testing.assert_close(layer(x.double()).float(), expected)


def test_weights_of_other_names_can_be_orthogonal():
    attention = nn.RNNCell(4, 8)
    orthogonal(attention, "weight_hh", topology="butterfly")
    torch.testing.assert_close(
        attention.weight_hh @ attention.weight_hh.T, torch.eye(8), rtol=0, atol=1e-6
    )
    assert attention(torch.randn(2, 4)).shape == (2, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: orthogonal(m, "bias", topology="butterfly"), r"Linear.bias is .* a matrix"),
        (lambda m: orthogonal(m, "none", topology="butterfly"), r"Linear.none is None"),
        (lambda m: orthogonal(m, topology="butterfly", start="weights"), "start='weights'"),
        (
            lambda m: orthogonal(m, topology="butterfly", parametrization="givens"),
            "parametrization='givens': it must be one of cayley, exp",
        ),
        (lambda m: orthogonal(m, topology=sm.butterfly(4)), "the network has width 4, not 8"),
        (lambda m: orthogonal(m, topology=sm.Network(8)), "the network has no parameters"),
    ],
)
def test_invalid_arguments_are_refused(call, message):
    layer = nn.Linear(8, 8)
    before = layer.weight.clone()
    with pytest.raises(StructmatError, match=message):
        call(layer)
    assert not parametrize.is_parametrized(layer)
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("parametrization", ["exp", "cayley"])
def test_from_rotation_accepts_blocks_in_single_precision(dtype, parametrization):
    layer = Orthogonal("butterfly(block=4, depth=3)", 16, dtype=dtype)
    randomised(layer, 0)
    again = Orthogonal.from_rotation(layer.rotation(), parametrization)
    assert again.generators[0].dtype == layer.generators[0].dtype
    torch.testing.assert_close(again.matrix(), layer.matrix(), rtol=0, atol=5e-6)


def test_from_rotation_and_rotation_round_trip():
    for spec, parametrization in (("butterfly", "exp"), ("shuffle(block=4)", "cayley")):
        net = sm.parse(spec)(16)
        r = sm.Rotation(net, sm.random_blocks(net, 3))
        layer = Orthogonal.from_rotation(r, parametrization)
        assert layer.parametrization == parametrization
        assert layer.generators[0].dtype == torch.float64
        np.testing.assert_allclose(layer.rotation().matrix(), r.matrix(), atol=1e-12)
        x = torch.randn(2, 16, dtype=torch.float64)
        np.testing.assert_allclose(layer(x).detach().numpy(), r(x.numpy()), atol=1e-12)
        assert layer.rotation().network == net
    unitary = sm.Rotation(sm.butterfly(8), sm.random_blocks(sm.butterfly(8), 3, complex))
    again = Orthogonal.from_rotation(unitary).rotation()
    np.testing.assert_allclose(again.matrix(), unitary.matrix(), atol=1e-12)
    with pytest.raises(StructmatError, match="determinant"):
        Orthogonal.from_rotation(sm.Rotation(sm.butterfly(2), [np.diag([1.0, -1.0])[None]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single = Orthogonal.from_rotation(r, dtype=torch.float32)
    assert single.generators[0].dtype == torch.float32


def test_rotation_of_a_layer_with_non_orthogonal_blocks_is_refused():
    layer = Orthogonal(sm.butterfly(8), parametrization="cayley_neumann", generator_scaling="none")
    with torch.no_grad():
        for g in layer.generators:
            g.fill_(0.8)
    with pytest.raises(StructmatError, match="must be orthogonal"):
        layer.rotation()


def test_a_missing_topology_is_named():
    with pytest.raises(StructmatError, match=r'topology="shuffle\(block=8\)"'):
        orthogonal(nn.Linear(4, 4), "weight")


@pytest.mark.parametrize(
    ("weight", "depth", "remedy"),
    [
        (2 * torch.eye(4), 1, "no topology has an error below 0.5"),
        (
            torch.diag(torch.tensor([1.0, 1.0, 1.0, -1.0])),
            1,
            "no topology has an error below 1",
        ),
        (torch.eye(4)[[1, 2, 3, 0]] * torch.tensor([[1.0], [1.0], [1.0], [-1.0]]), 0, "deeper"),
    ],
)
def test_the_warning_about_an_inexact_start_names_a_remedy(weight, depth, remedy):
    layer = nn.Linear(4, 4, bias=False)
    layer.weight = nn.Parameter(weight)
    net = sm.block_diagonal(4, block=4) if depth else sm.block_diagonal(4, block=2)
    with pytest.warns(UserWarning, match=remedy):
        orthogonal(layer, topology=net, start="weight")
