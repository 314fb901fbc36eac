"""Use with transformers, its Trainer and torch.compile."""

import copy
import pickle

import peft
import pytest
import torch
from torch import nn

from structmat.errors import FileError
from tests.peft.models import CASES, Case, inputs, transformers
from tests.peft.test_lifecycle import adapted, config, kinds_of, layers, near, same, tensors
from tests.random_modules import randomised

BERT = Case("bert", ["query", "dense"], "shuffle(block=8)")
GPT2 = Case("gpt2", ["c_attn", "c_fc"], "butterfly(block=4, depth=2)")
TRANSFORMERS = [c for c in CASES if c.name not in ("perceptron", "convolutions")]


# PEFT emits this warning whenever a second adapter is added to a model without a PeftModel.
@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
@pytest.mark.parametrize("case", TRANSFORMERS, ids=kinds_of)
def test_transformers_models_add_load_and_save_adapters_themselves(case, tmp_path):
    source = adapted(case, side="both", scale=True)
    source.save_pretrained(tmp_path / "peft")
    expected = case.call(source)
    model = case.model()
    plain = case.call(model)
    model.load_adapter(tmp_path / "peft", adapter_name="first")
    near(case, case.call(model), expected, ulps=20)
    model.add_adapter(config(case, topology="mixed_radix", init_weights=False), "second")
    assert model.active_adapters() == ["second"]
    assert not torch.allclose(case.call(model), expected)
    model.set_adapter("first")
    near(case, case.call(model), expected, ulps=20)
    model.disable_adapters()
    near(case, case.call(model), plain, ulps=20)
    model.enable_adapters()
    model.delete_adapter("second")
    model.save_pretrained(tmp_path / "transformers")
    again = peft.PeftModel.from_pretrained(case.model(), tmp_path / "transformers")
    near(case, case.call(again), expected, ulps=20)


def test_an_adapter_that_does_not_fit_is_refused():
    model = BERT.model()
    with pytest.raises(ValueError, match="has 32 inputs"):
        model.add_adapter(config(BERT, topology="shuffle(block=24)"))
    assert not layers(model)


def test_inject_adapter_selects_layers_by_the_tensors_of_a_state_dict(tmp_path):
    source = adapted(BERT)
    found = peft.get_peft_model_state_dict(source)
    found = {k.removeprefix("base_model.model."): v for k, v in found.items()}
    some = {k: v for k, v in found.items() if "layer.0." in k}
    model = BERT.model()
    with pytest.warns(RuntimeWarning, match="inconsistency was discovered"):
        peft.inject_adapter_in_model(config(BERT), model, state_dict=some)
    assert len(layers(model)) == 4
    peft.set_peft_model_state_dict(model, some)
    assert same(
        {k: v for k, v in peft.get_peft_model_state_dict(model).items() if "structmat" in k}, some
    )
    with pytest.raises(FileError, match="is not in the file"):
        peft.set_peft_model_state_dict(model, dict(list(some.items())[1:]))


# Training -------------------------------------------------------------------------------------


class Texts(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, k):
        ids = torch.arange(k, k + 6) % 50
        return {"input_ids": ids, "labels": torch.tensor(k % 3)}


def trainer(folder, *, case=BERT, **options):
    torch.manual_seed(0)
    model = peft.get_peft_model(
        case.model(), config(case, task_type="SEQ_CLS", modules_to_save=["classifier"])
    )
    settings = {
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "save_steps": 2,
        "eval_steps": 2,
        "eval_strategy": "steps",
        "learning_rate": 0.01,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
        "dataloader_pin_memory": False,
    } | options
    return transformers.Trainer(
        model,
        transformers.TrainingArguments(str(folder), **settings),
        train_dataset=Texts(),
        eval_dataset=Texts(),
    )


def learned(model):
    return {n: v for n, v in tensors(model).items() if "structmat" in n or "modules_to_save" in n}


def test_the_trainer_resumes_and_keeps_the_best_checkpoint(tmp_path):
    whole = trainer(tmp_path / "whole")
    whole.train()
    assert not same(learned(whole.model), learned(trainer(tmp_path / "new").model))
    assert (tmp_path / "whole/checkpoint-2/adapter_model.safetensors").is_file()
    again = trainer(tmp_path / "again")
    again.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-2"))
    for name, value in learned(whole.model).items():
        torch.testing.assert_close(learned(again.model)[name], value, rtol=0, atol=1e-6)
    best = trainer(
        tmp_path / "best",
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,  # so that the first checkpoint, with the largest loss, is the best
        learning_rate=0.05,
    )
    best.train()
    assert best.state.best_model_checkpoint.endswith("checkpoint-2")
    kept = peft.PeftModel.from_pretrained(BERT.model(), best.state.best_model_checkpoint)
    saved = {n: v for n, v in learned(kept).items() if "structmat" in n}
    assert same(saved, {n: v for n, v in learned(best.model).items() if "structmat" in n})


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_does_not_change_the_trained_parameters(tmp_path, reentrant):
    plain = trainer(tmp_path / "plain")
    plain.train()
    settings = {"activation_checkpointing_kwargs": {"use_reentrant": reentrant}}
    saving = trainer(tmp_path / "saving", activation_checkpointing=True, **settings)
    saving.train()
    assert not same(learned(saving.model), learned(trainer(tmp_path / "new").model))
    for name, value in learned(plain.model).items():
        torch.testing.assert_close(learned(saving.model)[name], value, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_torch_compile_changes_neither_the_trained_parameters_nor_the_saved_names(tmp_path):
    torch.compiler.reset()
    query = Case(
        "bert", ["query"], BERT.topology
    )  # few layers, since each takes a while to compile
    settings = {"torch_compile": True, "torch_compile_backend": "aot_eager"}
    models = [
        trainer(tmp_path / str(k), case=query, optim="sgd", **options)
        for k, options in enumerate([{}, settings])
    ]
    for each in models:
        for module in each.model.modules():  # compiled models draw other random numbers
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        each.train()
    assert not same(learned(models[0].model), learned(trainer(tmp_path / "new", case=query).model))
    for name, value in learned(models[0].model).items():
        torch.testing.assert_close(learned(models[1].model)[name], value, rtol=0, atol=1e-4)
    saved = peft.PeftModel.from_pretrained(BERT.model(), tmp_path / "1" / "checkpoint-4")
    for name, value in learned(models[1].model).items():
        torch.testing.assert_close(learned(saved)[name], value, rtol=0, atol=0, msg=name)
    torch.compiler.reset()


@pytest.mark.parametrize("case", [BERT, GPT2], ids=kinds_of)
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(case, reentrant):
    def gradients(*, checkpointed):
        base = case.model()
        if checkpointed:
            base.activation_checkpointing_enable({"use_reentrant": reentrant})
        model = peft.get_peft_model(base, config(case, side="both", scale=True))
        randomised(model, 0, 0.2)
        for module in model.modules():
            module.training = True
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.0
        case.call(model, use_cache=False).square().sum().backward()
        return {n: p.grad for n, p in model.named_parameters() if p.requires_grad}

    expected, found = (gradients(checkpointed=c) for c in (False, True))
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-4)


BOTH = {"side": "both", "scale": True}


@pytest.mark.slow
# These warnings come from torch's own compiler.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize(
    ("case", "options"),
    [
        (Case("perceptron", r"layers\.0|head", "mixed_radix"), {}),
        (Case("convolutions", ["first", "grouped"], "mixed_radix"), BOTH),
        (Case("gpt2", r".*\.0\.mlp\.c_fc", "butterfly(block=4, depth=2)"), BOTH),
    ],
    ids=["perceptron", "convolutions", "gpt2"],
)  # few layers, since each takes a second to compile
def test_compiled_models_have_the_same_values_and_gradients(case, options):
    torch.compiler.reset()
    model = adapted(case, **options)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    results = []
    for run in (model, compiled):
        results.append([])
        # Each new power causes a recompilation.
        for power in (1.0, 0.5)[: 2 if case.name == "perceptron" else 1]:
            for layer in layers(model).values():
                layer.set_scale("default", power)
            model.zero_grad()
            y = case.call(run)
            y.square().sum().backward()
            grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
            results[-1] += [y.detach(), *grads]
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)
    if case.name == "perceptron":
        other = "mixed_radix(largest=8)"
        model.add_adapter("other", config(case, topology=other, init_weights=False))
        model.set_adapter("other")
        near(case, case.call(compiled), case.call(model))
    torch.compiler.reset()


@pytest.mark.parametrize("case", [BERT, GPT2], ids=kinds_of)
def test_outputs_and_gradients_are_close_under_autocast(case):
    model = adapted(case, side="both", scale=True)
    expected = case.call(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = case.call(model)
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.1)
    found.float().square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_generators_of_bfloat16_models_are_float32():
    for low in (False, True):
        model = peft.get_peft_model(BERT.model().bfloat16(), config(BERT), low_cpu_mem_usage=low)
        assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
        assert {p.is_meta for p in model.parameters() if p.requires_grad} == {low}


def test_beam_search_works_with_an_adapter_for_each_sample():
    model = adapted(GPT2)
    model.add_adapter("other", config(GPT2, init_weights=False))
    model.eval()
    ids = inputs("gpt2", batch=2)["input_ids"]
    settings = {"max_new_tokens": 5, "do_sample": False, "num_beams": 2, "pad_token_id": 0}
    settings["attention_mask"] = torch.ones_like(ids)
    together = model.generate(input_ids=ids, adapter_names=["other", "default"], **settings)
    for k, name in enumerate(["other", "default"]):
        model.set_adapter(name)
        alone = model.generate(input_ids=ids, **settings)
        assert torch.equal(together[k], alone[k])


@pytest.mark.parametrize("case", [GPT2, Case("llama", "all-linear", "monarch")], ids=kinds_of)
def test_inputs_embeds_can_be_given_instead_of_tokens(case):
    model = adapted(case, side="both")
    ids = inputs(case.name)["input_ids"]
    embedded = model.get_input_embeddings()(ids)
    near(case, model(inputs_embeds=embedded)[0], case.call(model), ulps=20)


def test_copied_and_pickled_models_keep_their_merged_adapters():
    model = adapted(BERT, side="both")
    expected = BERT.call(model)
    model.merge_adapter()
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        again.unmerge_adapter()
        near(BERT, BERT.call(again), expected, ulps=20)
        assert again.base_model.model is not model.base_model.model


def test_a_merged_model_can_load_the_state_of_an_unmerged_one():
    model = adapted(BERT)
    state, expected = tensors(model), BERT.call(model)
    model.merge_adapter()
    model.load_state_dict(state)
    near(BERT, BERT.call(model), expected, ulps=20)


def test_model_status_lists_all_adapters():
    model = adapted(BERT, side="both", scale=True)
    model.add_adapter("other", config(BERT))
    status = model.get_model_status()
    assert status.peft_types == {"default": "STRUCTMAT", "other": "STRUCTMAT"}
    assert status.active_adapters == ["default"]
    assert status.requires_grad == {"default": True, "other": False}
    assert status.available_adapters == ["default", "other"]
    assert status.enabled
    assert status.devices == {"default": ["cpu"], "other": ["cpu"]}
