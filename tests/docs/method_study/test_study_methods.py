"""The methods of the study: equal numbers of parameters, the same start, and paired batches."""

import copy
from functools import cache
from typing import NamedTuple

import pytest
import torch

pytest.importorskip("peft")

from docs.method_study import methods as m
from docs.method_study import tasks
from docs.method_study.single_run import Run, Stepper, merged, train
from structmat import choose

BOTH = [(name, method) for name in ("digits", "language") for method in m.of_task(name)]


@cache
def pretrained(name):
    return tasks.task(name, quick=True).model(0).eval()


class History(NamedTuple):
    """A model that was prepared and trained for three steps, with losses on another batch."""

    trained: int
    pretrained_loss: float
    first_loss: float
    last_loss: float
    merged_loss: float
    before: dict
    after: torch.nn.Module


@cache
def history(name, method):
    task = tasks.task(name, quick=True)
    [other] = task.batches(1, 1)

    def loss(model):
        with torch.no_grad():
            return float(task.loss(model.eval(), other))

    model = m.METHODS[method].prepare(copy.deepcopy(pretrained(name)), task)
    count, first = m.trained(model, task), loss(model)
    before = merged(m.METHODS[method], model).state_dict()
    if count or task.head:
        step = Stepper.of(task, model, 1e-2, 4)
        for batch in task.batches(0, 3):
            step(batch)
    plain = merged(m.METHODS[method], model)
    return History(count, loss(pretrained(name)), first, loss(model), loss(plain), before, plain)


@pytest.mark.parametrize(("name", "method"), BOTH)
def test_the_numbers_of_parameters_are_equal_up_to_five_percent(name, method):
    budget = tasks.task(name, quick=True).budget
    if m.METHODS[method].equal:
        assert history(name, method).trained == pytest.approx(budget, rel=0.05)
    else:
        assert history(name, method).trained < 0.95 * budget


@pytest.mark.parametrize(("name", "method"), BOTH)
def test_training_starts_from_the_pretrained_model(name, method):
    """HRA's reflections cancel in pairs; the others start with ΔW = 0."""
    found = history(name, method)
    assert found.first_loss == pytest.approx(found.pretrained_loss, rel=1e-4)


@pytest.mark.parametrize(("name", "method"), BOTH)
def test_merging_changes_the_loss_by_rounding_only(name, method):
    found = history(name, method)
    assert found.merged_loss == pytest.approx(found.last_loss, rel=1e-4)
    for group in tasks.task(name, quick=True).layers.values():
        assert {type(found.after.get_submodule(layer)) for layer in group} == {torch.nn.Linear}


@pytest.mark.parametrize(("name", "method"), BOTH)
def test_all_adapted_layers_and_the_head_are_trained_and_nothing_else(name, method):
    found, task = history(name, method), tasks.task(name, quick=True)
    after = found.after.state_dict()
    changed = {
        part for part in after if not torch.allclose(found.before[part], after[part], atol=1e-6)
    }
    head = {f"{module}.{part}" for module in task.head for part in ("weight", "bias")}
    layers = {layer for group in task.layers.values() for layer in group}
    if method == m.HEAD_ONLY:
        layers = set()
    expected = head | {f"{layer}.weight" for layer in layers}
    if method == "RoAd":  # RoAd rotates outputs, and therefore the bias
        expected |= {f"{layer}.bias" for layer in layers if f"{layer}.bias" in after}
    assert changed == expected


@pytest.mark.parametrize("name", ["digits", "language"])
def test_every_method_sees_the_same_batches_head_and_random_numbers(name, monkeypatch):
    seen = {}
    task = tasks.task(name, quick=True)
    loss = type(task).loss
    for method in (m.BASELINE, "OFT", "HRA", "mixing network"):
        rows = seen.setdefault(method, [])

        def watched(self, model, batch, rows=rows):
            head = [p.detach().clone() for n, p in model.named_parameters() if m.in_head(n, self)]
            rows.append((batch, head if not rows else [], torch.get_rng_state()))
            return loss(self, model, batch)

        monkeypatch.setattr(type(task), "loss", watched)
        model = m.METHODS[method].prepare(task.model(5), task)
        train(task, model, Run(name, method, "study", "parameters", 1e-3, 5, 3))
    base = seen.pop(m.BASELINE)
    assert len(base) == 3
    for rows in seen.values():
        for one, other in zip(base, rows, strict=True):
            for mine, theirs in zip(tensors(one), tensors(other), strict=True):
                assert torch.equal(mine, theirs)


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in value for tensor in tensors(part)]


@pytest.mark.parametrize("name", ["digits", "language"])
def test_batches_depend_on_the_seed_and_a_shorter_run_has_the_first_ones(name):
    task = tasks.task(name, quick=True)
    long, short, other = task.batches(0, 4), task.batches(0, 2), task.batches(1, 2)
    for one, two in zip(tensors(long[:2]), tensors(short), strict=True):
        assert torch.equal(one, two)
    assert not all(map(torch.equal, tensors(short), tensors(other)))


def test_training_and_evaluation_images_are_disjoint():
    task = tasks.task("digits", quick=True)
    test = {image.numpy().tobytes() for image in task._test[0]}
    for seed in range(3):
        start = task._start(seed)
        train_images, valid = (
            {image.numpy().tobytes() for image in part[0]} for part in (start.train, start.valid)
        )
        assert len(train_images) == len(valid) == 200
        assert not train_images & valid
        assert not (train_images | valid) & test


# One transformer block of each model, and its budget.
LAYERS = {"digits": ([64] * 5 + [128], 3232), "language": ([128] * 6 + [384], 8350)}


@pytest.mark.parametrize("name", LAYERS)
def test_choose_lists_the_mixing_network_first_and_includes_the_mixed_radix_network(name):
    widths, budget = LAYERS[name]
    layers = {f"layer {k}": width for k, width in enumerate(widths)}
    listed = [row.spec for row in choose(layers, budget=int(1.05 * budget)).rows]
    assert listed[0] == m.METHODS["mixing network"].values[name][0]
    assert m.METHODS["mixed radix"].values[name][0] in listed


@pytest.mark.slow
@pytest.mark.parametrize("method", m.of_task("errors"))
def test_the_numbers_of_parameters_are_equal_for_the_text_model(method):
    task = tasks.task("errors", quick=True)
    model = m.METHODS[method].prepare(task.model(0), task)
    count = m.trained(model, task)
    if m.METHODS[method].equal:
        assert count == pytest.approx(task.budget, rel=0.05)
    else:
        assert count < 0.95 * task.budget
