"""The study on docstrings: the script, its record, and the page that quotes it."""

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from structmat.adapters import adapters
from structmat.finetune import docstring_task as corpus
from structmat.finetune.models import pretrained
from structmat.finetune.near_duplicates import normalised

pytest.importorskip("peft")

import docstring_pairs
import docstrings_study as script
import studies

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def record():
    return json.loads(script.PATH.read_text("utf-8"))


@pytest.fixture(scope="module")
def texts(read_once):
    with pytest.MonkeyPatch.context() as patch:
        for module in (corpus, docstring_pairs):
            patch.setattr(module, "docstrings", read_once)
        return script.texts()


def test_the_record_contains_exactly_the_runs(record):
    sizes = record["sizes"]
    assert sizes == json.loads(json.dumps(vars(script.Sizes())))
    expected = []
    for seed in range(sizes["seeds"]):
        for name in script.METHODS:
            tried = sizes["rates"] if seed < sizes["tuning"] else [record["selected_rates"][name]]
            expected += [(name, rate, seed) for rate in tried]
        expected.append((script.HEAD_ONLY, script.HEAD_RATE, seed))
    found = [(row["method"], row["rate"], row["seed"]) for row in record["runs"]]
    assert sorted(found) == sorted(expected)
    for name in script.METHODS:
        assert record["selected_rates"][name] == studies.best_rate(
            record["runs"], name, sizes["tuning"]
        )
    assert {len(times) for times in record["seconds"].values()} == {sizes["rounds"]}


def test_the_page_shows_the_tables_of_the_record(record):
    page = (DOCS / "docstrings-study.md").read_text("utf-8")
    for table in script.tables(record):
        assert table in page


@pytest.mark.parametrize("name", script.METHODS)
def test_the_record_counts_the_trainable_parameters(record, name):
    source = pretrained()
    classifier = source.classifier([*"abcdef"])
    model = script.METHODS[name].prepare(classifier)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad) - 6 * 385  # the head
    assert {row["trained"] for row in record["runs"] if row["method"] == name} == {count}
    assert count == pytest.approx(155_520, rel=0.07)  # OFT's
    if script.METHODS[name].kind == "rotation":
        assert len(adapters(model)) == 36
        scales = {adapter.rotation.generator_scale for adapter in adapters(model).values()}
        assert scales == {1.0}  # plain generators, for which the recorded rates were selected


def apart(plan, record, names, key, comparisons):
    """Return the methods that differ significantly from the baseline; True if theirs is higher."""
    found = {}
    for name in names:
        gaps = studies.gaps(plan, record, name, key)
        mean, half = studies.interval(gaps, comparisons=comparisons)
        if abs(mean) > half:
            found[name] = mean > 0
    return found


def test_the_comparison_with_lora_on_the_page_holds(record):
    plan = script.plan()
    others = plan.methods[1:]
    better = ["BOFT", "shuffle", "ruler, first 15 stages", "random"]
    assert apart(plan, record, others, "test", 1) == dict.fromkeys(better, True)
    assert apart(plan, record, others, "test", 16) == {}
    more = dict.fromkeys(["OFT", "mixed radix"], True)
    less = dict.fromkeys(["HRA", *better], False)
    assert apart(plan, record, others, "forgotten", 1) == more | less
    assert set(apart(plan, record, others, "forgotten", 16)) == {"HRA", "random"}
    head = replace(plan, baseline=script.HEAD_ONLY)
    for name in plan.methods:
        assert statistics.fmean(studies.gaps(head, record, name, "test")) > 0.13


@pytest.mark.parametrize(
    ("study", "differ"),
    [
        ("docstrings", {("ruler, first 15 stages", "BOFT"), ("random", "ruler, first 15 stages")}),
        ("digits", {("mixed radix", "OFT")}),
    ],
)
def test_the_comparison_of_topologies_on_the_pages_holds(study, differ):
    record = json.loads((DOCS / "results" / f"{study}.json").read_text("utf-8"))
    plan = script.plan()
    rotations = plan.methods[3:]
    assert len(rotations) == 6
    alone, together = set(), set()
    for later, name in enumerate(rotations, 1):
        other = replace(plan, baseline=name)
        rest = rotations[later:]
        alone |= {(one, name) for one in apart(other, record, rest, "test", 1)}
        together |= {(one, name) for one in apart(other, record, rest, "test", 15)}
    assert alone == differ
    assert together == set()


@pytest.mark.slow
def test_the_task_equals_that_of_the_command_line(texts, docstrings):
    task, _ = texts
    assert task.fingerprint == docstrings.fingerprint


@pytest.mark.slow
def test_the_forgetting_data_are_not_in_the_task(texts):
    task, found = texts
    pairs = script.drawn(found, 30)
    assert len(pairs) == 180
    parts = (task.train, task.validation, task.test)
    learned = {normalised(example.text) for part in parts for example in part}
    begins = [normalised(pair.begins) for pair in pairs]
    rests = [normalised(pair.goes_on) for pair in pairs]
    assert not learned & set(begins)
    assert len(set(begins)) == 180
    assert len(set(rests)) == 178  # two occur twice, as the page states
    assert min(len(pair.goes_on) for pair in pairs) >= docstring_pairs.SHORTEST


def test_the_target_is_reached_by_the_mean_of_the_latest_batches():
    goal, few = script.TARGET, script.LATEST
    assert script.reached([goal] * few) == few
    assert script.reached([0.0] * 3 + [goal] * few) == 3 + few
    assert script.reached([1.0] * (few - 1)) is None
    assert script.reached([goal - 0.01] * 20) is None


def test_retrieval_succeeds_if_the_continuation_is_nearest():
    source = pretrained()
    model = source.classifier([*"ab"]).model
    pairs = [
        script.Pair("The cat sat on the mat.", "It purred there, as cats do on mats."),
        script.Pair("The eigenvalues of a matrix are real.", "Its eigenvectors are orthogonal."),
        script.Pair("The train leaves platform two at nine.", "Passengers board the train early."),
    ]
    data = script.Data(source, source.tokenizer(), None, pairs)
    assert script.found_again(model, data) == 1.0
    rests = [pair.goes_on for pair in pairs]
    shifted = [script.Pair(p.begins, r) for p, r in zip(pairs, rests[1:] + rests[:1], strict=True)]
    assert script.found_again(model, data._replace(pairs=shifted)) == 0.0


def test_means_exclude_the_padding():
    source = pretrained()
    model = source.classifier([*"ab"]).model
    data = script.Data(source, source.tokenizer(), None, [])
    short, long = "A graph.", "A graph with many more words than the other text in the batch has."
    alone = script.embedded(model, data, [short])
    together = script.embedded(model, data, [short, long])
    assert torch.allclose(alone[0], together[0], atol=1e-5)
    assert torch.allclose(together.norm(dim=-1), torch.ones(2))


def test_the_head_and_the_body_have_separate_rates(tiny_model, task):
    """At a rate of zero the adapter does not change, while the head is trained."""
    source = pretrained(str(tiny_model))
    classifier = source.classifier(task.labels)
    model = script.METHODS["OFT"].prepare(classifier)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    data = script.Data(source, source.tokenizer(), task, [])
    sizes = script.Sizes(steps=3, batch=8)
    right = script.trained(model, data, classifier.head, rate=0.0, seed=0, sizes=sizes)
    assert len(right) == 3
    assert all(0 <= share <= 1 for share in right)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
