"""Scaled adapters are powers of rotations, and weighted adapters are geodesic means."""

import copy

import numpy as np
import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from structmat.errors import StructmatError
from structmat.linalg import factors as stagewise
from structmat.nn.parametrizations import powers
from structmat.peft import StructmatConfig
from structmat.testing import networks, seeds
from tests.peft.models import CASES, Case
from tests.peft.test_lifecycle import adapted, config, kinds_of, layers, near
from tests.random_modules import randomised, state, unchanged

KINDS = ["cayley", "exp", "givens", "householder"]
EPS = np.finfo(float).eps
PERCEPTRON = Case("perceptron", r"layers\.\d|head", "mixed_radix", torch.float64)


def one_layer(net, seed, **options):
    """Return a PEFT model of one square layer, in double precision."""
    made = StructmatConfig(topology=net, target_modules=["0"], **options)
    torch.manual_seed(seed)
    plain = nn.Sequential(nn.Linear(net.width, net.width, bias=False, dtype=torch.float64))
    return randomised(peft.get_peft_model(plain, made), seed, 0.7).eval()


@settings(max_examples=30)
@given(networks(wired=False), seeds(), st.floats(-1, 1), st.sampled_from(KINDS))
def test_a_scaled_adapter_is_the_product_of_powers(net, seed, alpha, blocks):
    model = one_layer(net, seed, side="both", parametrization=blocks)
    layer = model.base_model.model[0]
    layer.set_scale("default", alpha)
    r, p = (
        stagewise.matrix_of(
            net, [powers.power(b, alpha).detach().numpy() for b in plain_blocks(turn)]
        )
        for turn in layer.rotations("default")
    )
    expected = p @ layer.base_layer.weight.detach().numpy() @ r.T
    tolerance = 3000 * (net.depth + 1) * net.width * EPS
    found = layer.weight.detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    singular = [np.linalg.svd(w, compute_uv=False) for w in (found, expected)]
    np.testing.assert_allclose(*singular, rtol=0, atol=tolerance)


def plain_blocks(turn):
    """Return the blocks of an adapter as they are at power 1."""
    turn = copy.deepcopy(turn)
    turn.set_power(1.0)
    return turn.blocks(torch.float64)


@pytest.mark.parametrize("case", CASES, ids=kinds_of)
def test_scales_from_0_to_1_lead_from_the_plain_to_the_adapted_model(case):
    model = adapted(case, side="both", scale=True)
    whole = case.call(model)
    for layer in layers(model).values():
        layer.set_scale("default", 0.0)
    near(case, case.call(model), case.call(case.model()), ulps=100)
    for layer in layers(model).values():
        layer.set_scale("default", 0.4)
    part = case.call(model)
    near(case, case.call(copy.deepcopy(model).merge_and_unload()), part)
    for layer in layers(model).values():
        layer.unscale_layer()
    near(case, case.call(model), whole, ulps=20)
    assert not torch.allclose(part, whole, atol=1e-3)


def test_scale_layer_and_unscale_layer_change_active_adapters_only():
    model = adapted(PERCEPTRON)
    model.add_adapter("other", config(PERCEPTRON, init_weights=False))
    for layer in layers(model).values():
        layer.set_scale("default", 0.5)
        layer.scale_layer(0.5)
        assert layer.structmat_power == {"default": 0.25, "other": 1.0}
        layer.unscale_layer(0.125)
        assert layer.structmat_power == {"default": 2.0, "other": 1.0}
        layer.unscale_layer()
        layer.set_scale("other", 0.5)
        layer.set_scale("nobody", 0.5)
        assert layer.structmat_power == {"default": 1.0, "other": 0.5}
        with pytest.raises(StructmatError, match="scale=nan: it must be a finite number"):
            layer.set_scale("default", float("nan"))


REFUSED = {
    "a string": (lambda layer: layer.set_scale("default", "a"), "scale='a': it must be a finite"),
    "nothing": (lambda layer: layer.set_scale("default", None), "scale=None: it must be a finite"),
    "an overflow": (lambda layer: layer.set_scale("default", 1e300), r"scale=1e\+300.*1,000,000"),
    "a product": (lambda layer: layer.scale_layer(1e6), r"scale=1500000\.0"),
    "a factor": (lambda layer: layer.scale_layer("a"), "scale='a'"),
    "a division": (lambda layer: layer.unscale_layer(0), "powers cannot be divided by 0"),
    "a divisor": (lambda layer: layer.unscale_layer("a"), "scale='a'"),
    "a number": (lambda layer: layer.keep_stages("default", 1), r"stages=1: .*such as \[1\]"),
    "no stage": (lambda layer: layer.keep_stages("default", [9]), "stage 9 of a network of depth"),
}


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=list(REFUSED))
def test_a_refused_setting_leaves_the_layer_as_it_was(change, said, merged):
    model = adapted(PERCEPTRON, scale=True)
    layer = next(iter(layers(model).values()))
    layer.set_scale("default", 1.5)
    unchanged_by(model, layer, change, said, merged=merged)


def unchanged_by(model, layer, change, said, *, merged):
    if merged:
        layer.merge()
    before, powers, weight = state(model), dict(layer.structmat_power), layer.weight.clone()
    with pytest.raises(StructmatError, match=said):
        change(layer)
    assert unchanged(model, before)
    assert layer.structmat_power == powers
    assert torch.equal(layer.weight, weight)
    if merged:
        layer.unmerge()
        torch.testing.assert_close(layer.weight, weight)


@pytest.mark.parametrize("merged", [False, True])
def test_blocks_without_a_power_are_refused_before_anything_changes(merged):
    """Those of a truncated series with large generators are far from orthogonal."""
    options = {"parametrization": "cayley_neumann", "generator_scaling": "none"}
    model = adapted(PERCEPTRON, side="both", **options)
    model.add_adapter("second", config(PERCEPTRON, init_weights=False))
    model.base_model.set_adapter(["second", "default"])
    layer = next(iter(layers(model).values()))
    for generator in layer.structmat_outputs["default"].generators:
        nn.init.constant_(generator, 1.0)
    said = "powers and means need orthogonal blocks"
    unchanged_by(model, layer, lambda one: one.scale_layer(0.5), said, merged=merged)
    unchanged_by(model, layer, lambda one: one.set_scale("default", 0.5), said, merged=merged)


def test_a_new_scale_takes_effect_without_gradients():
    """Without gradients, blocks are cached while the generators are unchanged."""
    model = adapted(PERCEPTRON, side="both")
    with torch.no_grad():
        for alpha in (1.0, 0.5, 1.0, 0.0):
            for layer in layers(model).values():
                layer.set_scale("default", alpha)
            fresh = copy.deepcopy(model)
            near(PERCEPTRON, PERCEPTRON.call(model), PERCEPTRON.call(fresh), ulps=20)
    near(PERCEPTRON, PERCEPTRON.call(model), PERCEPTRON.call(PERCEPTRON.model()), ulps=50)


@settings(max_examples=20)
@given(networks(wired=False, max_width=5, max_depth=2), seeds(), st.floats(-1, 1))
def test_gradients_flow_through_powers(net, seed, alpha):
    model = one_layer(net, seed, side="both", scale=True)
    layer = model.base_model.model[0]
    layer.set_scale("default", alpha)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    x = torch.randn(2, net.width, dtype=torch.float64)

    def run(*values):
        return torch.func.functional_call(model, dict(zip(trained, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, tuple(trained.values()))


# Weighted adapters ----------------------------------------------------------------------------


def with_two(case, **options):
    model = adapted(case, **options)
    model.add_adapter("other", config(case, init_weights=False, **options))
    randomised_too(model)
    return model


def randomised_too(model):
    for layer in layers(model).values():
        for k, turn in enumerate(layer.rotations("other")):
            randomised(turn.requires_grad_(), k + 1, 0.3).requires_grad_(requires_grad=False)


def matrices(model, name):
    return [
        [b.detach() for b in turn.blocks(torch.float64)]
        for layer in layers(model).values()
        for turn in layer.rotations(name)
    ]


@pytest.mark.parametrize("blocks", KINDS)
@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.2, 0.8], [0.7, 0.6]])
def test_the_mean_of_adapters_is_geodesic_in_each_block_and_orthogonal(blocks, weights):
    model = with_two(PERCEPTRON, side="both", scale=True, parametrization=blocks)
    model.add_weighted_adapter(["default", "other"], weights, "mean")
    both = zip(*(matrices(model, n) for n in ("default", "other", "mean")), strict=True)
    for a, b, made in both:
        for one, two, middle in zip(a, b, made, strict=True):
            path = one @ powers.power(one.mT @ two, weights[1] / sum(weights))
            expected = powers.power(path, sum(weights))
            torch.testing.assert_close(middle, expected, rtol=0, atol=1e-11)
            eye = torch.eye(middle.shape[-1], dtype=middle.dtype).expand_as(middle)
            torch.testing.assert_close(middle.mT @ middle, eye, rtol=0, atol=1e-13)
    for layer in layers(model).values():
        s, t, made = (layer.structmat_scale[n] for n in ("default", "other", "mean"))
        torch.testing.assert_close(made, 1 + weights[0] * (s - 1) + weights[1] * (t - 1))
    assert list(model.peft_config) == ["default", "other", "mean"]
    assert model.active_adapters == ["default"]


@pytest.mark.parametrize("case", CASES, ids=kinds_of)
def test_weights_1_0_and_0_1_give_the_adapters_themselves(case):
    model = with_two(case, reduced=True)
    for name, weights in (("default", [1, 0]), ("other", [0, 1])):
        model.add_weighted_adapter(["default", "other"], weights, f"like_{name}")
        outputs = []
        for active in (name, f"like_{name}"):
            model.set_adapter(active)
            outputs.append(case.call(model))
        near(case, *outputs)


@pytest.mark.parametrize("weight", [0.3, 1.0, 0.0, -1.0, -0.4])
def test_a_single_weighted_adapter_is_the_scaled_adapter(weight):
    model = adapted(PERCEPTRON, scale=True)
    model.add_weighted_adapter(["default"], [weight], "part")
    for layer in layers(model).values():
        layer.set_scale("default", weight)
    scaled = PERCEPTRON.call(model)
    model.set_adapter("part")
    near(PERCEPTRON, PERCEPTRON.call(model), scaled, ulps=2000)


@pytest.mark.parametrize(
    "weights", [[1, -1], [-0.5, 0.2], [-0.3, -0.6], [0, 0], [0, -1], [2, -0.5]]
)
def test_a_negative_weight_inverts_the_rotation(weights):
    """Rotations of the plane commute, so the mean is the product of their powers."""
    case = Case("perceptron", r"layers\.\d", "butterfly(block=2, depth=1)", torch.float64)
    model = with_two(case)
    model.add_weighted_adapter(["default", "other"], weights, "mean")
    every = zip(*(matrices(model, n) for n in ("default", "other", "mean")), strict=True)
    for first, second, made in every:
        for a, b, found in zip(first, second, made, strict=True):
            expected = powers.power(a, weights[0]) @ powers.power(b, weights[1])
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_layers_of_only_one_adapter_are_averaged_with_the_identity(tmp_path):
    case = Case("perceptron", r"layers\.[01]", "mixed_radix", torch.float64)
    model = adapted(case)
    model.add_adapter("other", config(case, target_modules=[r"layers.1", "layers.2"]))
    randomised_too(model)
    model.add_weighted_adapter(["default", "other"], [0.5, 0.5], "mean")
    found = layers(model)
    assert len(found) == 3
    for name, source in (("layers.0", "default"), ("layers.2", "other")):
        layer = next(m for n, m in found.items() if n.endswith(name))
        blocks = layer.structmat_inputs[source].blocks(torch.float64)
        made = layer.structmat_inputs["mean"].blocks(torch.float64)
        for block, half in zip(blocks, made, strict=True):
            torch.testing.assert_close(half, powers.power(block, 0.5), rtol=0, atol=1e-12)
    model.set_adapter("mean")
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(case.model(), tmp_path / "mean")
    near(case, case.call(again), case.call(model), ulps=20)


@pytest.mark.parametrize(
    ("names", "weights", "new", "options", "said"),
    [
        (["default", "nobody"], [1, 1], "mean", {}, "adapter 'nobody': no such adapter"),
        (["default"], [1, 1], "mean", {}, "2 weights for 1 adapters"),
        (["default", "other"], [1, float("nan")], "mean", {}, "weight nan: it must be a finite"),
        (["default", "other"], [1, 1], "other", {}, "this name is taken"),
        (["default", "wide"], [1, 1], "mean", {}, "have different networks"),
        (["default", "other"], [1, 1], "layers", {}, "PEFT would confuse them"),
        (
            ["default", "other"],
            [1, 1],
            "mean",
            {"combination_type": "svd"},
            "only geodesic means of rotations",
        ),
    ],
)
def test_invalid_weighted_adapters_are_refused(names, weights, new, options, said):
    model = with_two(PERCEPTRON)
    model.add_adapter("wide", config(PERCEPTRON, topology="brickwall(depth=2)"))
    before = state(model)
    with pytest.raises(StructmatError, match=said):
        model.add_weighted_adapter(names, weights, new, **options)
    assert unchanged(model, before)
    assert list(model.peft_config) == ["default", "other", "wide"]


def test_averaging_adapters_with_modules_to_save_is_refused():
    case = Case("bert", ["query"], "shuffle(block=8)")
    model = adapted(case, modules_to_save=["classifier"])
    with pytest.raises(StructmatError, match="modules_to_save, which are not rotations"):
        model.add_weighted_adapter(["default"], [1.0], "mean")
