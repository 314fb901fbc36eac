"""The study on digits: the script, its record, and the page that quotes it."""

import importlib.util
import json
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import studies

DOCS = Path(__file__).parents[2] / "docs"
pytest.importorskip("peft")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("digits_study", DOCS / "digits_study.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "digits_study", module)  # dataclasses look their module up
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def record(script):
    return json.loads(script.PATH.read_text("utf-8"))


def keys(record):
    return [(row["method"], row["rate"], row["seed"]) for row in record["runs"]]


def expected(script, record):
    sizes = record["sizes"]
    for seed in range(sizes["seeds"]):
        for name in script.METHODS:
            tried = sizes["rates"] if seed < sizes["tuning"] else [record["selected_rates"][name]]
            yield from ((name, rate, seed) for rate in tried)
        yield script.HEAD_ONLY, script.HEAD_RATE, seed


def test_the_record_contains_exactly_the_runs(script, record):
    assert record["sizes"] == json.loads(json.dumps(vars(script.Sizes())))
    assert sorted(keys(record)) == sorted(expected(script, record))
    for name in script.METHODS:
        assert record["selected_rates"][name] == studies.best_rate(record["runs"], name, 2)


def test_all_methods_have_about_the_same_number_of_parameters(script, record):
    for name in script.METHODS:
        body = script.METHODS[name](script.Body())
        count = sum(p.numel() for p in body.parameters() if p.requires_grad)
        assert {row["trained"] for row in record["runs"] if row["method"] == name} == {count}
        assert count == pytest.approx(6720, rel=0.07)


def test_the_page_shows_the_tables_of_the_record(script, record):
    page = (DOCS / "digits-study.md").read_text("utf-8")
    for table in script.tables(record):
        assert table in page


def test_the_statements_of_the_page_hold(script, record):
    plan = script.plan()

    def gaps(name, key):
        return studies.gaps(plan, record, name, key)

    def values(name, key):
        return [row[key] for row in studies.final(record, name)]

    others = [name for name in script.METHODS if name != script.BASELINE]
    for name in others:
        mean, half = studies.interval(gaps(name, "test"))
        assert abs(mean) < half
    for name in script.METHODS:
        head = values(script.HEAD_ONLY, "test")
        assert statistics.fmean(np.subtract(values(name, "test"), head)) > 0.2

    def apart(comparisons):
        each = {n: studies.interval(gaps(n, "forgotten"), comparisons=comparisons) for n in others}
        return {name for name, (mean, half) in each.items() if mean > half}

    assert apart(1) == {"OFT", "BOFT", "mixed radix", "random"}
    assert apart(16) == {"BOFT", "random"}


def test_training_and_test_images_are_disjoint(script):
    new, test = script.parts(script.NEW, 400)
    for seed in range(5):
        learn, valid = script.drawn(new, 40, seed)
        together = torch.cat([part[0] for part in (learn, valid, test)]).flatten(1)
        assert len(learn[1]) == len(valid[1]) == 200
        assert (torch.bincount(learn[1]) == 40).all()
        assert (torch.bincount(valid[1]) == 40).all()
        # scikit-learn's set has no image twice among these
        assert len(together.unique(dim=0)) == len(together)


@pytest.mark.slow
def test_an_interrupted_run_resumes(script, tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    path = tmp_path / "short.json"
    methods = {name: script.EVERYTHING[name] for name in (script.BASELINE, "OFT")}
    monkeypatch.setattr(script, "METHODS", methods)
    monkeypatch.setattr(script, "EVERYTHING", {**methods, script.HEAD_ONLY: script.frozen})
    try:
        script.main(["--quick", "--output", str(path)])
        whole = json.loads(path.read_text("utf-8"))
        assert sorted(keys(whole)) == sorted(expected(script, whole))
        path.write_text(json.dumps({**whole, "runs": whole["runs"][:2]}), encoding="utf-8")
        script.main(["--quick", "--output", str(path)])
        again = json.loads(path.read_text("utf-8"))
    finally:
        torch.set_num_threads(threads)
    for row in whole["runs"] + again["runs"]:
        del row["step_ms"]
    for one, two in zip(whole["runs"], again["runs"], strict=True):
        assert one == pytest.approx(two, abs=1e-4)  # how a rotation is run is chosen by timing it
    assert list(tmp_path.iterdir()) == [path]
