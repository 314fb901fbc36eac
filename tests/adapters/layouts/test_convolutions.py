"""Convolutions: adapting changes no output; rotating x or the weight gives the same result."""

import copy
import itertools
import json
from unittest import mock

import pytest
import torch
from hypothesis import given
from torch import nn

from structmat.adapters import adapt, load_adapter, save_adapter
from structmat.adapters.checkpoint import SETTINGS
from structmat.adapters.layouts import ConvolutionLayout
from structmat.errors import FileError, StructmatError, WidthError
from structmat.testing import seeds

pytest.importorskip("transformers")

from tests.adapters.layouts.layers import CONVOLUTIONS, MODES, adapted, convolutions, flags, plainly

# torch warns about the plain layer, too
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def on_activations(way):
    """Decide for convolutions whether channels are rotated on activations or on the weight."""
    return mock.patch.object(ConvolutionLayout, "rotates_channels", return_value=way)


KERNELS = {1: [1, 2, 3], 2: [1, 2, 3, (3, 1), (1, 2)], 3: [1, 2, (1, 3, 2)]}


FIELDS = ["receptive", "channels"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_new_adapter_changes_no_output_for_any_options(kind, mode, field):
    """Each mode and field covers every seventh combination; together they cover all of them."""
    torch.manual_seed(0)
    axes = CONVOLUTIONS.index(kind) + 1
    x = torch.randn(2, 4, *(6, 5, 4)[:axes])
    options = itertools.product(KERNELS[axes], (1, 2), (0, 1, "same"), (1, 2), (1, 2))
    first = (2 * MODES.index(mode) + FIELDS.index(field)) % 7  # coprime to the numbers of options
    options = itertools.islice(options, first, None, 7)
    for kernel, stride, padding, dilation, groups in options:
        layer = kind(
            4,
            6,
            kernel,
            stride=1 if padding == "same" else stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            padding_mode=mode,
        )
        try:
            expected = layer(x)
        except RuntimeError:  # a dilated kernel that is larger than x
            continue
        adapter = adapt(copy.deepcopy(layer), "mixed_radix", target_modules=".*", field=field)
        assert (adapter(x) - expected).abs().max() <= 1e-6
        with on_activations(field == "channels"):
            assert (adapter(x) - expected).abs().max() <= 1e-6


@given(convolutions(), flags, seeds())
def test_rotating_activations_or_weight_gives_the_same_result(drawn, scale, seed):
    layer, x = drawn[0].double(), drawn[1].double().requires_grad_()
    adapter = adapted(layer, scale=scale, seed=seed, field="channels")
    wanted = [x, *(p for p in adapter.parameters() if p.requires_grad)]
    found = []
    for way in (True, False):
        with on_activations(way):
            y = adapter(x)
        found.append([y, *torch.autograd.grad(y.square().sum(), wanted)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@given(convolutions(), seeds())
def test_channel_rotation_equals_rotating_the_input_channels(drawn, seed):
    layer, x = drawn[0].double(), drawn[1].double()
    adapter = adapted(layer, seed=seed, field="channels")
    r = adapter.rotation.matrix().detach()
    axis = x.ndim - layer.weight.ndim + 1
    rotated = torch.einsum("ij,i...->j...", r, x.movedim(axis, 0)).movedim(0, axis)  # Rᵀ x
    expected = plainly(layer, rotated, layer.weight, adapter.bias)
    torch.testing.assert_close(adapter(x), expected, rtol=1e-9, atol=1e-9)


def rotates_channels(adapter, x):
    return adapter.layout.rotates_channels(adapter.base_layer, x, [adapter.adapter("default")])


def test_activations_are_rotated_where_they_are_fewer_than_weights():
    adapter = adapt(nn.Conv2d(4, 8, 3), "butterfly", target_modules=".*", field="channels")
    assert rotates_channels(adapter, torch.zeros(1, 4, 3, 3))
    assert not rotates_channels(adapter, torch.zeros(64, 4, 3, 3))
    receptive = adapt(nn.Conv2d(4, 8, 3), "mixed_radix", target_modules=".*")
    assert not rotates_channels(receptive, torch.zeros(1, 4, 3, 3))
    pointwise = adapt(nn.Conv2d(4, 8, 1), "butterfly", target_modules=".*")
    assert rotates_channels(pointwise, torch.zeros(1, 4, 2, 2))


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("field", ["receptive", "channels"])
@pytest.mark.parametrize("scale", [False, True])
def test_square_layers_are_rotated_on_the_chosen_side(kind, side, field, scale):
    """With one pixel, activations of either side are fewer than weights."""
    axes = CONVOLUTIONS.index(kind) + 1
    torch.manual_seed(0)
    layer = kind(4, 4, 1).double()
    adapter = adapted(layer, scale=scale, seed=1, field=field, side=side)
    x = torch.randn(1, 4, *[1] * axes, dtype=torch.float64)
    r = adapter.rotation.matrix().detach()
    w = layer.weight.detach().reshape(4, 4)
    w = w @ r.T if side == "inputs" else r @ w
    if scale:
        w = adapter.scale.detach()[:, None] * w
    expected = w @ x.reshape(4) + adapter.bias.detach()
    torch.testing.assert_close(adapter(x).reshape(4), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(adapter.weight.reshape(4, 4), w, rtol=1e-10, atol=1e-10)


def test_unknown_fields_are_refused(tmp_path):
    with pytest.raises(StructmatError, match=r"field='pixels': it must be 'receptive', to rotate"):
        adapt(nn.Conv2d(2, 2, 1), "butterfly", target_modules=".*", field="pixels")
    model = adapt(nn.Sequential(nn.Conv1d(2, 2, 1)), "butterfly", target_modules=["0"])
    save_adapter(model, tmp_path)
    settings = json.loads((tmp_path / SETTINGS).read_text())
    settings["layers"]["0"]["field"] = "pixels"
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    with pytest.raises(FileError, match="field='pixels'"):
        load_adapter(nn.Sequential(nn.Conv1d(2, 2, 1)), tmp_path)


def test_loading_an_adapter_with_a_changed_field_is_refused(tmp_path):
    model = adapt(nn.Sequential(nn.Conv1d(2, 2, 1)), "butterfly", target_modules=["0"])
    save_adapter(model, tmp_path)
    settings = json.loads((tmp_path / SETTINGS).read_text())
    settings["layers"]["0"]["field"] = "channels"
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    with pytest.raises(FileError, match="for ChannelsLayout; the saved weight"):
        load_adapter(nn.Sequential(nn.Conv1d(2, 2, 1)), tmp_path)


def test_files_of_version_1_without_the_field_setting_still_load(tmp_path):
    layer = nn.Conv2d(2, 2, 2)
    model = adapted(nn.Sequential(layer), generator_scaling="none")
    save_adapter(model, tmp_path)
    settings = json.loads((tmp_path / SETTINGS).read_text())
    del settings["layers"]["0"]["field"], settings["layers"]["0"]["generator_scale"]
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    x = torch.randn(1, 2, 4, 4)
    with pytest.raises(FileError, match="field"):
        load_adapter(nn.Sequential(copy.deepcopy(layer)), tmp_path)
    (tmp_path / SETTINGS).write_text(json.dumps(settings | {"version": 1}))
    again = load_adapter(nn.Sequential(copy.deepcopy(layer)), tmp_path)
    assert torch.equal(again(x), model(x))


def test_a_single_channel_cannot_be_rotated():
    depthwise = nn.Conv2d(4, 4, 3, groups=4)
    with pytest.raises(WidthError, match="has 1 input in each group"):
        adapt(depthwise, "mixed_radix", target_modules=".*", field="channels")
