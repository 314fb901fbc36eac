"""Embeddings: every entry of the table is rotated, and so are the outputs."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structmat.adapters import adapt, merge
from structmat.errors import StructmatError
from structmat.testing import seeds
from tests.random_modules import randomised


class Scaled(nn.Embedding):
    """An embedding that scales its output, as in Gemma."""

    def forward(self, x):
        return 3 * super().forward(x)


@given(st.integers(1, 9), st.integers(2, 9), st.integers(1, 20), st.booleans(), seeds())
def test_outputs_and_gradients_match_a_rotated_table(entries, width, count, scale, seed):
    torch.manual_seed(seed % 1000)
    layer = nn.Embedding(entries, width, padding_idx=0, dtype=torch.float64)
    ids = torch.randint(entries, (count,))
    adapter = adapt(
        copy.deepcopy(layer), "mixed_radix", target_modules=".*", scale=scale, reduced=True
    )
    randomised(adapter, seed)
    one_hot = nn.functional.one_hot(ids, entries).double()
    expected = one_hot @ layer.weight.detach() @ adapter.rotation.matrix().T
    if scale:
        expected = expected * adapter.scale
    wanted = [p for p in adapter.parameters() if p.requires_grad]
    y = adapter(ids)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    cotangent = torch.randn_like(y)
    ours = torch.autograd.grad(y, wanted, cotangent)
    theirs = torch.autograd.grad(expected, wanted, cotangent)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert not y[ids == 0].any()  # the row of padding is zero, and stays so


@pytest.mark.parametrize("count", [2, 50])
def test_custom_forward_of_an_embedding_is_still_called(count):
    layer = Scaled(10, 8)
    ids = torch.arange(count) % 10
    adapter = adapt(copy.deepcopy(layer), "butterfly", target_modules=".*", scale=True)
    torch.testing.assert_close(adapter(ids), layer(ids))
    unmerged = randomised(adapter, 0)(ids)
    torch.testing.assert_close(merge(adapter)(ids), unmerged)


def test_scale_is_refused_with_max_norm():
    layer = nn.Embedding(4, 8, max_norm=1.0)
    with pytest.raises(StructmatError, match=r"max_norm=1\.0: .* omit the scale"):
        adapt(layer, "butterfly", target_modules=".*", scale=True)


def test_merging_an_embedding_leaves_its_tied_head_unchanged():
    model = nn.ModuleDict({"tokens": nn.Embedding(6, 4), "head": nn.Linear(4, 6, bias=False)})
    model["head"].weight = model["tokens"].weight
    before = model["head"].weight.clone()
    adapt(model, "butterfly", target_modules=["tokens"])
    merge(randomised(model, 0), unload=True)
    assert torch.equal(model["head"].weight, before)
    assert not torch.allclose(model["tokens"].weight, before, atol=1e-2)


@pytest.mark.parametrize("norm_type", [1.0, 3.0, float("inf")])
def test_max_norm_with_a_non_euclidean_norm_is_refused(norm_type):
    model = nn.Sequential(nn.Embedding(4, 8, max_norm=1.0, norm_type=norm_type))
    with pytest.raises(
        StructmatError, match=rf"norm_type={norm_type}: a rotation preserves only the 2-norm"
    ):
        adapt(model, "butterfly", target_modules=["0"])
    assert isinstance(model[0], nn.Embedding)
    assert model[0].weight.requires_grad


@pytest.mark.parametrize(
    "options",
    [
        {"max_norm": 1.0},
        {"sparse": True},
        {"scale_grad_by_freq": True},
        {"padding_idx": 2},
        {"norm_type": 1.0},  # without max_norm nothing looks at it
    ],
)
@pytest.mark.parametrize("count", [3, 40])
def test_outputs_and_gradients_are_correct_for_every_embedding_option(options, count):
    torch.manual_seed(0)
    layer = nn.Embedding(12, 8, **options)
    ids = torch.arange(count) % 12
    rows = layer(ids).detach()
    adapter = randomised(adapt(layer, "butterfly", target_modules=".*"), 0)
    found = adapter(ids)
    torch.testing.assert_close(found, rows @ adapter.rotation.matrix().detach().T)
    given = torch.randn_like(found)
    grads = torch.autograd.grad(found, list(adapter.rotation.generators), given)
    wanted = torch.autograd.grad(adapter.rotation(rows), list(adapter.rotation.generators), given)
    torch.testing.assert_close(grads, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(merge(adapter)(ids), found.detach(), rtol=1e-4, atol=1e-5)
