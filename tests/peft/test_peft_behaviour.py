"""PEFT behaviour that users rely on: saving, deleting, merging warnings and several adapters."""

import warnings

import peft
import pytest
import torch
from torch import nn

from structmat.adapters import adapt, merge, save_adapter, unmerge
from structmat.errors import FileError, StructmatError
from structmat.peft import StructmatConfig, rollback
from tests.peft.models import CASES, Case
from tests.peft.test_lifecycle import adapted, config, kinds_of, layers, near, same, tensors
from tests.random_modules import randomised

CASE = Case("perceptron", r"layers\.\d", "mixed_radix")
BERT = Case("bert", ["query", "dense"], "shuffle(block=8)")
cases = pytest.mark.parametrize("case", CASES, ids=kinds_of)


def test_saving_and_loading_a_configuration_round_trips(tmp_path):
    made = config(
        BERT,
        topology_pattern={"b.*": "monarch", "a": "butterfly(block=4)"},
        parametrization="exp",
        side="both",
        scale=True,
        bias="structmat_only",
        dropout=(0.1, 0.5),
        layers_to_transform=[0, 1],
        exclude_modules=["value"],
        modules_to_save=["classifier"],
    )
    made.save_pretrained(tmp_path)
    for loader in (StructmatConfig, peft.PeftConfig):
        again = loader.from_pretrained(tmp_path)
        assert type(again) is StructmatConfig
        assert again == made
        assert list(again.topology_pattern) == ["b.*", "a"]
    assert peft.get_peft_config(made.to_dict() | {"peft_type": "STRUCTMAT"}) == made


def test_a_trainable_adapter_stays_trainable_after_loading(tmp_path):
    model = adapted(CASE)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(CASE.model(), tmp_path, is_trainable=True)
    assert {n for n, p in again.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    model.load_adapter(tmp_path, "second", is_trainable=True)
    assert all(p.requires_grad for n, p in model.named_parameters() if ".second." in n)


def test_modules_may_have_the_names_of_adapter_parts(tmp_path):
    def make():
        torch.manual_seed(0)
        inner = torch.nn.ModuleDict({"lin0": torch.nn.Linear(5, 5), "other": torch.nn.Linear(5, 5)})
        return torch.nn.ModuleDict(
            {"structmat_inputs": inner, "structmat_x": torch.nn.Linear(5, 5)}
        )

    options = StructmatConfig(topology="gossip", target_modules=["lin0"], init_weights=False)
    model = peft.get_peft_model(make(), options)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all(".lin0.structmat_inputs.default.generators" in name for name in trained)
    saved = peft.get_peft_model_state_dict(model)
    assert len(saved) == len(trained)
    assert all(".lin0.structmat_inputs.generators" in name for name in saved)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(make(), tmp_path)
    assert same(dict(again.named_parameters()), dict(model.named_parameters()))
    del saved[next(iter(saved))]
    with pytest.raises(FileError, match="is not in the file"):
        peft.set_peft_model_state_dict(again, saved)


def test_each_adapter_is_saved_separately_and_in_either_format(tmp_path):
    model = adapted(CASE)
    model.add_adapter("other", config(CASE, topology="monarch", init_weights=False))
    model.save_pretrained(tmp_path / "both")
    assert (tmp_path / "both/other/adapter_model.safetensors").is_file()
    model.save_pretrained(tmp_path / "one", selected_adapters=["other"], safe_serialization=False)
    assert (tmp_path / "one/other/adapter_model.bin").is_file()
    assert not (tmp_path / "one/adapter_config.json").exists()
    model.set_adapter("other")
    for place in ("both", "one"):
        again = peft.PeftModel.from_pretrained(CASE.model(), tmp_path / place / "other")
        assert torch.equal(CASE.call(again), CASE.call(model))
    again.load_adapter(tmp_path / "both", "first")
    again.set_adapter("first")
    model.set_adapter("default")
    assert torch.equal(CASE.call(again), CASE.call(model))


def test_deleting_the_active_adapter_activates_another_with_a_warning():
    model = adapted(CASE)
    model.add_adapter("other", config(CASE, init_weights=False))
    with pytest.raises(ValueError, match="nobody does not exist"):
        model.delete_adapter("nobody")
    model.merge_adapter(["other"])
    with pytest.raises(ValueError, match="while they are merged"):
        model.delete_adapter("other")
    model.unmerge_adapter()
    with pytest.warns(UserWarning, match="Setting active adapter to other"):
        model.delete_adapter("default")
    assert model.active_adapters == ["other"]
    model.delete_adapter("other")
    near(CASE, CASE.call(model.base_model.model), CASE.call(CASE.model()), ulps=20)


def test_merging_twice_and_unmerging_twice_warn():
    model = adapted(CASE)
    model.add_adapter("other", config(CASE, init_weights=False))
    model.merge_adapter()
    with pytest.warns(UserWarning, match="already merged, nothing to do"):
        model.merge_adapter()
    with pytest.warns(UserWarning, match="You are now additionally merging other"):
        model.merge_adapter(["other"])
    model.unmerge_adapter()
    with pytest.warns(UserWarning, match="Already unmerged"):
        model.unmerge_adapter()
    model.merge_adapter()
    with pytest.warns(UserWarning, match="Unmerging the model first"):
        model.set_adapter("other")
    assert not any(layer.merged for layer in layers(model).values())


def test_disabling_with_trained_biases_warns():
    model = adapted(CASE, bias="all")
    with (
        pytest.warns(UserWarning, match="does not produce the same output"),
        model.disable_adapter(),
    ):
        pass
    with pytest.raises(ValueError, match="only 1 adapter with bias"):
        model.add_adapter("other", config(CASE, bias="all"))


@cases
def test_an_optimiser_step_changes_the_adapter_only(case):
    model = peft.get_peft_model(case.model(), config(case))
    before = tensors(model)
    optimiser = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.5)
    # From the identity, and a loss whose slope is not zero there.
    case.call(model).double().square().mean().backward()
    optimiser.step()
    changed = {n for n, v in tensors(model).items() if not torch.equal(v, before[n])}
    assert changed
    assert all(".structmat_inputs.default." in name for name in changed)


def test_gradients_flow_with_reentrant_activation_checkpointing():
    model = BERT.model()
    model.activation_checkpointing_enable({"use_reentrant": True})
    model = peft.get_peft_model(model, config(BERT, target_modules=["query"]))
    BERT.call(randomised(model, 0).train()).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_the_same_seed_gives_the_same_adapter():
    made = []
    for _ in range(2):
        torch.manual_seed(7)
        model = peft.get_peft_model(CASE.model(), config(CASE, init_weights=False))
        made.append(tensors(model))
    assert same(*made)


def test_targeted_module_names_are_those_of_the_adapted_layers():
    model = adapted(BERT)
    assert set(model.targeted_module_names) == {
        n.removeprefix("base_model.model.") for n in layers(model)
    }
    found = peft.tuners.tuners_utils.inspect_matched_modules(model.base_model)
    assert set(model.targeted_module_names) <= set(found["matched"])


def test_loading_leaves_no_pending_rollback(tmp_path):
    model = adapted(CASE)
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = peft.PeftModel.from_pretrained(CASE.model(), tmp_path)
    assert rollback._made.get() is None
    assert CASE.call(again).shape == CASE.call(model).shape


def test_several_loaded_adapters_are_independent(tmp_path):
    expected = {}
    for name, topology in (("one", "mixed_radix"), ("two", "block_diagonal(block=4)")):
        source = adapted(CASE, topology=topology)
        expected[name] = CASE.call(source)
        source.save_pretrained(tmp_path / name)
    model = peft.PeftModel.from_pretrained(CASE.model(), tmp_path / "one", "one")
    model.load_adapter(tmp_path / "two", "two", is_trainable=True)
    assert model.active_adapters == ["one"]
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n.split(".")[-3] for n in trained} == {"two"}  # as it was asked for
    for name in ("two", "one", "two"):
        model.set_adapter(name)
        assert torch.equal(CASE.call(model), expected[name])
    model.set_requires_grad("two", requires_grad=False)
    assert not any(p.requires_grad for p in model.parameters())


def test_merge_unmerge_and_save_adapter_refuse_peft_models(tmp_path):
    model = peft.get_peft_model(nn.Sequential(nn.Linear(16, 16)), StructmatConfig())
    for act in (merge, unmerge, lambda m: save_adapter(m, tmp_path)):
        with pytest.raises(StructmatError, match=r"model\.0 was adapted by PEFT: use PEFT's merge"):
            act(model)
    with pytest.raises(StructmatError, match="already has adapters"):
        adapt(model, "monarch")
