"""Rotated outputs: the weight is s ⊙ R·W, merged and unmerged, saved and loaded."""

import copy

import pytest
import torch
from hypothesis import assume, given
from torch import nn

import structmat as sm
from structmat.adapters import adapt, load_adapter, merge, save_adapter, unmerge
from structmat.adapters.checkpoint import SETTINGS
from structmat.convert import convert
from structmat.errors import FileError, StructmatError
from structmat.testing import seeds
from tests.adapters.layouts.layers import CONVOLUTIONS, can_scale, flags, layers, rows, tolerance
from tests.random_modules import randomised

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def outputs(layer):
    """Return how many outputs one rotation covers."""
    if isinstance(layer, CONVOLUTIONS):
        return layer.out_channels // layer.groups
    if isinstance(layer, nn.Embedding):
        return layer.embedding_dim
    return rows(layer, layer.weight).shape[1]


def adapted(layer, *, scale=False, seed=0):
    adapter = adapt(
        copy.deepcopy(layer),
        "mixed_radix",
        target_modules=".*",
        side="outputs",
        scale=scale and can_scale(layer),
    )
    return randomised(adapter, seed)


def expected_weight(adapter, layer):
    """Return s ⊙ R·W in float64, in the layer's own layout."""
    r = adapter.rotation.matrix(torch.float64)
    w = layer.weight.to(torch.float64)
    s = torch.ones(len(r)) if adapter.scale is None else adapter.scale
    r = s.to(torch.float64)[:, None] * r
    if isinstance(layer, CONVOLUTIONS):
        return (r @ w.flatten(1)).reshape(w.shape)
    return r @ w if isinstance(layer, nn.Linear) else (r @ w.T).T


@given(layers(), flags, seeds())
def test_the_weight_is_r_times_w_and_merging_changes_no_output(drawn, scale, seed):
    layer, x = drawn
    assume(outputs(layer) > 1)
    layer(x)  # an embedding with max_norm shortens the rows that it sees
    adapter = adapted(layer, scale=scale, seed=seed)
    unmerged = adapter(x)
    want = expected_weight(adapter, adapter.base_layer).to(layer.weight.dtype)
    error = (adapter.weight - want).abs().max()
    assert error <= 60 * len(want) * torch.finfo(want.dtype).eps * (1 + want.abs().max())
    before = adapter.base_layer.weight.clone()
    merge(adapter)
    size = outputs(layer) * tolerance(layer, unmerged)
    assert (adapter(x) - unmerged).abs().max() <= size
    unmerge(adapter)
    assert torch.equal(adapter.base_layer.weight, before)


@given(layers(), flags)
def test_a_new_adapter_does_not_change_the_layer(drawn, scale):
    layer, x = drawn
    assume(outputs(layer) > 1)
    adapter = adapt(
        copy.deepcopy(layer),
        "mixed_radix",
        target_modules=".*",
        side="outputs",
        scale=scale and can_scale(layer),
    )
    assert torch.equal(adapter.weight, layer.weight)
    assert (adapter(x) - layer(x)).abs().max() <= tolerance(layer, layer(x))


@pytest.mark.parametrize("scale", [False, True])
def test_gradients_match_the_dense_matrix(scale):
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 8, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    adapter = adapted(layer, scale=scale)
    wanted = [p for p in adapter.parameters() if p.requires_grad]
    ours = torch.autograd.grad(adapter(x).square().sum(), wanted)
    y = x @ expected_weight(adapter, layer).T + layer.bias
    theirs = torch.autograd.grad(y.square().sum(), wanted)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_saving_and_loading_keeps_the_side(tmp_path):
    torch.manual_seed(0)
    layer = nn.Linear(6, 6)  # either side would fit
    one = adapted(layer)
    save_adapter(one, tmp_path)
    other = load_adapter(copy.deepcopy(layer), tmp_path)
    assert list(other.structmat_outputs) == ["default"]
    x = torch.randn(2, 6)
    assert torch.equal(other(x), one(x))
    with pytest.raises(FileError, match=r"a weight of shape \(9, 6\)"):
        load_adapter(nn.Linear(6, 9), tmp_path)
    text = (tmp_path / SETTINGS).read_text()
    (tmp_path / SETTINGS).write_text(text.replace('"outputs"', '"middle"'))
    with pytest.raises(FileError, match=r"side='middle': it must be .inputs. or .outputs."):
        load_adapter(copy.deepcopy(layer), tmp_path)


def test_unknown_sides_and_wrong_widths_are_refused():
    with pytest.raises(StructmatError, match=r"side='left': .*; the choices are both, inputs"):
        adapt(nn.Linear(4, 4), "butterfly", target_modules=".*", side="left")
    with pytest.raises(StructmatError, match="has 6 outputs: the network has width 8"):
        adapt(nn.Linear(4, 6), sm.butterfly(8), target_modules=".*", side="outputs")


def test_rotating_outputs_of_a_custom_forward_is_refused():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(StructmatError, match="Doubled overrides forward"):
        adapt(Doubled(4, 4), "butterfly", target_modules=".*", side="outputs")
    adapt(Doubled(4, 4), "butterfly", target_modules=".*")  # its forward is called


@pytest.mark.parametrize("scale", [False, True])
def test_each_side_is_rotated_by_its_own_network(scale, tmp_path):
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 6, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64)
    options = {"target_modules": ".*", "side": "both", "scale": scale}
    one = randomised(adapt(copy.deepcopy(layer), "mixed_radix", **options), 0)
    r, p = (rotation.matrix().detach() for rotation in one.rotations())
    weight = p @ layer.weight.detach() @ r.T
    if scale:
        weight = one.scale.detach()[:, None] * weight
    expected = x @ weight.T + layer.bias.detach()
    torch.testing.assert_close(one(x), expected)
    torch.testing.assert_close(one.weight, weight)
    save_adapter(one, tmp_path)
    assert torch.equal(load_adapter(copy.deepcopy(layer), tmp_path)(x), one(x))
    torch.testing.assert_close(merge(one, unload=True)(x), expected)
    with pytest.raises(AttributeError, match="no attribute 'rotation'"):
        _ = adapt(copy.deepcopy(layer), "mixed_radix", **options).rotation
    with pytest.raises(FileError, match="inputs and outputs are rotated, which conversion does"):
        convert(tmp_path, tmp_path / "peft", to="peft")
