"""Loss, accuracy, calibration, and the change of weights, against other formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group
from torch.nn import functional

from docs.method_study import judging as j

seeds = st.integers(0, 10_000)


def predictions(seed, *shape, classes=4):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(*shape, classes, generator=generator)
    return logits, torch.randint(classes, shape, generator=generator)


@given(seed=seeds)
def test_summaries_agree_with_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = predictions(seed, 30)
    found = j.judged(logits, labels).summary()
    probabilities = logits.double().softmax(-1).numpy()
    known = {"labels": range(4)}
    assert found["loss"] == pytest.approx(metrics.log_loss(labels, probabilities, **known))
    assert found["accuracy"] == metrics.accuracy_score(labels, probabilities.argmax(-1))
    squares = np.square(probabilities - np.eye(4)[labels]).sum(-1).mean()
    assert found["brier"] == pytest.approx(squares)


@given(seed=seeds)
def test_an_item_of_several_predictions_has_their_mean_loss(seed):
    logits, labels = predictions(seed, 5, 7)
    found = j.judged(logits, labels)
    each = functional.cross_entropy(
        logits.double().flatten(0, 1), labels.flatten(), reduction="none"
    )
    assert torch.allclose(found.loss, each.reshape(5, 7).mean(1))
    assert len(found.confidence) == len(found.correct) == len(found.brier) == 35


@given(seed=seeds, size=st.integers(1, 60))
def test_calibration_agrees_with_its_definition_bin_by_bin(seed, size):
    rng = np.random.default_rng(seed)
    confidence, correct = rng.random(size), rng.random(size) < 0.5
    found = j.calibration_error(torch.tensor(confidence), torch.tensor(correct), bins=7)
    order = np.argsort(confidence)
    expected = 0.0
    for part in np.array_split(order, min(7, size)):
        expected += len(part) / size * abs(correct[part].mean() - confidence[part].mean())
    assert found == pytest.approx(expected)


def test_certain_and_correct_predictions_are_calibrated():
    assert j.calibration_error(torch.ones(40), torch.ones(40, dtype=torch.bool)) == 0
    assert j.calibration_error(torch.ones(40), torch.zeros(40, dtype=torch.bool)) == 1


def weight(seed, rows=12, columns=8):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, columns)))


@given(seed=seeds)
def test_rotated_inputs_preserve_singular_values_and_energy(seed):
    w = weight(seed)
    rotation = torch.from_numpy(ortho_group.rvs(8, random_state=seed))
    found = j.changed(j.decomposed(w), w @ rotation.T)
    assert found["singular_values"] < 1e-12
    assert found["energy"] == pytest.approx(found["energy_before"], rel=1e-12)
    assert found["relative"] > 0


@given(seed=seeds, rank=st.integers(1, 8))
def test_the_effective_rank_is_the_number_of_equal_singular_values(seed, rank):
    w = weight(seed)
    u = ortho_group.rvs(12, random_state=seed)[:, :rank]
    v = ortho_group.rvs(8, random_state=seed + 1)[:rank]
    found = j.changed(j.decomposed(w), w + torch.from_numpy(u @ v))
    assert found["effective_rank"] == pytest.approx(rank, rel=1e-6)
    assert found["relative"] == pytest.approx(rank**0.5 / float(w.norm()))
    assert found["spectral"] == pytest.approx(1 / float(torch.linalg.matrix_norm(w, 2)))


@given(seed=seeds)
def test_a_change_along_the_first_singular_vectors_lies_in_their_spaces(seed):
    known = j.decomposed(weight(seed, 30, 20))
    first = torch.outer(known.outputs[:, 0], known.inputs[1])
    found = j.changed(known, known.weight + first)
    assert found["top_inputs"] == pytest.approx(1)
    assert found["top_outputs"] == pytest.approx(1)
    last = torch.outer(known.outputs[:, -1], known.inputs[-1])
    found = j.changed(known, known.weight + last)
    assert found["top_inputs"] == pytest.approx(0, abs=1e-12)
    assert found["top_outputs"] == pytest.approx(0, abs=1e-12)


def test_the_measures_of_an_unchanged_weight_are_zero():
    found = j.changed(j.decomposed(weight(0)), weight(0))
    for name in ("relative", "spectral", "effective_rank", "top_inputs", "top_outputs"):
        assert found[name] == 0


@given(seed=seeds)
def test_the_energy_agrees_with_a_double_sum(seed):
    w = weight(seed, 5, 3).numpy()
    rows = w / np.linalg.norm(w, axis=1, keepdims=True)
    pairs = [1 / np.linalg.norm(a - b) for i, a in enumerate(rows) for b in rows[:i]]
    assert j.hyperspherical_energy(torch.from_numpy(w)) == pytest.approx(np.mean(pairs))


def test_changes_are_averaged_over_the_layers_of_a_group():
    before = {name: j.decomposed(weight(seed)) for seed, name in enumerate("ab")}
    after = {"a": 2 * weight(0), "b": weight(1)}
    found = j.mean_change(before, after, {"attention": ["a", "b"], "up": ["b"]})
    assert found["attention"]["relative"] == pytest.approx(0.5, rel=1e-4)
    assert found["up"]["relative"] == 0
