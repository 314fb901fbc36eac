"""Mixture-of-experts layers under PEFT: `target_parameters` names the stacked expert weights."""

import copy

import numpy as np
import peft
import pytest
import torch
from torch import nn

from structmat.adapters import adapt
from structmat.errors import StructmatError, WidthError
from structmat.linalg import factors as stagewise
from structmat.peft import StructmatConfig
from structmat.peft.layer import StructmatExperts
from tests.adapters.layouts.test_experts import MODELS, NAMES, STACKS, logits, mixture, tokens
from tests.random_modules import state, unchanged

TARGETS = ["experts.gate_up_proj", "experts.down_proj"]
sides = pytest.mark.parametrize("side", ["inputs", "outputs", "both"])
names = pytest.mark.parametrize("name", sorted(MODELS))


def config(**options):
    return StructmatConfig(**{"topology": "mixed_radix", "target_parameters": TARGETS} | options)


def adapted(name, **options):
    options = {"init_weights": False} | options
    return peft.get_peft_model(mixture(name), config(**options)).eval()


def experts(model):
    return model.get_base_model().model.layers[0].mlp.experts


@names
@sides
@pytest.mark.parametrize("scale", [False, True])
def test_train_save_load_merge_and_unload_an_expert_adapter(name, side, scale, tmp_path):
    before = logits(mixture(name))
    start = adapted(name, side=side, scale=scale, init_weights=True)
    torch.testing.assert_close(logits(start), before, rtol=0, atol=1e-12)
    model = adapted(name, side=side, scale=scale)
    unmerged = logits(model)
    assert not torch.allclose(unmerged, before, atol=1e-2)
    unmerged.square().sum().backward()
    trained = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert all("structmat_" in n and grad.count_nonzero() for n, grad in trained.items())

    model.save_pretrained(tmp_path)
    for low in (False, True):
        again = peft.PeftModel.from_pretrained(mixture(name), tmp_path, low_cpu_mem_usage=low)
        assert torch.equal(logits(again), unmerged)
    with model.disable_adapter():
        assert torch.equal(logits(model), before)
    model.add_adapter("other", config(topology="butterfly(block=2, depth=1)", init_weights=False))
    model.set_adapter("other")
    assert not torch.allclose(logits(model), unmerged, atol=1e-2)
    model.base_model.set_adapter(["default", "other"])
    both = logits(model)
    model.merge_adapter()
    torch.testing.assert_close(logits(model), both, rtol=0, atol=1e-12)
    model.unmerge_adapter()
    model.set_adapter("default")
    model.delete_adapter("other")
    assert torch.equal(logits(model), unmerged)
    copied = copy.deepcopy(model).merge_and_unload(safe_merge=True)
    torch.testing.assert_close(logits(copied), unmerged, rtol=0, atol=1e-12)
    assert state(copied).keys() == state(mixture(name)).keys()
    assert unchanged(model.unload(), state(mixture(name).requires_grad_(requires_grad=False)))


@names
def test_the_weight_of_each_expert_equals_the_dense_product(name):
    model = adapted(name, side="both", scale=True)
    for part in NAMES:
        layer = experts(model)._modules[part]
        r, p = (
            stagewise.matrix_of(
                turn.network, [b.detach().numpy() for b in turn.blocks(torch.float64)]
            )
            for turn in layer.rotations("default")
        )
        across = name == "gpt_oss"
        plain = layer.base_layer.weight.detach().numpy()
        w = plain.transpose(0, 2, 1) if across else plain
        count, outputs, inputs = w.shape
        factors = layer.structmat_scale["default"].detach().numpy().reshape(count, outputs, 1)
        expected = np.empty_like(w)
        for e in range(count):
            own = slice(e * inputs, (e + 1) * inputs), slice(e * outputs, (e + 1) * outputs)
            turned = p[own[1], own[1]] @ w[e] @ r[own[0], own[0]].T
            expected[e] = factors[e] * turned
        expected = expected.transpose(0, 2, 1) if across else expected
        np.testing.assert_allclose(layer.weight.detach().numpy(), expected, rtol=0, atol=1e-12)
        layer.base_layer.weight = nn.Parameter(torch.tensor(expected), requires_grad=False)
    expected = logits(model)
    with model.disable_adapter():  # a plain model with these weights
        torch.testing.assert_close(logits(model), logits(model.get_base_model()))
        found = logits(model)
    fresh = adapted(name, side="both", scale=True)
    torch.testing.assert_close(logits(fresh), found, rtol=0, atol=1e-12)
    assert not torch.allclose(expected, found, atol=1e-2)


@names
@pytest.mark.parametrize("way", ["eager", "batched_mm", "grouped_mm"])
def test_values_and_gradients_equal_those_of_adapt(name, way):
    """With every experts implementation of the model."""
    model = peft.get_peft_model(
        mixture(name, way, torch.float32), config(scale=True, init_weights=False)
    )
    ours = adapt(mixture(name, way, torch.float32), "mixed_radix", target_modules=NAMES, scale=True)
    for part in NAMES:
        layer, adapter = experts(model)._modules[part], ours.get_submodule(f"{STACKS[0][:-13]}")
        adapter = adapter._modules[part]
        with torch.no_grad():
            adapter.scale.copy_(layer.structmat_scale["default"])
            for g, h in zip(
                adapter.rotation.generators,
                layer.structmat_inputs["default"].generators,
                strict=True,
            ):
                g.copy_(h)
    torch.testing.assert_close(logits(model), logits(ours))
    for each in (model, ours):
        logits(each).square().sum().backward()
    gradients = [
        [p.grad for n, p in sorted(m.named_parameters(), key=lambda pair: by_kind(pair[0]))
         if p.requires_grad]
        for m in (model, ours)
    ]  # fmt: skip
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def by_kind(name):
    return "gate_up" in name, "scale" in name, name[-1]


def test_layers_and_experts_can_be_adapted_and_averaged_together(tmp_path):
    targets = {"target_modules": ["q_proj", "o_proj"]}
    model = adapted("mixtral", **targets)
    assert len(model.base_model.adapted()) == 4
    model.add_adapter("other", config(init_weights=False))
    assert isinstance(experts(model), StructmatExperts)
    model.add_weighted_adapter(["default", "other"], [1.0, 0.0], "mean")
    expected = logits(model)
    model.set_adapter("mean")
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-10)
    model.save_pretrained(tmp_path, selected_adapters=["mean"])
    again = peft.PeftModel.from_pretrained(mixture("mixtral"), tmp_path / "mean")
    torch.testing.assert_close(logits(again), expected, rtol=0, atol=1e-10)
    assert set(again.peft_config["default"].target_parameters) == set(STACKS)


def test_layers_to_transform_selects_the_experts_of_some_layers():
    model = mixture("mixtral")
    assert adapted("mixtral", layers_to_transform=0).base_model.adapted()
    before = state(model)
    with pytest.raises(ValueError, match="No `target_modules` passed but also no"):
        peft.get_peft_model(model, config(layers_to_transform=7))
    assert unchanged(model, before)
    assert not isinstance(model.model.layers[0].mlp.experts, StructmatExperts)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"target_parameters": ["experts.gate_up"]}, StructmatError, "experts.gate_up_proj"),
        ({"target_parameters": ["q_proj.weight"]}, StructmatError, "list layers in target_modules"),
        ({"topology": "block_diagonal(block=16)"}, WidthError, "experts.down_proj has 24 inputs"),
    ],
)
def test_refused_targets_and_topologies_leave_the_model_unchanged(options, error, said):
    model = mixture("mixtral")
    before = state(model)
    with pytest.raises(error, match=said):
        peft.get_peft_model(model, config(**options))
    assert unchanged(model, before)
    assert not any(isinstance(m, StructmatExperts) for m in model.modules())


def test_target_parameters_as_a_string_and_mixed_batches_are_refused():
    with pytest.raises(StructmatError, match="it must be a list of names"):
        StructmatConfig(target_parameters="experts.down_proj")
    model = adapted("mixtral")
    with pytest.raises(StructmatError, match="see the tokens of all samples at once"):
        model(tokens(), adapter_names=["default", "__base__"])


def test_scaling_expert_adapters_and_loading_a_state_into_merged_experts():
    model = adapted("gpt_oss", side="both", scale=True)
    expected, held = logits(model), copy.deepcopy(model.state_dict())
    for layer in model.base_model.adapted().values():
        layer.set_scale("default", 0.0)
    torch.testing.assert_close(logits(model), logits(mixture("gpt_oss")), rtol=0, atol=1e-12)
    for layer in model.base_model.adapted().values():
        layer.unscale_layer()
    model.merge_adapter()
    model.load_state_dict(held)
    assert torch.equal(logits(model), expected)


def test_expert_biases_are_not_trained_or_refused(tmp_path):
    model = adapted("gpt_oss", bias="all")
    trained = {n for n, p in model.named_parameters() if p.requires_grad and "structmat" not in n}
    assert trained
    assert all(n.endswith(".bias") for n in trained)  # as PEFT names them; those of experts do not
    with torch.no_grad():
        for n, p in model.named_parameters():
            if n in trained:
                p.add_(0.3)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(mixture("gpt_oss"), tmp_path)
    torch.testing.assert_close(logits(again), logits(model))
    with pytest.raises(StructmatError, match="which PEFT would train but not save"):
        adapted("gpt_oss", bias="structmat_only")
    adapted("mixtral", bias="structmat_only")  # these experts have none
