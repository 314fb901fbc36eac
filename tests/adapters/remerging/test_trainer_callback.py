"""Training with transformers' Trainer, whose checkpoints contain the merged weights."""

import pytest
import torch

from structmat.adapters import Remerge, adapt, adapters, load_adapter, random_rounds
from structmat.adapters.remerging.remerge_files import STATE
from structmat.errors import StructmatError
from tests.adapters.tied_models import llama

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

ROWS = torch.randint(0, 40, (24, 6), generator=torch.Generator().manual_seed(0))
DATA = [{"input_ids": row, "labels": row} for row in ROWS]


def new(schedule, every=3, **options):
    """Return an adapted model, its Remerge, and a Trainer's keyword arguments."""
    torch.manual_seed(0)
    model = adapt(llama(), schedule(0), side="both", dropout=(0.5, 0.5), trainable=["norm"])
    return model, Remerge(model, schedule, every=every, **options)


def trainer(model, remerge, folder, **options):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        per_device_train_batch_size=2,
        learning_rate=0.05,
        max_grad_norm=1.0,
        lr_scheduler_type="linear",
        report_to=[],
        disable_tqdm=True,
        logging_steps=1,
        seed=1,
        **{"max_steps": 8, "save_steps": 4, "gradient_accumulation_steps": 2} | options,
    )
    return transformers.Trainer(
        model, arguments, train_dataset=DATA, eval_dataset=DATA[:4], callbacks=[remerge.callback()]
    )


def shaped(number):
    """Return the topology of a round; generators of successive rounds differ in shape."""
    return ["block_diagonal(block=4)", "butterfly(block=2, depth=2)", "monarch"][number % 3]


@pytest.mark.parametrize("schedule", [random_rounds(4, seed=2), shaped])
@pytest.mark.parametrize("moments", ["reset", "keep"])
def test_resumed_training_equals_uninterrupted_training(tmp_path, schedule, moments):
    model, remerge = new(schedule, moments=moments)
    whole = trainer(model, remerge, tmp_path / "whole")
    whole.train()
    assert (remerge.round, remerge.steps) == (2, 8)
    start = new(schedule)[0].state_dict()
    name = next(n for n in start if n.endswith("q_proj.base_layer.weight"))
    assert not torch.equal(start[name], model.state_dict()[name])

    checkpoint = tmp_path / "whole" / "checkpoint-4"
    again, resumed = new(schedule, moments=moments)
    rest = trainer(again, resumed, tmp_path / "whole")
    if schedule is shaped:  # the Trainer's own loading needs generators of the right shapes
        resumed.load(checkpoint)
    rest.train(resume_from_checkpoint=str(checkpoint))
    assert (resumed.round, resumed.steps) == (2, 8)
    for one, other in zip(adapters(model).values(), adapters(again).values(), strict=True):
        for mine, theirs in zip(one.rotations(), other.rotations(), strict=True):
            assert mine.network == theirs.network
    expected, found = model.state_dict(), again.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    losses = [[row["loss"] for row in t.state.log_history if "loss" in row] for t in (whole, rest)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 8


@pytest.mark.parametrize("best", [False, True])
def test_training_resumes_a_second_time_in_the_same_process(tmp_path, best):
    schedule = random_rounds(4, seed=2)
    options = {"save_steps": 2, "load_best_model_at_end": best}
    if best:  # the best checkpoint, loaded at the end, is not the one from which training resumes
        options |= {"eval_strategy": "steps", "eval_steps": 2, "greater_is_better": True}
    model, remerge = new(schedule)
    whole = trainer(model, remerge, tmp_path, metric_for_best_model="eval_loss", **options)
    whole.train()
    expected = {key: value.clone() for key, value in model.state_dict().items()}
    state = remerge.round, remerge.steps
    for number in (4, 6):
        whole.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{number}"))
        assert (remerge.round, remerge.steps) == state
        assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_checkpoints_load_as_adapters(tmp_path):
    model, remerge = new(random_rounds(4))
    trainer(model, remerge, tmp_path, max_steps=4).train()
    torch.manual_seed(0)
    loaded = load_adapter(llama(), tmp_path / "checkpoint-4").eval()
    assert torch.equal(loaded(ROWS).logits, model.eval()(ROWS).logits)


def test_the_best_checkpoint_is_loaded_with_its_networks(tmp_path):
    model, remerge = new(random_rounds(4), every=2)
    options = {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "max_steps": 6}
    best = trainer(
        model,
        remerge,
        tmp_path,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,  # the first checkpoint is the best one
        **options,
    )
    best.train()
    assert best.state.best_global_step < 6
    assert remerge.steps == best.state.best_global_step
    torch.manual_seed(0)
    loaded = load_adapter(llama(), best.state.best_model_checkpoint).eval()
    assert torch.equal(loaded(ROWS).logits, model.eval()(ROWS).logits)


def test_a_checkpoint_without_the_state_is_refused(tmp_path):
    model, remerge = new(random_rounds(4))
    trainer(model, remerge, tmp_path, max_steps=4).train()
    (tmp_path / "checkpoint-4" / STATE).unlink()
    model, remerge = new(random_rounds(4))
    with pytest.raises(StructmatError, match=rf"has no {STATE}: call remerge\.load"):
        trainer(model, remerge, tmp_path).train(resume_from_checkpoint=True)
