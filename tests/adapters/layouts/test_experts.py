"""Mixture-of-experts layers: each expert weight is rotated, with every experts implementation."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structmat.adapters import adapt, adapters, load_adapter, merge, save_adapter, unmerge
from structmat.adapters.adapted_experts import AdaptedExperts
from structmat.adapters.layouts import Stack, layout_for
from structmat.adapters.selection import select
from structmat.errors import FileError, StructmatError
from structmat.testing import seeds
from tests.random_modules import randomised, state, unchanged

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "num_local_experts": 3,
    "num_experts_per_tok": 2,
}
MODELS = {
    "mixtral": (transformers.MixtralConfig, transformers.MixtralForCausalLM),
    "gpt_oss": (transformers.GptOssConfig, transformers.GptOssForCausalLM),  # (experts, in, out)
}
STACKS = ["model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.down_proj"]
NAMES = ["gate_up_proj", "down_proj"]
names = st.sampled_from(sorted(MODELS))
flags = st.booleans()


def mixture(name, way="eager", dtype=torch.float64):
    config, model = MODELS[name]
    torch.manual_seed(0)
    made = model(config(**SIZES, experts_implementation=way)).to(dtype).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def tokens():
    return torch.randint(0, 50, (2, 7), generator=torch.Generator().manual_seed(0))


def adapted(name, seed=0, **options):
    model = adapt(mixture(name), "mixed_radix", target_modules=NAMES, **options)
    return randomised(model, seed)


def logits(model):
    return model(tokens()).logits


@pytest.mark.parametrize("name", MODELS)
def test_experts_are_selected_by_parameter_name(name):
    model = mixture(name)
    assert list(select(model, NAMES)) == STACKS
    assert list(select(model, r".*\.experts\..*")) == STACKS
    assert not set(STACKS) & set(select(model))  # "all-linear": layers of their own only
    chosen = adapt(model, "mixed_radix", target_modules=["down_proj"])
    assert list(adapters(chosen)) == STACKS[1:]
    assert isinstance(model.model.layers[0].mlp.experts, AdaptedExperts)
    assert model.model.layers[0].mlp.experts.num_experts == 3


@pytest.mark.parametrize("way", ["eager", "batched_mm", "grouped_mm"])
@pytest.mark.parametrize("name", MODELS)
def test_neither_adapting_nor_merging_changes_the_outputs(name, way):
    model = mixture(name, way, torch.float32)
    before = logits(model)
    plain = {key: value.clone() for key, value in model.state_dict().items()}
    adapt(model, "mixed_radix", target_modules=NAMES)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-6)
    unmerged = logits(randomised(model, 1))
    assert not torch.allclose(unmerged, before, atol=1e-2)
    merge(model)
    torch.testing.assert_close(logits(model), unmerged, rtol=0, atol=1e-5)
    unmerge(model)
    assert torch.equal(logits(model), unmerged)
    merge(model, unload=True)
    torch.testing.assert_close(logits(model), unmerged, rtol=0, atol=1e-5)
    assert list(model.state_dict()) == list(plain)
    assert not isinstance(model.model.layers[0].mlp.experts, AdaptedExperts)


@given(names, flags, seeds())
def test_each_expert_has_its_own_rotation_and_gradients(name, scale, seed):
    """Compare with the formula for each expert, and with a plain model of the resulting weights."""
    model = adapted(name, seed, scale=scale, bias=True)
    experts = model.model.layers[0].mlp.experts
    values = {}
    for part in NAMES:
        adapter = getattr(experts, part)
        weight, across = adapter.base_layer.weight, name == "gpt_oss"
        size = adapter.rotation.width // 3
        r = adapter.rotation.matrix().unflatten(0, (3, size))
        every = []
        for e in range(3):
            own = r[e][:, e * size : (e + 1) * size]
            rest = r[e].clone()
            rest[:, e * size : (e + 1) * size] = 0
            assert not rest.any()  # experts are not mixed
            w = (weight[e].mT if across else weight[e]) @ own.mT
            if scale:
                w = adapter.scale.reshape(3, -1)[e][:, None] * w
            every.append(w.mT if across else w)
        values[part] = torch.stack(every)
        torch.testing.assert_close(adapter.weight, values[part], rtol=1e-9, atol=1e-9)
    wanted = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(logits(model).square().sum(), wanted)
    biases = {
        part: b for part, b in experts.base_layer.named_parameters() if part.endswith("_bias")
    }
    assert all(any(b is p for p in wanted) for b in biases.values())
    assert len(biases) == (2 if name == "gpt_oss" else 0)
    values = {f"model.layers.0.mlp.experts.{k}": v for k, v in (values | biases).items()}
    plain = mixture(name)
    expected = torch.func.functional_call(plain, values, (tokens(),)).logits
    theirs = torch.autograd.grad(expected.square().sum(), wanted)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7)


@given(names, seeds())
def test_norms_and_angles_of_each_experts_neurons_are_preserved(name, seed):
    model = adapted(name, seed)
    for adapter in adapters(model).values():
        before, after = (
            w.mT if adapter.base_layer.transposed else w
            for w in (adapter.base_layer.weight, adapter.weight)
        )
        torch.testing.assert_close(after @ after.mT, before @ before.mT, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_saving_and_loading_experts_round_trips(name, tmp_path):
    model = adapted(name, scale=True, bias=True)
    save_adapter(model, tmp_path)
    again = load_adapter(mixture(name), tmp_path)
    assert list(adapters(again)) == STACKS
    assert torch.equal(logits(again), logits(model))
    other = mixture("gpt_oss" if name == "mixtral" else "mixtral")
    before = state(other)
    with pytest.raises(FileError, match="weight of shape"):
        load_adapter(other, tmp_path)
    assert unchanged(other, before)


def test_state_dict_of_merged_experts_has_the_unmerged_weights():
    model = adapted("mixtral")
    expected = logits(model)
    plain = {key: value.clone() for key, value in model.state_dict().items()}
    merged = merge(model).state_dict()
    assert list(merged) == list(plain)
    assert all(torch.equal(merged[key], plain[key]) for key in plain)
    moved = copy.deepcopy(model)  # merged, of experts of its own
    moved.load_state_dict(plain)
    assert not any(a.merged for a in adapters(moved).values())
    assert torch.equal(logits(moved), expected)
    assert all(a.merged for a in adapters(model).values())


def test_adapting_fully_trained_experts_is_refused():
    model = mixture("mixtral")
    with pytest.raises(StructmatError, match="either adapted or trained in full"):
        adapt(model, "mixed_radix", target_modules=NAMES, trainable=["experts"])


def test_only_three_dimensional_weights_of_declared_layout_are_experts():
    module = nn.Module()
    module.gate_up_proj = nn.Parameter(torch.zeros(2, 3, 4))
    with pytest.raises(StructmatError, match="no layer that can be adapted"):
        select(module, ".*")  # it does not say its layout
    module.is_transposed = True
    stack = select(module, ".*")["gate_up_proj"]
    assert isinstance(stack, Stack)
    assert stack.sizes == (2, 4, 3)
    assert layout_for(stack).__name__ == "StackLayout"
    module.gate_up_proj = nn.Parameter(torch.zeros(2, 3))
    with pytest.raises(StructmatError, match="no layer that can be adapted"):
        select(module, ".*")


class Twice(nn.Module):
    """Experts whose two stacked weights are one parameter."""

    is_transposed = False

    def __init__(self):
        super().__init__()
        self.is_transposed = False
        self.gate_proj = nn.Parameter(torch.randn(2, 8, 8))
        self.up_proj = self.gate_proj

    def forward(self, x):
        return torch.einsum("eoi,bi->beo", self.gate_proj, x), x @ self.up_proj[0].T


@pytest.mark.parametrize("targets", [["gate_proj"], ["up_proj"], ["gate_proj", "up_proj"]])
def test_stacked_weights_that_share_a_parameter_have_separate_rotations(targets):
    torch.manual_seed(0)
    model, x = nn.ModuleDict({"experts": Twice()}), torch.randn(3, 8)
    plain = model["experts"](x)
    randomised(adapt(model, "butterfly", target_modules=targets), 0)
    found = [y.detach() for y in model["experts"](x)]
    changed = [not torch.allclose(one, other) for one, other in zip(found, plain, strict=True)]
    assert changed == ["gate_proj" in targets, "up_proj" in targets]
    for one, other in zip(merge(model, unload=True)["experts"](x), found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
