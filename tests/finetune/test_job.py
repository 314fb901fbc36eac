import json
import re
from dataclasses import replace

import numpy as np
import pytest

import structmat as sm
from structmat.errors import StructmatError, WidthError, require
from structmat.finetune import job, record
from structmat.finetune.hyperparameters import Hyperparameters
from structmat.finetune.methods import Settings, named, rotation
from structmat.finetune.models import pretrained
from structmat.finetune.report.sentences import headline
from structmat.finetune.training import logits, train

HYPERPARAMETERS = Hyperparameters(epochs=2, batch=16, max_length=32, evaluations=2)
METHODS = tuple(named(name) for name in ("head", "lora", "oft", "boft"))
SETTINGS = Settings(methods=METHODS, seeds=2, hyperparameters=HYPERPARAMETERS, rounds=1)


@pytest.fixture(scope="module")
def source(tiny_model):
    return pretrained(str(tiny_model))


@pytest.fixture(scope="module")
def done(task, source, tmp_path_factory):
    output = tmp_path_factory.mktemp("finetune") / "out"
    return job.run(task, source, SETTINGS, output, command="structmat finetune"), output


def test_the_output_directory_contains_exactly_the_documented_files(done):
    found, output = done
    assert sorted(path.name for path in output.iterdir()) == [
        "best-adapter",
        "merged-model",
        "report.html",
        "results.json",
    ]
    assert json.loads((output / "results.json").read_text("utf-8")) == json.loads(json.dumps(found))


def test_every_method_has_a_row_of_results(done, task):
    found, _ = done
    assert found["complete"]
    assert [row["method"] for row in found["methods"]] == [m.name for m in METHODS]
    for row in found["methods"]:
        assert len(row["accuracies"]) == 2
        assert row["accuracy"] == pytest.approx(np.mean(row["accuracies"]))
        assert row["spread"] == pytest.approx(np.std(row["accuracies"], ddof=1))
        assert row["relative_seconds"] > 0
        steps = HYPERPARAMETERS.steps(len(task.train))
        assert [step for step, _ in row["validation_curve"]] == [steps // 2, steps]
        rotates, changes = row["kind"] in ("oft", "rotation"), row["kind"] != "head"
        assert (row["orthogonality_error"] is not None) == rotates
        assert (row["merge_difference"] is not None) == changes
        # float32 has 1.2e-7; blocks of 16, at most 16 stages; logits of order 1.
        assert (row["orthogonality_error"] or 0) < 1e-5
        assert (row["merge_difference"] or 0) < 1e-4
    reference = next(row for row in found["methods"] if row["method"] == "lora")
    assert reference["relative_seconds"] == 1


def test_trainable_parameters_are_the_generators_and_the_head(done, source, task):
    found, _ = done
    head = 32 * len(task.labels) + len(task.labels)
    nets = {m.name: m.topology for m in METHODS if m.topology}
    for row in found["methods"]:
        if row["method"] in nets:
            topology = nets[row["method"]]
            build = sm.parse(topology) if isinstance(topology, str) else topology
            expected = 2 * (5 * build(32).parameters + build(64).parameters)
            assert row["trainable"] == expected + head
        elif row["kind"] == "head":
            assert row["trainable"] == head


def test_oft_learns_the_same_as_pefts_oft(source, task):
    """The same parametrization and initial values: only rounding differs."""
    losses = []
    for method in (replace(named("oft"), generator_scaling="none"), named("peft-oft")):
        trained = train(
            method.prepare(source.classifier(task.labels, seed=3)),
            source.tokenizer(),
            training=task.train,
            validation=task.validation,
            hyperparameters=replace(HYPERPARAMETERS, epochs=6),
            rate=0.1,
            seed=3,
        )
        losses.append([loss for _, loss in trained.history.loss])
        assert method.orthogonality_error(trained.model) < 1e-5
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # Adam amplifies rounding
    assert losses[0][-1] < 0.9 * losses[0][0]  # the losses of untrained models would be equal, too


def test_the_best_rotation_is_selected_on_validation_texts(done):
    found, _ = done
    rotations = [row for row in found["methods"] if row["kind"] == "rotation"]
    curves_end = [row["validation_curve"][-1][1] for row in rotations]
    assert found["best"]["method"] in {row["method"] for row in rotations}
    assert found["best"]["validation"] >= max(curves_end)


def test_the_merged_model_loads_without_structmat_and_equals_the_adapter(done, source, task):
    found, output = done
    transformers = require("transformers", "finetune")
    merged = transformers.AutoModelForSequenceClassification.from_pretrained(
        output / "merged-model", local_files_only=True
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        output / "merged-model", local_files_only=True
    )
    adapted = require("structmat.adapters", "adapters").load_adapter(
        source.classifier(task.labels, seed=7).model, output / "best-adapter"
    )
    assert merged.config.id2label == dict(enumerate(task.labels))
    texts = [example.text for example in task.test]
    outputs = [
        logits(model, tokenizer, texts, max_length=HYPERPARAMETERS.max_length)
        for model in (merged, adapted)
    ]
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-5
    right = (outputs[0].argmax(1) == [example.label for example in task.test]).mean()
    assert right == pytest.approx(found["best"]["test"])


def test_the_report_is_self_contained(done):
    found, output = done
    page = (output / "report.html").read_text("utf-8")
    links = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", page)
    assert [link for link in links if not link.startswith("#")] == []
    assert "<script" not in page
    assert page.count('<svg viewBox="0 0') == 2 + 2 + 2  # accuracies, curves, networks
    for row in found["methods"]:
        assert row["label"] in page
    assert str(output / "merged-model") in page


def test_an_interrupted_run_resumes(task, source, tmp_path, monkeypatch):
    settings = replace(SETTINGS, methods=METHODS[:2], seeds=1)
    real, calls = job.train, []

    def stop_at_the_second(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt("stop")
        return real(*args, **kwargs)

    monkeypatch.setattr(job, "train", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        job.run(task, source, settings, tmp_path)
    partial = json.loads((tmp_path / "results.json").read_text())
    assert not partial["complete"]
    assert [row["method"] for row in partial["methods"]] == ["head"]
    said = []
    found = job.run(task, source, settings, tmp_path, say=said.append)
    assert len(calls) == 3
    assert found["complete"]
    assert found["best"] is None  # no rotation was trained
    assert [line for line in said if line.startswith("head, seed 0: already finished")]
    assert not (tmp_path / "runs").exists()


def test_an_interrupted_run_with_other_settings_is_not_reused(task, source, tmp_path, monkeypatch):
    settings = replace(SETTINGS, methods=METHODS[:1], seeds=1)
    monkeypatch.setattr(job, "_timed", interrupt)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        job.run(task, source, settings, tmp_path)
    monkeypatch.undo()
    said = []
    other = replace(settings, hyperparameters=replace(HYPERPARAMETERS, epochs=1))
    job.run(task, source, other, tmp_path, say=said.append)
    (line,) = [line for line in said if "runs" in line and "not reused" in line]
    assert line.startswith(str(tmp_path / "runs" / "head-0.json"))


def test_an_interrupted_run_of_an_older_version_is_not_reused(task, source, tmp_path, monkeypatch):
    settings = replace(SETTINGS, methods=METHODS[:1], seeds=1)
    monkeypatch.setattr(job, "_timed", interrupt)
    monkeypatch.setattr(record, "VERSION", record.VERSION - 1)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        job.run(task, source, settings, tmp_path)
    monkeypatch.undo()
    said = []
    assert job.run(task, source, settings, tmp_path, say=said.append)["complete"]
    assert [line for line in said if "versions, so it is not reused" in line]


def test_the_record_has_the_answer_of_every_method_to_every_test_text(done, task):
    found, _ = done
    assert [each["text"] for each in found["test"]] == [example.text for example in task.test]
    for row in found["methods"]:
        for predictions, accuracy in zip(row["predictions"], row["accuracies"], strict=True):
            answers = [task.labels[int(k)] for k in predictions.split()]
            right = [a == each["label"] for a, each in zip(answers, found["test"], strict=True)]
            assert np.mean(right) == pytest.approx(accuracy)
        low, high = row["interval"]
        assert low <= row["accuracy"] <= high
    assert found["ranking"]["test"] == "t test over texts and seeds"
    assert found["headline"] == headline(found)
    assert sum(found["agreement"].values()) == len(task.test)


def test_the_plan_and_the_warnings_precede_training(task, source, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(job, "_trained", interrupt)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        job.run(task, source, SETTINGS, tmp_path, say=said.append)
    plan = "8 training runs of 6 steps (2 epochs of 48 texts, in batches of 16)"
    assert said[0] == plan
    assert said[1].startswith("warning: 6 steps may be too few to learn the task")
    assert said[2].startswith("warning: with 24 test texts")


def test_one_rate_is_used_by_all_methods_and_excludes_a_search(task, source, tmp_path):
    settings = Settings(methods=METHODS[:2], hyperparameters=HYPERPARAMETERS, rounds=1, rate=0.02)
    found = job.run(task, source, settings, tmp_path)
    assert [(row["rate"], row["rate_source"]) for row in found["methods"]] == [(0.02, "given")] * 2
    with pytest.raises(StructmatError, match="give a learning rate, or search for one, not both"):
        replace(settings, tune=True)
    with pytest.raises(StructmatError, match="a learning rate must be a positive number"):
        replace(settings, rate=float("inf"))


def interrupt(*_):
    raise KeyboardInterrupt("stop")


def test_a_topology_that_does_not_fit_is_refused_before_anything_is_written(task, source, tmp_path):
    settings = replace(SETTINGS, methods=(rotation("butterfly(block=6)"),))
    with pytest.raises(WidthError, match=r"width must be.*inputs of widths 32, 64"):
        job.run(task, source, settings, tmp_path / "out")
    settings = replace(SETTINGS, hyperparameters=replace(HYPERPARAMETERS, max_length=513))
    with pytest.raises(StructmatError, match="max_length=513: this model supports at most 512"):
        job.run(task, source, settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_reject_empty_and_duplicate_methods():
    for methods in ((), METHODS[:1] * 2):
        with pytest.raises(StructmatError, match="give at least one, and each only once"):
            Settings(methods=methods)


def test_a_diverging_rate_is_reported(task, source, tmp_path):
    settings = Settings(
        methods=(replace(named("lora"), rate=1e30),), hyperparameters=HYPERPARAMETERS
    )
    with pytest.raises(StructmatError, match="learning rate is too high"):
        job.run(task, source, settings, tmp_path)
