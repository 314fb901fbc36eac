"""From `get_peft_model` to `merge_and_unload`, for all models, dtypes and parametrizations."""

import copy
import json

import numpy as np
import peft
import pytest
import torch
from torch import nn

import structmat as sm
from structmat.errors import StructmatError
from structmat.linalg import factors as stagewise
from structmat.peft import StructmatConfig, StructmatLayer
from tests.peft.models import CASES, IDS, Case
from tests.random_modules import randomised

OPTIONS = [
    {},
    {"side": "outputs"},
    {"side": "both", "scale": True, "parametrization": "exp", "reduced": True},
]
cases = pytest.mark.parametrize("case", CASES, ids=IDS)
options = pytest.mark.parametrize("options", OPTIONS, ids=["inputs", "outputs", "both"])


def kinds_of(case):
    """Return the pytest id of a case."""
    return f"{case.name}-{str(case.dtype).removeprefix('torch.')}"


def config(case, **options):
    return StructmatConfig(**{"topology": case.topology, "target_modules": case.targets} | options)


def adapted(case, seed=0, **options):
    """Return a PEFT model with a random adapter, in evaluation mode."""
    return randomised(peft.get_peft_model(case.model(), config(case, **options)), seed, 0.2).eval()


def layers(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, StructmatLayer)}


def near(case, a, b, ulps=400):
    torch.testing.assert_close(
        a, b, rtol=0, atol=ulps * torch.finfo(case.dtype).eps * (1 + float(b.detach().abs().max()))
    )


def tensors(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("topology", ["mirror(mixed_radix) * 2", sm.parse("mixed_radix") * 2])
def test_a_composed_topology_is_saved_as_its_spec(topology, tmp_path):
    case = CASES[0]
    model = adapted(case, topology=topology)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["topology"] == str(topology)
    again = peft.PeftModel.from_pretrained(case.model(), tmp_path)
    assert same(tensors(model), tensors(again))
    for layer in layers(again).values():
        for made in layer.rotations("default"):
            assert made.network == sm.parse(str(topology))(made.network.width)


def test_an_adapter_with_the_former_default_topology_is_loaded(tmp_path):
    former = "deal(block=16)"
    case = next(case for case in CASES if case.name == "perceptron")
    model = adapted(case, topology=former, target_modules=["layers.1"])  # of 24 inputs
    model.save_pretrained(tmp_path)
    assert StructmatConfig().topology != former
    again = peft.PeftModel.from_pretrained(case.model(), tmp_path).eval()
    assert again.peft_config["default"].topology == former
    assert same(tensors(model), tensors(again))
    assert torch.equal(case.call(model), case.call(again))
    nets = {made.network for layer in layers(again).values() for made in layer.rotations("default")}
    assert nets == {sm.parse(former)(net.width) for net in nets}
    assert any(net != sm.parse(StructmatConfig().topology)(net.width) for net in nets)


@cases
@options
def test_a_new_adapter_changes_no_output(case, options):
    plain = case.model()
    model = peft.get_peft_model(case.model(), config(case, **options)).eval()
    assert layers(model)
    near(case, case.call(model), case.call(plain), ulps=50)


@cases
@options
def test_the_effective_weight_equals_the_dense_product(case, options):
    """s ⊙ P·W·Rᵀ, with R and P from structmat's numpy side."""
    model = adapted(case, **options)
    for layer in layers(model).values():
        base = layer.base_layer
        weight = layer.layout.neurons(base, base.weight).detach().double().numpy()
        groups = int(getattr(base, "groups", 1))
        expected = weight
        if "default" in layer.structmat_inputs:
            r = matrix(layer.structmat_inputs["default"])
            field = weight.shape[1]
            turned = [
                part @ r[k * field : (k + 1) * field, k * field : (k + 1) * field].T
                for k, part in enumerate(np.split(weight, groups))
            ]
            expected = np.concatenate(turned)
        if "default" in layer.structmat_outputs:
            expected = matrix(layer.structmat_outputs["default"]) @ expected
        if "default" in layer.structmat_scale:
            expected = (
                layer.structmat_scale["default"].detach().double().numpy()[:, None] * expected
            )
        found = layer.layout.neurons(base, layer.effective(["default"])).detach().double().numpy()
        size = 200 * torch.finfo(case.dtype).eps
        np.testing.assert_allclose(found, expected, rtol=0, atol=size * abs(expected).max())


def matrix(turn):
    blocks = [b.detach().numpy() for b in turn.blocks(torch.float64)]
    return stagewise.matrix_of(turn.network, blocks)


def test_block_diagonal_adapters_equal_pefts_oft():
    """OFT uses (I−Q)(I+Q)⁻¹, so its parameters are ours with the opposite sign."""
    case = Case("bert", ["query", "dense"], "block_diagonal(block=8)")
    theirs = peft.get_peft_model(
        case.model(),
        peft.OFTConfig(target_modules=case.targets, oft_block_size=8, use_cayley_neumann=False),
    )
    ours = peft.get_peft_model(case.model(), config(case))
    randomised(theirs, 0, 0.3).eval()
    found = layers(ours)
    with torch.no_grad():
        for name, module in theirs.named_modules():
            if name in found:
                rotation = found[name].structmat_inputs["default"]
                theirs_ = -module.oft_R["default"].weight
                rotation.generators[0].copy_(theirs_ / rotation.generator_scale)
    near(case, case.call(ours), case.call(theirs))
    near(case, case.call(ours.merge_and_unload()), case.call(theirs.merge_and_unload()))


@cases
@options
def test_merging_changes_no_output_and_unmerging_restores_exactly(case, options):
    model = adapted(case, **options)
    before, expected = tensors(model), case.call(model)
    model.merge_adapter()
    assert all(layer.merged for layer in layers(model).values())
    near(case, case.call(model), expected)
    model.unmerge_adapter()
    assert same(tensors(model), before)
    merged = model.merge_and_unload(safe_merge=True)
    assert type(merged) is type(case.model())
    assert tensors(merged).keys() == tensors(case.model()).keys()
    assert not hasattr(merged, "peft_config")
    near(case, case.call(merged), expected)


@cases
@options
def test_disabling_and_unloading_restore_the_plain_model(case, options):
    plain = case.model()
    model = adapted(case, **options)
    expected = case.call(model)
    with model.disable_adapter():
        near(case, case.call(model), case.call(plain), ulps=20)
    near(case, case.call(model), expected, ulps=20)
    model.merge_adapter()
    with model.disable_adapter():
        near(case, case.call(model), case.call(plain), ulps=20)
    model.merge_adapter()
    assert same(tensors(model.unload()), tensors(plain))


@cases
@options
@pytest.mark.parametrize("low", [False, True], ids=["loaded", "low_cpu_mem_usage"])
def test_saving_and_loading_round_trips(case, options, low, tmp_path):
    model = adapted(case, **options)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(
        case.model(), tmp_path, adapter_name="other", low_cpu_mem_usage=low
    )
    assert torch.equal(case.call(again), case.call(model))
    assert not any(p.requires_grad for p in again.parameters())
    first, second = (
        peft.get_peft_model_state_dict(m, adapter_name=name)
        for m, name in ((model, "default"), (again, "other"))
    )
    assert same(first, second)
    assert {v.dtype for v in first.values()} == {torch.promote_types(case.dtype, torch.float32)}
    assert not any("default" in key for key in first)


@cases
def test_only_the_adapter_is_trained_with_the_gradients_of_its_weight(case):
    model = adapted(case, side="both", scale=True)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".structmat_" in name for name in trained)
    case.call(model).double().square().sum().backward()
    with_weight = copy.deepcopy(model)
    for layer in layers(with_weight).values():
        layer.forward = through_the_weight(layer)
    with_weight.zero_grad()
    case.call(with_weight).double().square().sum().backward()
    other = dict(with_weight.named_parameters())
    for name, p in model.named_parameters():
        if not p.requires_grad:
            assert p.grad is None
            continue
        eps = max(torch.finfo(case.dtype).eps, 1e-12)  # Llama's norms are in single precision
        size = 3000 * eps * (1 + float(other[name].grad.abs().max()))
        torch.testing.assert_close(p.grad, other[name].grad, rtol=0, atol=size)


def through_the_weight(layer):
    """Return a reference forward: form the weight and call the base layer with it."""

    def forward(x):
        base = copy.copy(layer.base_layer)
        base._parameters = dict(base._parameters)
        del base._parameters["weight"]
        base.weight = layer.effective(["default"])
        return base(x)

    return forward


@cases
def test_adapters_with_different_topologies_are_independent(case):
    model = adapted(case)
    first = case.call(model)
    other = config(case, topology="mixed_radix", side="both", init_weights=False)
    model.add_adapter("other", other)
    assert torch.equal(case.call(model), first)
    model.set_adapter("other")
    second = case.call(model)
    assert not torch.allclose(first, second)
    assert {n.split(".")[-3] for n, p in model.named_parameters() if p.requires_grad} == {"other"}
    model.set_adapter("default")
    assert torch.equal(case.call(model), first)
    model.delete_adapter("other")
    assert torch.equal(case.call(model), first)
    assert list(model.peft_config) == ["default"]
    assert not any("other" in name for name in model.state_dict())


@cases
def test_active_adapters_are_applied_in_sequence(case):
    """Merging them in order gives the same outputs as running them together."""
    model = adapted(case, side="both", scale=True)
    model.add_adapter("other", config(case, topology="mixed_radix", init_weights=False))
    model.base_model.set_adapter(["default", "other"])
    together = case.call(model)
    merged = model.merge_and_unload(adapter_names=["default", "other"])
    near(case, case.call(merged), together)


@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[3]], ids=lambda c: c.name)
def test_adapter_names_selects_an_adapter_for_each_sample(case):
    model = adapted(case)
    model.add_adapter("other", config(case, topology="mixed_radix", init_weights=False))
    model.eval()
    alone = {}
    for name in ("default", "other"):
        model.set_adapter(name)
        alone[name] = case.call(model)
    with model.disable_adapter():
        alone["__base__"] = case.call(model)
    names = ["other", "__base__", "default", "other"]
    mixed = case.call(model, adapter_names=names)
    for k, name in enumerate(names):
        near(case, mixed[k], alone[name][k])
    with pytest.raises(StructmatError, match=r"non-existing adapter.*nobody"):
        case.call(model, adapter_names=["nobody"] * 4)
    with pytest.raises(StructmatError, match=r"non-existing adapter.*None.* are default"):
        case.call(model, adapter_names=["default", None, "other", "default"])
    with pytest.raises(StructmatError, match="but got 2 and 4: give one"):
        case.call(model, adapter_names=["default"] * 2)
    with pytest.raises(StructmatError, match="training mode"):
        case.call(model.train(), adapter_names=names)
    model.eval().merge_adapter()
    with pytest.raises(StructmatError, match="unmerge_adapter"):
        case.call(model, adapter_names=names)


@pytest.mark.parametrize("trained", ["none", "all", "structmat_only"])
def test_biases_are_trained_and_saved(trained, tmp_path):
    case = Case("perceptron", r"layers\.[01]", "mixed_radix")
    model = adapted(case, bias=trained)
    biases = {n for n, p in model.named_parameters() if p.requires_grad and n.endswith("bias")}
    assert len(biases) == {"none": 0, "all": 3, "structmat_only": 2}[trained]
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(case.model(), tmp_path)
    assert torch.equal(case.call(again), case.call(model))


def test_modules_to_save_are_trained_and_saved(tmp_path):
    case = Case("bert", ["query"], "shuffle(block=8)")
    model = adapted(case, modules_to_save=["classifier"])
    assert any("modules_to_save" in n for n, p in model.named_parameters() if p.requires_grad)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(case.model(), tmp_path)
    assert torch.equal(case.call(again), case.call(model))
    with model.disable_adapter():
        assert torch.equal(case.call(model), case.call(case.model()))
    assert torch.allclose(case.call(model.merge_and_unload()), case.call(again), atol=1e-5)


def test_task_type_trains_the_head_and_does_not_adapt_it():
    case = Case("bert", "all-linear", "shuffle(block=8)")
    model = peft.get_peft_model(case.model(), config(case, task_type="SEQ_CLS"))
    assert not any("classifier" in name for name in layers(model))
    assert any("classifier" in n for n, p in model.named_parameters() if p.requires_grad)


def test_a_shared_layer_is_adapted_under_every_name():
    shared = nn.Linear(8, 8)
    model = nn.Sequential(nn.ModuleDict({"a": shared}), nn.ModuleDict({"b": shared}))
    plain = copy.deepcopy(model)
    made = peft.get_peft_model(
        model, StructmatConfig(topology="butterfly", target_modules=["a", "b"])
    )
    assert model[0]["a"] is model[1]["b"]
    assert isinstance(model[0]["a"], StructmatLayer)
    back = made.unload()
    assert back[0]["a"] is back[1]["b"] is shared
    assert same(tensors(back), tensors(plain))


def test_merging_a_tied_head_leaves_the_embedding_unchanged():
    case = Case("gpt2", ["lm_head"], "mixed_radix")
    model = case.model()
    assert model.lm_head.weight is model.transformer.wte.weight
    before = model.transformer.wte.weight.detach().clone()
    with pytest.warns(UserWarning, match="tie_word_embeddings"):
        model = peft.get_peft_model(model, config(case))
    randomised(model, 0)
    expected = case.call(model)
    with pytest.warns(UserWarning, match="no longer tied|tie_word_embeddings"):
        merged = model.merge_and_unload()
    assert torch.equal(merged.transformer.wte.weight, before)
    near(case, case.call(merged), expected)


@pytest.mark.parametrize("training", [False, True])
def test_modules_that_read_a_weight_get_the_rotated_weight(training):
    """`nn.MultiheadAttention` never calls its out_proj, and encoder layers not even linear1."""
    torch.manual_seed(0)
    plain = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    model = peft.get_peft_model(
        nn.Sequential(copy.deepcopy(plain)),
        StructmatConfig(topology="butterfly", target_modules=["out_proj", "linear1", "linear2"]),
    )
    randomised(model, 0).train(training)
    x = torch.randn(2, 5, 16)
    with torch.set_grad_enabled(training):
        found = model(x)
    merged = model.merge_and_unload().train(training)
    torch.testing.assert_close(found, merged(x), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, plain.train(training)(x), atol=1e-3)


def test_dropout_acts_in_training_and_never_on_merged_weights():
    case = Case("perceptron", r"layers\.\d", "mixed_radix")
    model = adapted(case, dropout=(1.0, 1.0))
    expected = case.call(model)
    model.train()
    assert torch.allclose(case.call(model), case.call(case.model()), atol=1e-6)
    model.merge_adapter()
    assert torch.allclose(case.call(model), expected, atol=1e-5)


@pytest.mark.parametrize("trained", [False, True])
def test_merging_and_unmerging_keep_requires_grad(trained):
    case = Case("perceptron", r"layers\.\d", "mixed_radix")
    model = adapted(case)
    for layer in layers(model).values():
        layer.base_layer.weight.requires_grad_(trained)
    for change in (model.merge_adapter, model.unmerge_adapter):
        change()
        assert all(
            layer.base_layer.weight.requires_grad == trained for layer in layers(model).values()
        )
