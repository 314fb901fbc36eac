"""A layer without redundant generators has fewer parameters and reaches the same matrices."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import structmat as sm
from structmat.adapters import adapt, adapters, load_adapter, merge, save_adapter
from structmat.nn import Orthogonal
from structmat.testing import assert_orthogonal, networks, seeds

DOUBLE = torch.float64


def drawn(layer, seed, scale=0.3):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in layer.generators:
            noise = torch.randn(values.shape, generator=generator, dtype=DOUBLE)
            values.copy_(scale / layer.generator_scale * noise)
    return layer


@given(networks(max_width=9, screens=True), st.sampled_from(["cayley", "exp"]), seeds())
def test_a_reduced_layer_is_the_full_layer_with_redundant_generators_zero(net, blocks, seed):
    options = {"parametrization": blocks, "dtype": DOUBLE, "generator_scaling": "none"}
    few = drawn(Orthogonal(net, reduced=True, **options), seed)
    kept = sm.reduced(net)
    assert sum(g.numel() for g in few.generators) == kept.parameters
    full = Orthogonal(net, **options)
    values = torch.cat([g.detach().reshape(-1) for g in few.generators] or [torch.zeros(0)])
    with torch.no_grad():
        for own, spread in zip(full.generators, kept.spread(values.numpy()), strict=True):
            own.copy_(torch.as_tensor(spread))
    assert torch.equal(few.matrix(), full.matrix())
    assert_orthogonal(few.matrix().detach().numpy(), ulps=100 * (net.depth + 1))
    x = torch.randn(3, net.width, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
    if net.banks:
        (few(x) ** 3).sum().backward()
        (full(x) ** 3).sum().backward()
    for own, other, mask in zip(few.generators, full.generators, kept.kept, strict=True):
        expected = other.grad.numpy()[mask]
        assert np.allclose(own.grad.numpy().ravel(), expected, rtol=1e-12, atol=1e-12)


@given(seeds())
def test_training_reaches_a_matrix_of_the_full_layer(seed):
    """Starting from the identity, least squares reaches a nearby matrix of BOFT exactly."""
    net = sm.butterfly(8, block=4)
    target = drawn(Orthogonal(net, dtype=DOUBLE), seed, scale=0.1).matrix().detach()
    layer = Orthogonal(net, dtype=DOUBLE, reduced=True)
    assert sum(g.numel() for g in layer.generators) == 20
    optimizer = torch.optim.LBFGS(
        layer.parameters(),
        max_iter=300,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def loss():
        optimizer.zero_grad()
        value = ((layer.matrix() - target) ** 2).sum()
        value.backward()
        return value

    start = loss().item()
    optimizer.step(loss)
    assert loss().item() < 1e-12 * start  # a minimum above zero would leave a part of it


def test_generators_keep_their_shape_where_none_is_redundant():
    layer = Orthogonal(sm.butterfly(16, block=4), reduced=True)
    assert [tuple(g.shape) for g in layer.generators] == [(4, 6), (16,), (16,)]
    assert "parameters=56, parametrization='cayley', reduced=True" in repr(layer)
    plain = Orthogonal(sm.butterfly(16), reduced=True)  # nothing is redundant
    assert [g.shape for g in plain.generators] == [
        g.shape for g in Orthogonal(plain.network).generators
    ]


@given(networks(max_width=7, screens=True), seeds())
def test_reduced_layers_support_unitary_blocks(net, seed):
    layer = Orthogonal(net, dtype=torch.complex128, reduced=True)
    drawn(layer, seed)
    assert_orthogonal(layer.matrix().detach().numpy(), ulps=100 * (net.depth + 1))
    assert sum(g.numel() for g in layer.generators) == sm.reduced(net, field="complex").parameters


def rank(layer, seed):
    """Return the rank of the derivative of R with respect to all generators, at a random point."""
    drawn(layer, seed, scale=1.0)
    values = [g.detach().clone() for g in layer.generators]

    def matrix(*generators):
        named = {f"generators.{k}": g for k, g in enumerate(generators)}
        r = torch.func.functional_call(Matrix(layer), {f"layer.{n}": g for n, g in named.items()})
        return torch.view_as_real(r) if r.is_complex() else r

    if not values:
        return 0
    parts = torch.autograd.functional.jacobian(matrix, tuple(values))
    rows = torch.cat([p.reshape(layer.width**2 * (1 + layer.unitary), -1) for p in parts], dim=1)
    return int(torch.linalg.matrix_rank(rows, rtol=1e-9))


class Matrix(nn.Module):
    """A module whose forward returns the matrix of a layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self):
        return self.layer.matrix()


@settings(max_examples=25)
@given(networks(wired=False, max_width=5, max_depth=3), seeds(), st.booleans())
def test_reducing_keeps_the_dimension(net, seed, unitary):
    dtype = torch.complex128 if unitary else DOUBLE
    few, full = (Orthogonal(net, dtype=dtype, reduced=reduced) for reduced in (True, False))
    assert rank(few, seed) == rank(full, seed)


@pytest.mark.parametrize(
    ("stages", "real", "unitary"),
    [
        ([[[0, 1]], [[1, 2]]], [(1, 1), (1, 1)], [(1, 4), (3,)]),  # one wire: its phase
        ([[[1, 2]], [[0, 1]]], [(1, 1), (1, 1)], [(1, 4), (3,)]),
        ([[[0, 1, 2]], [[2, 3, 4]]], [(1, 3), (1, 3)], [(1, 9), (8,)]),
        ([[[0, 1], [2, 3]], [[1, 2]]], [(2, 1), (1, 1)], [(2, 4), (2,)]),  # one of each
        ([[[0, 1]], [[1, 2], [3, 4]]], [(1, 1), (2, 1)], [(1, 4), (7,)]),  # of one of two switches
        ([[[0, 1, 2]], [[1, 2, 3]]], [(1, 3), (2,)], [(1, 9), (5,)]),  # two wires: U(2)
    ],
)
def test_generators_shared_by_two_switches_are_kept_in_one_of_them(stages, real, unitary):
    net = sm.Network.of(5, stages)
    for dtype, shapes in ((DOUBLE, real), (torch.complex128, unitary)):
        few = Orthogonal(net, dtype=dtype, reduced=True, generator_scaling="none")
        assert [tuple(g.shape) for g in few.generators] == shapes
        count = sum(g.numel() for g in few.generators)
        full = Orthogonal(net, dtype=dtype, generator_scaling="none")
        assert count == rank(few, 0) == rank(full, 0)
        full = drawn(full, 1)
        masks = sm.reduced(net, field="complex" if few.unitary else "real").kept
        with torch.no_grad():
            for own, other, mask in zip(few.generators, full.generators, masks, strict=True):
                other[~torch.from_numpy(mask)] = 0
                own.copy_(other[torch.from_numpy(mask)].view(own.shape))
        assert torch.equal(few.matrix(), full.matrix())


def test_reduced_layers_move_between_dtypes_and_devices():
    net = sm.butterfly(8, block=4)
    layer = drawn(Orthogonal(net, dtype=DOUBLE, reduced=True), 0)
    single = layer.matrix().float()
    assert torch.allclose(layer.float().matrix(), single, atol=1e-6)
    other = Orthogonal(net, reduced=True)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.matrix(), layer.matrix())
    assert torch.equal(copy.deepcopy(layer).matrix(), layer.matrix())
    meta = Orthogonal(net, device="meta", reduced=True)
    assert meta.matrix().shape == (8, 8)
    filled = meta.to_empty(device="cpu")
    filled.load_state_dict(layer.state_dict())
    assert torch.equal(filled.matrix(), layer.matrix())  # index arrays are made anew


def test_a_reduced_adapter_has_fewer_parameters_and_can_be_saved(tmp_path):
    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 3))

    trained = adapt(model(), "butterfly(block=8)", target_modules="all-linear", reduced=True)
    for adapter in adapters(trained).values():
        assert sum(g.numel() for g in adapter.rotation.generators) == 16 * 7 - 16 * 6 // 4
        drawn(adapter.rotation.double(), 1).float()
    save_adapter(trained, tmp_path)
    loaded = load_adapter(model(), tmp_path)
    x = torch.randn(5, 16)
    assert torch.equal(loaded(x), trained(x))
    assert torch.allclose(merge(trained)(x), loaded(x), atol=1e-5)


def test_reduced_must_be_a_truth_value():
    with pytest.raises(sm.StructmatError, match="reduced='yes': reduced must be True or False"):
        Orthogonal(sm.butterfly(4), reduced="yes")


def test_reduced_marks_the_expected_generators_as_kept():
    kept = sm.reduced(sm.butterfly(8, block=4)).kept
    assert [int(k.sum()) for k in kept] == [12, 8]
    assert np.array_equal(kept[1][0], [False, True, True, True, True, False])
