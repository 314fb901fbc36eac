"""The methods of the study: equal numbers of parameters, the same start, and paired batches."""

import copy

import pytest
import torch

pytest.importorskip("peft")

from docs.method_study import methods as m
from docs.method_study import tasks
from docs.method_study.single_run import Run, Stepper, merged, train
from structmat.adapters import adapters
from structmat.search import choose

BOTH = [(name, method) for name in ("digits", "language") for method in m.of_task(name)]


@pytest.fixture(scope="module")
def made():
    """The task, and a model prepared by a method, from a copy of one pretrained model."""
    pretrained = {name: tasks.task(name, quick=True).model(0) for name in ("digits", "language")}

    def prepare(name, method):
        task = tasks.task(name, quick=True)
        return task, m.METHODS[method].prepare(copy.deepcopy(pretrained[name]), task)

    return prepare


@pytest.mark.parametrize(("name", "method"), BOTH)
def test_the_numbers_of_parameters_are_equal_up_to_five_percent(made, name, method):
    task, model = made(name, method)
    count = m.trained(model, task)
    if m.METHODS[method].equal:
        assert count == pytest.approx(task.budget, rel=0.05)
    else:
        assert count < 0.95 * task.budget


@pytest.mark.parametrize(("name", "method"), BOTH)
def test_training_starts_from_the_pretrained_model(made, name, method):
    """HRA's reflections cancel in pairs; the others start with ΔW = 0."""
    task, model = made(name, method)
    plain = task.model(0).eval()
    batch = task.batches(0, 1)[0]
    with torch.no_grad():
        expected = task.loss(plain, batch)
        assert task.loss(model.eval(), batch) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(("name", "method"), BOTH)
def test_merging_changes_the_loss_by_rounding_only(made, name, method):
    task, model = made(name, method)
    step = Stepper.of(task, model, 1e-2, 4)
    for batch in task.batches(0, 2):
        step(batch)
    batch = task.batches(1, 1)[0]
    with torch.no_grad():
        expected = float(task.loss(model.eval(), batch))
        plain = merged(m.METHODS[method], model)
        assert float(task.loss(plain, batch)) == pytest.approx(expected, rel=1e-4)
    names = [name for group in task.layers.values() for name in group]
    assert all(type(plain.get_submodule(name)) is torch.nn.Linear for name in names)


@pytest.mark.parametrize(("name", "method"), BOTH)
def test_all_adapted_layers_and_the_head_are_trained_and_nothing_else(made, name, method):
    task, model = made(name, method)
    before = merged(m.METHODS[method], model).state_dict()
    step = Stepper.of(task, model, 1e-2, 4)
    for batch in task.batches(0, 3):
        step(batch)
    after = merged(m.METHODS[method], model).state_dict()
    changed = {name for name in before if not torch.allclose(before[name], after[name], atol=1e-6)}
    expected = {f"{module}.{part}" for module in task.head for part in ("weight", "bias")}
    if method != m.HEAD_ONLY:
        expected |= {f"{name}.weight" for group in task.layers.values() for name in group}
    assert changed == expected


@pytest.mark.parametrize("name", ["digits", "language"])
def test_every_method_sees_the_same_batches_head_and_random_numbers(made, name, monkeypatch):
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
def test_other_seeds_have_other_batches_and_fewer_steps_the_first_ones(name):
    task = tasks.task(name, quick=True)
    long, short, other = task.batches(0, 4), task.batches(0, 2), task.batches(1, 2)
    for one, two in zip(tensors(long[:2]), tensors(short), strict=True):
        assert torch.equal(one, two)
    assert not all(map(torch.equal, tensors(short), tensors(other)))


WIDTHS = {
    "digits": [64] * 5 + [128],
    "language": [128] * 6 + [384],
    "docstrings": [384] * 5 + [1536],
}


@pytest.mark.parametrize("name", WIDTHS)
def test_choose_lists_the_mixing_network_and_the_mixed_radix_network(name):
    """MiniLM's widths are served by smaller switches, within the budget and its tolerance."""
    blocks = {"digits": 2, "language": 4, "docstrings": 6}  # transformer blocks
    budget = {"digits": 2 * 3232, "language": 4 * 8350, "docstrings": 6 * 25_300}[name]
    layers = {f"layer {k}": width for k, width in enumerate(WIDTHS[name])}
    listed = [row.spec for row in choose(layers, budget=int(1.05 * budget / blocks[name])).rows]
    radix = m.METHODS["mixed radix"].values[name][0]
    assert radix in listed
    if name != "docstrings":
        assert listed[0] == m.METHODS["mixing network"].values[name][0]


def test_rotations_are_orthogonal_after_training(made):
    task, model = made("digits", "mixing network")
    step = Stepper.of(task, model, 1e-2, 4)
    for batch in task.batches(0, 3):
        step(batch)
    layers = adapters(model).values()
    assert len(layers) == 12
    assert max(float(layer.rotation.orthogonality_error()) for layer in layers) < 1e-5
