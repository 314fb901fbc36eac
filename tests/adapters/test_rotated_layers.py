"""Rotated activations: the model stays the same, weights are W Rᵀ, and everything is undone."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import structmat as sm
from structmat.adapters import (
    RotatedLinear,
    adapt,
    rotate_activations,
    rotations,
    unrotate,
)
from structmat.errors import StructmatError, WidthError
from structmat.testing import blocks_for, networks

transformers = pytest.importorskip("transformers")


def perceptron(width=24, dtype=torch.float32):
    torch.manual_seed(0)
    layers = nn.Linear(width, 40), nn.Tanh(), nn.Linear(40, width, bias=False)
    return nn.Sequential(*layers).to(dtype)


@settings(max_examples=30)
@given(st.data())
def test_the_layer_stays_the_same_for_every_rotation(data):
    net = data.draw(networks())
    rotation = sm.Rotation(net, data.draw(blocks_for(net)))
    layer = nn.Linear(net.width, 5, dtype=torch.float64)
    weight = layer.weight.detach().clone()
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((3, net.width)))
    before = layer(x)
    model = rotate_activations(nn.Sequential(layer), lambda _: rotation)
    matrix = torch.from_numpy(np.array(rotation.matrix(), dtype=np.float64))
    torch.testing.assert_close(model[0].base_layer.weight, weight @ matrix.T, atol=1e-11, rtol=0)
    torch.testing.assert_close(model(x), before, atol=1e-11, rtol=0)
    torch.testing.assert_close(model[0].weight, weight, atol=1e-11, rtol=0)
    assert unrotate(model)[0] is layer
    torch.testing.assert_close(layer.weight, weight, atol=1e-11, rtol=0)


@pytest.mark.parametrize("width", [13_696, 29_568])
def test_rotating_wide_layers_reduces_outliers_and_preserves_outputs(width):
    layer = nn.Linear(width, 3)
    x = torch.randn(4, width)
    x[:, 7] = 100  # an outlier
    before = layer(x)
    model = rotate_activations(nn.Sequential(layer))
    torch.testing.assert_close(model(x), before, atol=1e-3, rtol=1e-4)
    rotated = model[0].rotation(x)
    torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1))
    ratio = rotated.abs().amax(-1) / rotated.square().mean(-1).sqrt()
    assert ratio.max() < 8  # before: at least 80


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-13), (torch.float32, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)],
)
def test_every_dtype_is_kept(dtype, tolerance):
    model = perceptron(dtype=dtype)
    x = torch.randn(6, 24, dtype=dtype)
    before = model(x)
    model = rotate_activations(model)
    assert model(x).dtype == dtype
    torch.testing.assert_close(model(x), before, atol=tolerance, rtol=tolerance)


def test_gradients_equal_those_of_the_plain_model():
    plain = perceptron(dtype=torch.float64)
    model = rotate_activations(copy.deepcopy(plain))
    grads = []
    for one in (plain, model):
        x = torch.linspace(-1, 1, 24, dtype=torch.float64, requires_grad=True)
        one(x).square().sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads)
    for index in (0, 2):
        rotated = model[index].rotation(plain[index].weight.grad)
        torch.testing.assert_close(model[index].base_layer.weight.grad, rotated)


def test_rotated_models_can_be_copied_compiled_and_converted_to_half_precision():
    model = rotate_activations(perceptron())
    x = torch.randn(5, 24)
    torch.testing.assert_close(copy.deepcopy(model)(x), model(x))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
    half = copy.deepcopy(model).half()
    torch.testing.assert_close(half(x.half()).float(), model(x), atol=1e-2, rtol=1e-2)


def test_layers_of_equal_width_share_a_rotation_and_other_seeds_differ():
    model = nn.ModuleList(nn.Linear(12, 12) for _ in range(3))
    rotate_activations(model)
    assert len({id(layer.rotation) for layer in model}) == 1
    other = rotate_activations(nn.Sequential(nn.Linear(12, 4)), lambda d: sm.rotator(d, rng=1))
    assert rotations(other)["0"] != rotations(model)["0"]


def test_the_rotations_and_the_state_dict_restore_the_model():
    model = perceptron()
    model = rotate_activations(
        model, lambda d: sm.rotator(d, block=4, rng=d), exclude_modules=["2"]
    )
    stored = json.loads(json.dumps(rotations(model)))
    assert stored == {"0": "rotator(24, block=4, seed=24, version=1)"}
    fresh = perceptron().apply(lambda m: m.reset_parameters() if isinstance(m, nn.Linear) else None)
    fresh = rotate_activations(fresh, rotations=stored, fold=False)
    fresh.load_state_dict(model.state_dict())
    x = torch.randn(2, 24)
    assert torch.equal(fresh(x), model(x))
    assert isinstance(fresh[2], nn.Linear)
    assert set(model.state_dict()) == {"0.base_layer.weight", "0.base_layer.bias", "2.weight"}


def test_rotations_without_a_description_are_returned_as_they_are():
    net = sm.butterfly(8)
    rotation = sm.Rotation(net, sm.random_blocks(net, rng=0))
    model = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
    rotate_activations(model, rotations={"0": rotation, "1": rotation})
    assert list(rotations(model).values()) == [rotation, rotation]
    assert model[0].rotation is model[1].rotation


def test_a_layer_with_two_names_or_without_one_is_rotated_once():
    layer = nn.Linear(6, 6)
    x = torch.randn(2, 6)
    before = layer(layer(x))
    model = rotate_activations(nn.ModuleDict({"a": layer, "b": layer}))
    assert model["a"] is model["b"]
    torch.testing.assert_close(model["b"](model["a"](x)), before, atol=1e-5, rtol=1e-5)
    assert unrotate(model)["b"] is layer
    assert isinstance(top := rotate_activations(layer), RotatedLinear)
    assert unrotate(top) is layer


def test_a_layer_named_twice_is_rotated_once():
    layer = nn.Linear(6, 6)
    x = torch.randn(2, 6)
    before = layer(x)
    model = nn.ModuleDict({"a": layer, "b": layer})
    with pytest.raises(
        StructmatError, match="a and b are the same layer, which can have only one rotation"
    ):
        rotate_activations(model, rotations={"a": sm.rotator(6), "b": sm.rotator(6, rng=1)})
    assert model["a"] is layer
    text = sm.rotator(6).description
    rotate_activations(model, rotations={"a": text, "b": text})
    assert model["a"] is model["b"]
    assert model["a"].base_layer is layer
    torch.testing.assert_close(model["b"](x), before, atol=1e-5, rtol=1e-5)


def test_a_model_stays_unchanged_if_a_rotated_weight_would_exceed_float16():
    """The last layer fails, after others that could have been rotated."""
    model = perceptron().half()
    rotation = sm.rotator(model[2].in_features, rng=0)
    with torch.no_grad():  # a row that the rotation moves to one wire
        model[2].weight[0] = torch.tensor(9e4 * rotation.matrix()[0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(StructmatError, match="2: a rotated weight exceeds 65504, the largest fl"):
        rotate_activations(model)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    model[2].weight.data[0] = 0
    model[2].weight.data[0, :2] = 6e4  # a norm above 65504 alone does no harm
    rotate_activations(model)
    assert model[2].base_layer.weight.isfinite().all()


@settings(max_examples=5)
@given(st.integers(0, 99))
def test_tied_heads_and_transposed_weights_are_rotated(seed):
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=24, vocab_size=11, tie_word_embeddings=True
    )
    torch.manual_seed(seed)
    model = transformers.GPT2LMHeadModel(config).eval()
    embedding = model.transformer.wte.weight.detach().clone()
    tokens = torch.randint(0, 11, (2, 5))
    before = model(tokens).logits
    rotate_activations(model, target_modules=["c_attn", "c_fc", "c_proj", "lm_head"])
    assert sum(isinstance(m, RotatedLinear) for m in model.modules()) == 5
    torch.testing.assert_close(model(tokens).logits, before, atol=1e-5, rtol=1e-4)
    assert torch.equal(model.transformer.wte.weight, embedding)
    assert not model.config.tie_word_embeddings
    unrotate(model)
    torch.testing.assert_close(model(tokens).logits, before, atol=1e-5, rtol=1e-4)


def test_modules_that_read_the_weight_get_the_one_without_the_rotation():
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).eval()
    x = torch.randn(1, 3, 8)
    with torch.no_grad():
        before = layer(x)
        rotate_activations(layer, target_modules=["linear1", "linear2"])
        torch.testing.assert_close(layer(x), before, atol=1e-5, rtol=1e-4)


class Doubled(nn.Linear):
    """A layer that uses its weight in its own way."""

    def forward(self, x):
        """Return twice the outputs."""
        return 2 * super().forward(x)


def test_a_layer_with_complex_weights_stays_the_same():
    layer = nn.Sequential(nn.Linear(12, 4, dtype=torch.complex128))
    x = torch.randn(3, 12, dtype=torch.complex128)
    with torch.no_grad():
        before, weight = layer(x), layer[0].weight.clone()
        layer = rotate_activations(layer)
        torch.testing.assert_close(layer(x), before)
        torch.testing.assert_close(unrotate(layer)[0].weight, weight)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Embedding(6, 4), r"x is a Embedding, .* looks up rows and has no inputs to rotate"),
        (nn.Conv1d(4, 4, 3), "x is a Conv1d, .* only linear layers can be"),
        (Doubled(4, 4), "x: Doubled has its own forward"),
        (nn.Linear(1, 4), "x has fewer than 2 inputs, so there is nothing to rotate; exclude it"),
    ],
)
def test_layers_that_cannot_be_rotated_are_named(module, said):
    model = nn.ModuleDict({"x": module, "y": nn.Linear(4, 4)})
    before = dict(model.named_parameters())
    with pytest.raises(StructmatError, match=said):
        rotate_activations(model, target_modules=["x", "y"])
    assert all(value is before[name] for name, value in model.named_parameters())


def test_the_output_projection_of_attention_is_refused():
    with pytest.raises(StructmatError, match=r"out_proj: nn\.MultiheadAttention reads the weight"):
        rotate_activations(nn.MultiheadAttention(8, 2))


def test_bad_arguments_are_refused():
    with pytest.raises(WidthError, match="0 has 24 inputs, but its rotation has width 12"):
        rotate_activations(perceptron(), lambda _: sm.rotator(12))
    with pytest.raises(StructmatError, match="the rotation of width 24 is complex"):
        rotate_activations(perceptron(), lambda d: sm.rotator(d, field="complex"))
    with pytest.raises(StructmatError, match="the rotation of width 24: rotation=3"):
        rotate_activations(perceptron(), lambda _: 3)
    with pytest.raises(StructmatError, match=r"the model has no layer '1\.x'"):
        rotate_activations(perceptron(), rotations={"1.x": sm.rotator(24)})
    with pytest.raises(StructmatError, match="must name at least one layer"):
        rotate_activations(perceptron(), rotations={})
    with pytest.raises(StructmatError, match="omit rotation, target_modules"):
        rotate_activations(perceptron(), sm.rotator, rotations={"0": sm.rotator(24)})
    for rotation in (sm.rotator(24), sm.rotator(24).description, 3):
        with pytest.raises(StructmatError, match=r"rotation=.*: it must be a function of the widt"):
            rotate_activations(perceptron(), rotation)
    with pytest.raises(StructmatError, match=r"rotations=\['0'\]: it must be a dict from layer"):
        rotate_activations(perceptron(), rotations=["0"])
    with pytest.raises(StructmatError, match="target_modules=None: it must be a regular express"):
        rotate_activations(perceptron(), target_modules=None)
    for function in (rotate_activations, unrotate):
        with pytest.raises(StructmatError, match="must be a torch"):
            function(3)
    with pytest.raises(StructmatError, match="no activations are rotated"):
        unrotate(perceptron())
    with pytest.raises(StructmatError, match="already rotated: call unrotate"):
        rotate_activations(rotate_activations(perceptron()))
    with pytest.raises(StructmatError, match="already has adapters"):
        rotate_activations(adapt(perceptron(), "mixed_radix"))
    with pytest.raises(StructmatError, match="already has adapters"):
        unrotate(adapt(rotate_activations(perceptron()), "mixed_radix"))


def test_a_weight_that_was_replaced_after_the_rotation_is_not_restored():
    model = rotate_activations(perceptron())
    model[0].base_layer = nn.Identity()
    with pytest.raises(StructmatError, match="0 is a Identity"):
        unrotate(model)
    assert isinstance(model[2], RotatedLinear)
