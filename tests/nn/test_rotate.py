"""With many vectors stages are multiplied out first: the plain path is the oracle."""

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.nn import module
from structmat.nn.rotate import merged_blocks, merged_plan_for, plan_for, rotate
from structmat.testing import networks, seeds
from tests.nn.drawing import layer

MANY = st.sampled_from([torch.float64, torch.complex128])


def both(net, seed, dtype, adjoint):
    """Return the values and all gradients by the plain path and by merged stages."""
    q = layer(net, seed, dtype=dtype)
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 50, net.width, dtype=dtype, generator=source, requires_grad=True)
    weight = torch.randn(3, 50, net.width, dtype=dtype, generator=source)
    merged = merged_plan_for(net, torch.device("cpu"))
    results = []
    for plan, blocks in (
        (plan_for(net, torch.device("cpu")), q.blocks()),
        (merged.coarse, merged_blocks(merged, q.blocks())),
    ):
        y = rotate(plan, blocks, x, adjoint=adjoint)
        loss = (y * weight).sum().abs()
        results.append([y, *torch.autograd.grad(loss, [x, *q.generators])])
    return results


@given(networks(max_width=16, max_depth=5), seeds(), MANY, st.booleans())
def test_merged_stages_give_the_same_values_and_gradients(net, seed, dtype, adjoint):
    if merged_plan_for(net, torch.device("cpu")) is None:
        return
    for plain, other in zip(*both(net, seed, dtype, adjoint), strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize(
    "net",
    [
        sm.butterfly(128),
        sm.benes(64),
        sm.shuffle(96, block=4),
        sm.butterfly(48, block=6),
        sm.mixed_radix(60),
        sm.from_graph(nx.grid_graph((6, 8), periodic=True), repeat=3),
    ],
    ids=str,
)
def test_real_topologies_merge_and_agree(net, adjoint):
    merged = merged_plan_for(net, torch.device("cpu"))
    assert len(merged.groups) < net.depth
    for plain, other in zip(*both(net, 0, torch.float64, adjoint), strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-10, atol=1e-10)


def test_the_layer_merges_for_many_vectors_only(monkeypatch):
    net = sm.butterfly(64)
    q = layer(net, 0)
    calls = []

    def counted(*args):
        calls.append(args)
        return merged_blocks(*args)

    monkeypatch.setattr(module, "merged_blocks", counted)
    x = torch.randn(2000, 64, dtype=torch.float64)
    many = q(x)
    assert len(calls) == 1
    few = torch.cat([q(part) for part in x.split(50)])
    assert len(calls) == 1
    torch.testing.assert_close(many, few, rtol=0, atol=1e-12)


def test_float32_is_as_exact_merged_as_plain():
    q = layer(sm.butterfly(256), 0, dtype=torch.float32)
    exact = layer(sm.butterfly(256), 0, dtype=torch.float32).double()
    x = torch.randn(4000, 256)
    error = (q(x).double() - exact(x.double())).abs().max()
    assert error <= 40 * np.finfo(np.float32).eps * x.norm(dim=-1).max()
