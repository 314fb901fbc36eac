"""Adapted layers: the identity at the start, W·Rᵀ after, the same merged and unmerged."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import structmat as sm
from structmat.errors import StructmatError
from structmat.nn import adapt, adapters, merge, unmerge
from structmat.testing import networks, seeds
from tests.nn.drawing import randomised

pytorch_utils = pytest.importorskip("transformers.pytorch_utils")

# torch says so of the plain layer as well
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])
flags = st.booleans()


@st.composite
def convolutions(draw):
    """Draw a Conv2d with every option varied, and an input size that it takes."""
    groups = draw(st.integers(1, 3))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = draw(st.one_of(st.just("same"), st.tuples(st.integers(0, 2), st.integers(0, 2))))
    stride = 1 if padding == "same" else (draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    with_channels = groups * draw(st.integers(1, 3))
    assume(with_channels // groups * kernel[0] * kernel[1] > 1)
    return nn.Conv2d(
        with_channels,
        groups * draw(st.integers(1, 3)),
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(flags),
        padding_mode=mode,
    )


@st.composite
def layers(draw):
    """Draw a layer of each kind and an input for it."""
    torch.manual_seed(draw(st.integers(0, 1000)))
    kind = draw(st.sampled_from(["linear", "conv1d", "conv2d"]))
    if kind == "conv2d":
        layer = draw(convolutions())
        x = torch.randn(2, layer.in_channels, 8, 7)
    else:
        width, outputs = draw(st.integers(2, 12)), draw(st.integers(1, 6))
        if kind == "linear":
            layer = nn.Linear(width, outputs, bias=draw(flags))
        else:
            layer = pytorch_utils.Conv1D(outputs, width)
            nn.init.normal_(layer.bias)
        x = torch.randn(2, 3, width)
    dtype = draw(dtypes)
    return layer.to(dtype), x.to(dtype)


def adapted(layer, *, scale=False, seed=0, spec="mixed_radix", **options):
    adapter = adapt(
        copy.deepcopy(layer), spec, target_modules=".*", scale=scale, bias=True, **options
    )
    return randomised(adapter, seed)


def rows(layer, weight):
    """Return the weight as (groups, neurons, inputs), written here on its own."""
    if isinstance(layer, nn.Conv2d):
        return weight.reshape(layer.groups, layer.out_channels // layer.groups, -1)
    return (weight.T if isinstance(layer, pytorch_utils.Conv1D) else weight)[None]


def tolerance(layer, x, y):
    """Return what rounding x, the weight and y once each may cost, over the terms of a sum."""
    size = rows(layer, layer.weight).shape[-1]
    return 30 * size * torch.finfo(x.dtype).eps * max(1.0, float(y.detach().abs().max()))


@given(layers(), flags)
def test_the_start_is_the_pretrained_layer(drawn, scale):
    layer, x = drawn
    adapter = adapt(copy.deepcopy(layer), "mixed_radix", target_modules=".*", scale=scale)
    y, expected = adapter(x), layer(x)
    assert y.dtype == expected.dtype
    assert (y - expected).abs().max() <= tolerance(layer, x, expected)
    assert torch.equal(adapter.weight, layer.weight)


@given(layers(), flags, seeds())
def test_merged_and_unmerged_agree_and_unmerging_restores(drawn, scale, seed):
    layer, x = drawn
    adapter = adapted(layer, scale=scale, seed=seed)
    unmerged = adapter(x)
    merge(adapter)
    assert adapter.merged
    assert (adapter(x) - unmerged).abs().max() <= tolerance(layer, x, unmerged)
    assert not any(p.requires_grad for n, p in adapter.named_parameters() if n == "base.weight")
    unmerge(adapter)
    assert torch.equal(adapter.base.weight, layer.weight)  # to the last bit
    assert torch.equal(adapter(x), unmerged)
    plain = merge(adapter, unload=True)
    assert type(plain) is type(layer)
    assert (plain(x) - unmerged).abs().max() <= tolerance(layer, x, unmerged)


@given(layers(), seeds())
def test_the_effective_weight_is_w_times_r_transposed(drawn, seed):
    layer, x = drawn
    assume(x.dtype == torch.float64)
    adapter = adapted(layer, seed=seed)
    r = adapter.rotation.matrix().detach()
    before, after = rows(layer, layer.weight), rows(layer, adapter.weight)
    groups, _, size = before.shape
    for g in range(groups):  # each group of a convolution has a rotation of its own
        own = r[g * size : (g + 1) * size, g * size : (g + 1) * size]
        torch.testing.assert_close(after[g], before[g] @ own.T, rtol=0, atol=1e-12)
    blocks = torch.block_diag(
        *(r[g * size : (g + 1) * size, g * size : (g + 1) * size] for g in range(groups))
    )
    assert torch.equal(r, blocks)


@given(layers(), seeds())
def test_norms_and_angles_of_neurons_stay(drawn, seed):
    layer, x = drawn
    assume(x.dtype == torch.float64)
    adapter = adapted(layer, seed=seed)
    before, after = rows(layer, layer.weight), rows(layer, adapter.weight)
    torch.testing.assert_close(after @ after.mT, before @ before.mT, rtol=0, atol=1e-11)
    singular = [np.linalg.svd(w.detach().numpy(), compute_uv=False) for w in (before, after)]
    np.testing.assert_allclose(singular[0], singular[1], rtol=0, atol=1e-11)


@given(layers(), flags, seeds())
def test_gradients_are_those_of_the_dense_formula(drawn, scale, seed):
    """Both ways from the parameters to the outputs: activations rotated, and the weight."""
    layer, x = drawn
    assume(x.dtype == torch.float64)
    adapter = adapted(layer, scale=scale, seed=seed)
    parameters = [p for p in adapter.parameters() if p.requires_grad]
    x.requires_grad_()
    ours = torch.autograd.grad(adapter(x).square().sum(), [x, *parameters])
    weight, bias = adapter.weight, adapter.bias
    if isinstance(layer, nn.Conv2d):
        y = layer._conv_forward(x, weight, bias)
    else:
        y = x @ (weight.T if isinstance(layer, nn.Linear) else weight)
        y = y if bias is None else y + bias
    theirs = torch.autograd.grad(y.square().sum(), [x, *parameters])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@given(networks(wired=False, max_width=8), seeds())
def test_any_straight_network_adapts_a_layer(net, seed):
    layer = nn.Linear(net.width, 3, dtype=torch.float64)
    x = torch.randn(4, net.width, dtype=torch.float64)
    adapter = adapted(layer, spec=net, seed=seed)
    r = torch.from_numpy(sm.dense(net, [b.detach().numpy() for b in adapter.rotation.blocks()]))
    torch.testing.assert_close(adapter(x), x @ (layer.weight @ r.T).T + adapter.bias)


def test_a_wired_network_is_straightened():
    layer = nn.Linear(8, 3)
    x = torch.randn(4, 8)
    crossed = sm.Network(8, [sm.Stage(8, [sm.Bank([[0, 1]], [[1, 0]])])])
    adapter = adapt(copy.deepcopy(layer), crossed, target_modules=".*")
    assert torch.equal(adapter.weight, layer.weight)
    torch.testing.assert_close(adapter(x), layer(x))


def test_training_moves_the_rotation_and_nothing_else():
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


def test_multiplicative_dropout_acts_in_training_only_and_never_in_a_merged_weight():
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


def test_code_that_reads_the_weight_gets_the_rotated_one():
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


def test_attributes_are_those_of_the_layer():
    adapter = adapt(nn.Linear(8, 3), "butterfly", target_modules=".*")
    assert (adapter.in_features, adapter.out_features) == (8, 3)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = adapter.nothing


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    layer = nn.Linear(32, 8)
    x = torch.randn(4, 32)
    adapter = adapted(layer, spec="butterfly")
    with torch.autocast("cpu", dtype=dtype):
        unmerged = adapter(x)
        merge(adapter)
        merged = adapter(x)
    assert unmerged.dtype == merged.dtype == dtype
    torch.testing.assert_close(merged, unmerged, rtol=0, atol=32 * torch.finfo(dtype).eps)


def test_a_diverged_adapter_is_not_merged():
    adapter = adapt(nn.Linear(8, 3), "butterfly", target_modules=".*")
    weight = adapter.base.weight.clone()
    with torch.no_grad():
        adapter.rotation.generators[0][0] = float("nan")
    with pytest.raises(StructmatError, match="the merged weight holds NaN or infinity"):
        merge(adapter)
    assert torch.equal(adapter.base.weight, weight)
    assert not adapter.merged


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


def test_the_state_of_a_merged_layer_holds_its_own_weight():
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


def test_the_kept_weight_moves_with_the_rest():
    adapter = merge(adapted(nn.Linear(8, 3), spec="butterfly"))
    unmerge(adapter.double())
    assert adapter.base.weight.dtype == torch.float64
    assert adapter(torch.randn(2, 8, dtype=torch.float64)).dtype == torch.float64


class Standardised(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_layer_with_a_forward_of_its_own():
    for layer, scale in ((Standardised(4, 4, 3), False), (Doubled(8, 3), True)):
        with pytest.raises(StructmatError, match=r"has a forward of its own, .*bypass"):
            adapt(layer, "mixed_radix", target_modules=".*", scale=scale)
    layer = Doubled(8, 3)
    x = torch.randn(4, 8)
    torch.testing.assert_close(
        adapt(layer, "butterfly", target_modules=".*")(x), Doubled.forward(layer, x)
    )


def test_a_layer_with_hooks_is_refused():
    layer = nn.Linear(8, 3)
    handle = layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].abs(),))
    with pytest.raises(StructmatError, match="a Linear with forward hooks"):
        adapt(layer, "butterfly", target_modules=".*")
    handle.remove()
    adapt(layer, "butterfly", target_modules=".*")
