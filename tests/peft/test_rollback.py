"""Failed injections are rolled back, even if PEFT fails afterwards; heads are not adapted."""

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from structmat.adapters import adapt, adapters
from structmat.errors import FileError, StructmatError
from structmat.peft import StructmatConfig
from tests.peft.models import Case, transformers
from tests.peft.test_lifecycle import adapted, config, layers
from tests.peft.test_refusals import kinds
from tests.random_modules import state, unchanged

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
BERT = Case("bert", ["query", "value"], "mixed_radix")
WEIGHTS = "adapter_model.safetensors"


def model_for(task):
    made = {
        "SEQ_CLS": transformers.BertForSequenceClassification,
        "TOKEN_CLS": transformers.BertForTokenClassification,
        "QUESTION_ANS": transformers.BertForQuestionAnswering,
        "CAUSAL_LM": transformers.BertLMHeadModel,
        "FEATURE_EXTRACTION": transformers.BertModel,
    }[task]
    torch.manual_seed(0)
    options = {"is_decoder": True} if task == "CAUSAL_LM" else {}
    return made(transformers.BertConfig(**SIZES, **options)).eval()


HEADS = {
    "SEQ_CLS": {"classifier"},
    "TOKEN_CLS": {"classifier"},
    "QUESTION_ANS": {"qa_outputs"},
    "CAUSAL_LM": set(),
    "FEATURE_EXTRACTION": set(),
}


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("targets", [None, "all-linear", "ALL-LINEAR"])
def test_the_head_of_every_task_is_trained_and_not_adapted(task, targets, tmp_path):
    options = {"topology": "mixed_radix", "task_type": task, "target_modules": targets}
    model = peft.get_peft_model(model_for(task), StructmatConfig(**options, init_weights=False))
    found = set(layers(model.base_model.model))
    plain = dict(model_for(task).named_modules())
    linear = {n for n, m in plain.items() if isinstance(m, nn.Linear)}
    left = {"classifier", "qa_outputs", "cls.predictions.decoder"}
    assert found == linear - left
    trained = {
        name
        for name, module in model.base_model.model.named_modules()
        if isinstance(module, peft.utils.ModulesToSaveWrapper)
    }
    assert trained == HEADS[task]
    ids = torch.arange(6)[None]
    expected = model.eval()(input_ids=ids)[0]
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(model_for(task), tmp_path)
    torch.testing.assert_close(again(input_ids=ids)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("task", ["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"])
def test_targets_that_match_the_head_do_not_adapt_it(task):
    """PEFT trains the head as one of modules_to_save even if the targets match it."""
    made = StructmatConfig(
        topology="mixed_radix", task_type=task, target_modules=r".*(query|outputs|classifier)"
    )
    model = peft.get_peft_model(model_for(task), made)
    assert {name.rpartition(".")[2] for name in layers(model)} == {"query"}


def test_modules_whose_name_ends_with_the_head_are_not_adapted():
    """PEFT trains every module whose name ends with classifier, such as pre_classifier."""
    sizes = {"vocab_size": 50, "dim": 32, "hidden_dim": 64, "n_layers": 1, "n_heads": 2}
    model = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**sizes))
    made = StructmatConfig(topology="mixed_radix", task_type="SEQ_CLS")
    found = layers(peft.get_peft_model(model, made))
    assert len(found) == 6
    assert not any("classifier" in name for name in found)


def test_adapt_leaves_the_question_answering_head_out():
    assert "qa_outputs" not in adapters(adapt(model_for("QUESTION_ANS"), "mixed_radix"))


# Late failures --------------------------------------------------------------------------------


class Perceptron(nn.Module):
    """A model that cannot generate, which PEFT checks only after the injection."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(12, 12)])


LATE = {
    "a model that does not generate": (Perceptron, {"task_type": "CAUSAL_LM"}, AttributeError),
    "nor from text": (Perceptron, {"task_type": "SEQ_2_SEQ_LM"}, AttributeError),
    "a list that is to be trained in full": (
        Perceptron,
        {"modules_to_save": ["layers"], "target_modules": r"layers\.0"},
        ValueError,
    ),
}


@pytest.mark.parametrize("what", LATE)
def test_a_failure_of_peft_after_injection_leaves_the_model_unchanged(what):
    make, options, error = LATE[what]
    model = make()
    before, modules = state(model), kinds(model)
    made = StructmatConfig(topology="mixed_radix", **options)
    kept = made.target_modules
    with pytest.raises(error):
        peft.get_peft_model(model, made)
    assert unchanged(model, before)
    assert kinds(model) == modules
    assert not hasattr(model, "peft_config")
    assert made.target_modules == kept
    assert made.networks == {}
    plain = StructmatConfig(topology="mixed_radix", target_modules="all-linear")
    assert layers(peft.get_peft_model(model, plain))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("second", [False, True])
def test_an_interrupted_peft_call_removes_the_new_adapter(error, second, monkeypatch, tmp_path):
    adapted(BERT).save_pretrained(tmp_path)
    model = adapted(BERT, modules_to_save=["classifier"]) if second else BERT.model()
    before, modules = state(model), kinds(model)

    def breaking(*_, **__):
        raise error("late")

    entries = {
        False: (
            lambda: peft.get_peft_model(model, config(BERT, modules_to_save=["classifier"])),
            lambda: peft.PeftModel.from_pretrained(model, tmp_path),
        ),
        True: (
            lambda: model.add_adapter("other", config(BERT, modules_to_save=["classifier"])),
            lambda: model.load_adapter(tmp_path, "other"),
        ),
    }
    for entry in entries[second]:
        with monkeypatch.context() as patch:
            patch.setattr(peft.tuners.tuners_utils.BaseTuner, "_cast_adapter_dtype", breaking)
            with pytest.raises(error, match="late"):
                entry()
        assert unchanged(model, before)
        assert kinds(model) == modules
        assert list(getattr(model, "peft_config", {})) == (["default"] if second else [])
    for entry in entries[second]:
        if second:
            entry()
            model.delete_adapter("other")
    if second:
        assert model.active_adapters == ["default"]


def spoilt(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


# PEFT's, whenever a second adapter comes to a model without a PeftModel around it.
@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
def test_a_refused_adapter_leaves_a_transformers_model_unchanged(tmp_path):
    adapted(BERT).save_pretrained(tmp_path / "good")
    adapted(BERT).save_pretrained(tmp_path / "bad")
    spoilt(tmp_path / "bad")
    model = BERT.model()
    before, modules = state(model), kinds(model)
    wrong = config(BERT, topology="shuffle(block=24)")
    for entry, said in (
        (lambda: model.add_adapter(wrong), "has 32 inputs"),
        (
            lambda: model.load_adapter(tmp_path / "bad"),
            "does not fit this model: .* is not in the file",
        ),
    ):
        with pytest.raises((StructmatError, FileError), match=said):
            entry()
        assert unchanged(model, before)
        assert kinds(model) == modules
        assert not hasattr(model, "peft_config")
        assert not model._hf_peft_config_loaded
    model.load_adapter(tmp_path / "good", adapter_name="first")
    expected = BERT.call(model)
    for entry in (
        lambda: model.add_adapter(wrong, "second"),
        lambda: model.load_adapter(tmp_path / "bad", adapter_name="second"),
    ):
        with pytest.raises((StructmatError, FileError)):
            entry()
        assert list(model.peft_config) == ["first"]
        assert torch.equal(BERT.call(model), expected)
    model.load_adapter(tmp_path / "good", adapter_name="second")
    assert list(model.peft_config) == ["first", "second"]


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
def test_a_refused_adapter_leaves_a_diffusers_model_unchanged():
    from tests.peft.test_with_diffusers import config as settings
    from tests.peft.test_with_diffusers import unet

    model = unet()
    before, modules = state(model), kinds(model)
    with pytest.raises(StructmatError, match=r"proj_in has 16 inputs"):
        model.add_adapter(settings(topology="shuffle(block=24)"), "one")
    assert unchanged(model, before)
    assert kinds(model) == modules
    assert not model._hf_peft_config_loaded
    model.add_adapter(settings(), "one")
    with pytest.raises(StructmatError, match=r"proj_in has 16 inputs"):
        model.add_adapter(settings(topology="shuffle(block=24)"), "two")
    assert model.active_adapters() == ["one"]
