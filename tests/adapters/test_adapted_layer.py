"""Adapted layers have weight W·Rᵀ, equal W at first, and compute the same after merging."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

import structmat as sm
from structmat.adapters import adapt, adapters, load_adapter, merge, save_adapter, unmerge
from structmat.errors import StructmatError
from structmat.linalg import factors as stagewise
from structmat.testing import networks, seeds
from tests.random_modules import randomised

pytest.importorskip("transformers")

from tests.adapters.layouts.layers import (
    adapted,
    can_scale,
    fields,
    flags,
    in_float64,
    layers,
    plainly,
    rows,
    tolerance,
)

# torch says so of the plain layer as well
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


@given(layers(), flags, fields)
def test_a_new_adapter_does_not_change_the_layer(drawn, scale, field):
    layer, x = drawn
    scale = scale and can_scale(layer)
    adapter = adapt(
        copy.deepcopy(layer), "mixed_radix", target_modules=".*", scale=scale, field=field
    )
    assert torch.equal(adapter.weight, layer.weight)
    y, expected = adapter(x), layer(x)
    assert y.dtype == expected.dtype
    assert (y - expected).abs().max() <= tolerance(layer, expected)


@given(layers(), flags, fields, seeds())
def test_merging_changes_no_output_and_unmerging_restores(drawn, scale, field, seed):
    layer, x = drawn
    layer(x)  # an embedding with max_norm shortens the rows that it sees
    adapter = adapted(layer, scale=scale, seed=seed, field=field)
    unmerged = adapter(x)
    before = adapter.base_layer.weight.clone()  # rounding may have shortened such rows once more
    with torch.no_grad():
        within = tolerance(layer, unmerged)
        assert (adapter(x) - unmerged).abs().max() <= within
    merge(adapter)
    assert adapter.merged
    assert (adapter(x) - unmerged).abs().max() <= within
    assert not any(
        p.requires_grad for n, p in adapter.named_parameters() if n == "base_layer.weight"
    )
    unmerge(adapter)
    assert torch.equal(adapter.base_layer.weight, before)  # to the last bit
    assert torch.equal(adapter(x), unmerged)
    plain = merge(adapter, unload=True)
    assert type(plain) is type(layer)
    assert (plain(x) - unmerged).abs().max() <= within


@given(layers(), fields, seeds())
def test_the_effective_weight_is_w_times_r_transposed(drawn, field, seed):
    layer, _ = drawn
    in_float64(layer)
    adapter = adapted(layer, seed=seed, field=field)
    r = adapter.rotation.matrix().detach()
    before, after = rows(layer, layer.weight, field), rows(layer, adapter.weight, field)
    groups, _, size = before.shape
    assert r.shape == (groups * size, groups * size)
    for g in range(groups):  # each group of a convolution has a rotation of its own
        own = r[g * size : (g + 1) * size, g * size : (g + 1) * size]
        torch.testing.assert_close(after[g], before[g] @ own.T, rtol=0, atol=1e-12)
    blocks = torch.block_diag(
        *(r[g * size : (g + 1) * size, g * size : (g + 1) * size] for g in range(groups))
    )
    assert torch.equal(r, blocks)


@given(layers(), fields, seeds())
def test_norms_and_angles_of_neurons_are_preserved(drawn, field, seed):
    layer, _ = drawn
    in_float64(layer)
    adapter = adapted(layer, seed=seed, field=field)
    before, after = rows(layer, layer.weight), rows(layer, adapter.weight)
    torch.testing.assert_close(after @ after.mT, before @ before.mT, rtol=0, atol=1e-11)
    singular = [np.linalg.svd(w.detach().numpy(), compute_uv=False) for w in (before, after)]
    np.testing.assert_allclose(singular[0], singular[1], rtol=0, atol=1e-11)


@given(layers(), flags, fields, seeds())
def test_gradients_match_a_plain_layer_with_the_effective_weight(drawn, scale, field, seed):
    """Rotating the activations and rotating the weight are both compared."""
    layer, x = drawn
    in_float64(layer)
    if isinstance(layer, nn.Embedding):  # without options that change the gradient of its table
        layer = nn.Embedding(*layer.weight.shape, dtype=torch.float64)
    adapter = adapted(layer, scale=scale, seed=seed, field=field)
    wanted = [p for p in adapter.parameters() if p.requires_grad]
    wanted += [x.requires_grad_()] if x.is_floating_point() else []
    y = adapter(x)
    expected = plainly(layer, x, adapter.weight, adapter.bias)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    ours = torch.autograd.grad(y.square().sum(), wanted)
    theirs = torch.autograd.grad(expected.square().sum(), wanted)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@given(layers(), flags, fields, seeds())
def test_saving_and_loading_any_layer_round_trips(tmp_path_factory, drawn, scale, field, seed):
    layer, x = drawn
    folder = tmp_path_factory.mktemp("adapter")
    one = adapted(nn.Sequential(layer), scale=scale and can_scale(layer), seed=seed, field=field)
    save_adapter(one, folder)
    other = load_adapter(nn.Sequential(copy.deepcopy(layer)), folder)
    assert type(other[0]) is type(one[0])
    assert torch.equal(other(x), one(x))


@given(networks(wired=False, max_width=8), seeds())
def test_any_straight_network_can_adapt_a_layer(net, seed):
    layer = nn.Linear(net.width, 3, dtype=torch.float64)
    x = torch.randn(4, net.width, dtype=torch.float64)
    adapter = adapted(layer, spec=net, seed=seed)
    r = torch.from_numpy(
        stagewise.matrix_of(net, [b.detach().numpy() for b in adapter.rotation.blocks()])
    )
    torch.testing.assert_close(adapter(x), x @ (layer.weight @ r.T).T + adapter.bias)


def test_a_wired_network_is_straightened():
    layer = nn.Linear(8, 3)
    x = torch.randn(4, 8)
    crossed = sm.Network(8, [sm.Stage(8, [sm.Bank([[0, 1]], [[1, 0]])])])
    adapter = adapt(copy.deepcopy(layer), crossed, target_modules=".*")
    assert torch.equal(adapter.weight, layer.weight)
    torch.testing.assert_close(adapter(x), layer(x))


def test_training_changes_the_rotation_only():
    torch.manual_seed(0)
    layer = nn.Linear(16, 4)
    adapter = adapt(layer, "shuffle(block=4)", target_modules=".*")
    weight, bias = layer.weight.clone(), layer.bias.clone()
    x, target = torch.randn(64, 16), torch.randn(64, 4)
    optimizer = torch.optim.Adam([p for p in adapter.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = (adapter(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer.bias, bias)
    assert adapter.rotation.orthogonality_error() < 1e-5


def test_multiplicative_dropout_acts_in_training_and_never_on_merged_weights():
    layer = nn.Linear(16, 4)
    adapter = adapted(layer, spec="butterfly", dropout=(1.0, 1.0))
    x = torch.randn(3, 16)
    bias = adapter.bias.detach() - layer.bias.detach()
    torch.testing.assert_close(adapter(x), layer(x) + bias)  # every block dropped
    evaluated = adapter.eval()(x)
    assert not torch.allclose(evaluated, layer(x) + bias, atol=1e-3)
    merge(adapter.train())
    torch.testing.assert_close(adapter(x), evaluated)
    assert adapter.rotation.training


def test_reading_the_weight_gives_the_rotated_weight():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 5, 8)
    attention = adapt(attention, "butterfly", target_modules=["out_proj"])
    before = attention(x, x, x)[0]
    randomised(attention, 0)
    after = attention(x, x, x)[0]
    assert not torch.allclose(before, after, atol=1e-3)
    merge(attention, unload=True)
    torch.testing.assert_close(attention(x, x, x)[0], after)


def test_attributes_are_forwarded_to_the_base_layer():
    adapter = adapt(nn.Linear(8, 3), "butterfly", target_modules=".*")
    assert (adapter.in_features, adapter.out_features) == (8, 3)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = adapter.nothing


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_merged_and_unmerged_agree_under_autocast(dtype):
    layer = nn.Linear(32, 8)
    x = torch.randn(4, 32)
    adapter = adapted(layer, spec="butterfly")
    with torch.autocast("cpu", dtype=dtype):
        unmerged = adapter(x)
        merge(adapter)
        merged = adapter(x)
    assert unmerged.dtype == merged.dtype == dtype
    torch.testing.assert_close(merged, unmerged, rtol=0, atol=32 * torch.finfo(dtype).eps)


def test_merging_an_adapter_with_nans_is_refused():
    adapter = adapt(nn.Linear(8, 3), "butterfly", target_modules=".*")
    weight = adapter.base_layer.weight.clone()
    with torch.no_grad():
        adapter.rotation.generators[0][0] = float("nan")
    with pytest.raises(StructmatError, match="NaNs detected in the merged weights"):
        merge(adapter)
    assert torch.equal(adapter.base_layer.weight, weight)
    assert not adapter.merged


@pytest.mark.parametrize("unload", [False, True])
def test_merging_in_inference_mode_leaves_weights_that_can_be_trained(unload):
    model = randomised(adapt(nn.Sequential(nn.Linear(8, 8)), "butterfly"), 0)
    with torch.inference_mode():
        model = merge(model, unload=unload)
    assert not any(p.is_inference() for p in model.parameters())
    model(torch.randn(2, 8, requires_grad=True)).sum().backward()


def test_quantised_weights_are_refused():
    layer = nn.Linear(8, 3)
    layer.weight = nn.Parameter(torch.zeros(3, 8, dtype=torch.int8), requires_grad=False)
    with pytest.raises(StructmatError, match=r"dtype torch\.int8: only plain floating-point"):
        adapt(layer, "butterfly", target_modules=".*")


def test_a_parametrized_weight_is_refused():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(8, 3))
    with pytest.raises(StructmatError, match="exclude quantised and parametrized layers"):
        adapt(layer, "butterfly", target_modules=".*")
    assert adapters(layer) == {}


def test_state_dict_of_a_merged_layer_has_the_unmerged_weight():
    layer = nn.Linear(8, 3)
    adapter = adapted(layer, spec="butterfly", scale=True)
    x = torch.randn(4, 8)
    y = adapter(x)
    plain = {name: value.clone() for name, value in adapter.state_dict().items()}
    merged = merge(adapter).state_dict()
    assert all(torch.equal(merged[name], plain[name]) for name in plain)
    other = adapted(nn.Linear(8, 3), spec="butterfly", scale=True, seed=1)
    other.load_state_dict(merged)
    assert torch.equal(other(x), y)
    merge(other).load_state_dict(plain)  # into a merged one: its weight becomes its own again
    assert not other.merged
    assert torch.equal(other(x), y)


def test_the_weight_stored_for_unmerging_changes_dtype_with_the_layer():
    adapter = merge(adapted(nn.Linear(8, 3), spec="butterfly"))
    unmerge(adapter.double())
    assert adapter.base_layer.weight.dtype == torch.float64
    assert adapter(torch.randn(2, 8, dtype=torch.float64)).dtype == torch.float64


class Standardised(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_custom_forward_is_called_and_refused_where_it_would_be_bypassed():
    for layer, scale in ((Standardised(4, 4, 3), False), (Doubled(8, 3), True)):
        with pytest.raises(StructmatError, match=r"overrides forward, .*bypass"):
            adapt(layer, "mixed_radix", target_modules=".*", scale=scale)
    layer = Doubled(8, 3)
    x = torch.randn(4, 8)
    torch.testing.assert_close(
        adapt(layer, "butterfly", target_modules=".*")(x), Doubled.forward(layer, x)
    )


def test_a_layer_with_hooks_is_refused():
    layer = nn.Linear(8, 3)
    handle = layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].abs(),))
    with pytest.raises(StructmatError, match="Linear has forward hooks"):
        adapt(layer, "butterfly", target_modules=".*")
    handle.remove()
    adapt(layer, "butterfly", target_modules=".*")


class Normed(nn.Linear):
    """A linear layer that transforms its inputs first."""

    def forward(self, x):
        return super().forward(torch.tanh(x))


class Two(nn.Linear):
    """A linear layer with additional outputs from another weight, as in Idefics."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.more = nn.Linear(sizes[0], 3)

    def forward(self, x):
        return torch.cat([super().forward(x), self.more(x)], -1)


class Folded(nn.Embedding):
    """A table whose entries are changed after they are looked up."""

    def forward(self, ids):
        return super().forward(ids).abs()


@pytest.mark.parametrize("kind", [Normed, Two, Folded])
def test_custom_forward_sees_the_same_weight_before_and_after_merging(kind):
    torch.manual_seed(0)
    layer = kind(8, 8)
    x = torch.arange(6) if kind is Folded else torch.randn(5, 8)
    before = layer(x)
    adapter = adapt(layer, "butterfly", target_modules=[""])
    torch.testing.assert_close(adapter(x), before)
    found = randomised(adapter, 0)(x)
    assert not torch.allclose(found, before, atol=0.05)
    found.sum().backward()
    assert all(bool(g.grad.any()) for g in adapter.rotation.generators)
    torch.testing.assert_close(merge(adapter)(x), found.detach(), rtol=1e-4, atol=1e-5)


def _full(layer, see):
    return layer.register_full_backward_hook(lambda _, of_inputs, __: see(of_inputs[0]))


def _before(layer, see):
    return layer.register_full_backward_pre_hook(lambda _, of_outputs: see(of_outputs[0]))


def _everywhere(layer, see):
    return nn.modules.module.register_module_full_backward_hook(
        lambda module, of_inputs, _: see(of_inputs[0]) if module is layer else None
    )


@pytest.mark.parametrize("hook", [_full, _before, _everywhere])
@pytest.mark.parametrize("rows", [2, 500])
def test_backward_hooks_receive_the_gradients_of_the_base_layer(hook, rows):
    """A hook registered after adapting makes the layer run separately from its rotation."""
    adapter = randomised(adapt(nn.Linear(8, 3), "butterfly", target_modules=".*"), 0)
    x = torch.randn(rows, 8)
    seen = []
    handle = hook(adapter.base_layer, lambda grad: seen.append(grad.clone()))
    try:
        y = adapter(x.requires_grad_())
        v = torch.randn_like(y)
        (found,) = torch.autograd.grad(y, x, v)
    finally:
        handle.remove()
    wanted = v if hook is _before else v @ adapter.base_layer.weight
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], wanted)
    torch.testing.assert_close(found, adapter.rotation(v @ adapter.base_layer.weight))


def test_forward_hooks_receive_the_inputs_and_outputs_of_the_base_layer():
    """The hooks are registered after adapting."""
    adapter = randomised(adapt(nn.Linear(8, 3), "butterfly", target_modules=".*"), 0)
    x = torch.randn(5, 8)
    seen = []
    handle = adapter.base_layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    y = adapter(x)
    handle.remove()
    handle = adapter.base_layer.register_forward_hook(lambda _, __, made: seen.append(made))
    adapter(x)
    handle.remove()
    torch.testing.assert_close(seen, [adapter.rotation.adjoint(x), y])
