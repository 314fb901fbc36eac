"""`search` finds known networks, is reproducible from a seed, and survives failures."""

import itertools
import json
import sys
import threading
import time
from contextlib import contextmanager

import networkx as nx
import numpy as np
import pytest

import structmat as sm
from structmat.errors import FileError, MissingExtraError, ObjectiveError, StructmatError
from structmat.search.objectives import objective
from structmat.search.study import engine
from structmat.search.study.engine import stored


def outcomes(result):
    """Return the outcomes of the trials, which do not depend on the number of processes."""
    return [(t.state, t.topology, t.values, t.violation, t.parent) for t in result.trials]


# Known answers, from free networks and edits only ----------------------------------------------


def test_a_dense_network_with_as_few_parameters_as_gossip_is_found():
    found = sm.search(
        8,
        "parameters",
        require=["dense", "radix<=2"],
        trials=30,
        proposals=["free", "edits"],
        rng=3,
    )
    assert found.best.values == {"parameters": 2 * 8 - 4}
    net = found.best.network
    graph = net.to_networkx()
    assert all(nx.has_path(graph, (0, i), (net.depth, j)) for i in range(8) for j in range(8))
    assert sum(bank.count for bank in net.banks) == 12


@pytest.mark.parametrize(("width", "stages", "trials", "seed"), [(8, 3, 10, 0), (16, 4, 80, 3)])
def test_a_network_of_the_size_of_the_butterfly_that_mixes_exactly_is_found(
    width, stages, trials, seed
):
    switches = width // 2 * stages
    found = sm.search(
        width,
        "mixing",
        require=["dense", "radix<=2", f"parameters<={switches}", f"depth<={stages}"],
        trials=trials,
        proposals="edits",
        rng=seed,
    )
    net = found.best.network
    assert sum(bank.count for bank in net.banks) == switches
    energies = np.eye(width)
    for stage in net:
        halves = np.eye(width)
        for a, b in stage.banks[0].reads:
            halves[np.ix_([a, b], [a, b])] = 1 / 2
        energies = halves @ energies
    assert np.linalg.svd(energies, compute_uv=False)[1] < 1e-12


def test_a_network_with_the_dimension_of_the_ruler_is_found():
    found = sm.search(
        8,
        "dimension",
        require=["radix<=2", "parameters<=28"],
        trials=60,
        proposals="edits",
        rng=1,
    )
    assert found.best.values == {"dimension": 28} == {"dimension": sm.dimension(sm.ruler(8)).value}
    assert found.best.network.parameters == 28


# Determinism ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objectives", "sampler"),
    [("parameters", None), (["parameters", "mixing"], None), ("depth", "random")],
)
def test_the_result_depends_only_on_the_seed_even_after_an_interruption(
    tmp_path, objectives, sampler
):
    def run(trials, **options):
        return sm.search(8, objectives, require="dense", trials=trials, sampler=sampler, **options)

    whole = run(30, rng=3)
    parts = [run(trials, rng=3, storage=tmp_path / "parts") for trials in (1, 13, 30)]
    assert outcomes(whole) == outcomes(parts[-1])
    assert outcomes(whole)[:13] == outcomes(parts[1])
    assert outcomes(run(30, rng=4)) != outcomes(whole)
    assert {t.source for t in whole.trials} == {"family", "free", "edit"}
    assert stored(tmp_path / "parts") == parts[-1]


def test_an_interrupted_search_keeps_its_trials_and_can_be_continued(tmp_path):
    calls = itertools.count()

    def interrupted(net):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return net.depth

    options = {"trials": 8, "rng": 1, "storage": tmp_path / "a"}
    first = sm.search(8, interrupted, **options)
    assert first.interrupted
    assert "interrupted" in str(first)
    assert len(first.trials) < 8
    second = sm.search(8, interrupted, **options)
    assert not second.interrupted
    calls = itertools.count(100)
    assert outcomes(second) == outcomes(sm.search(8, interrupted, trials=8, rng=1))


def test_interruptions_are_not_failures_of_the_network(tmp_path):
    calls = itertools.count()

    def slow(net):
        if next(calls) < 4:
            raise KeyboardInterrupt
        return net.depth

    options = {"trials": 1, "storage": tmp_path / "a"}
    assert all(sm.search(8, slow, **options).trials == () for _ in range(4))
    assert sm.search(8, slow, **options).trials[0].state == "feasible"


def test_no_trial_starts_after_the_timeout():
    found = sm.search(8, "depth", trials=10**6, timeout=0.0)
    assert found.trials == ()
    assert str(found) == "0 trials."


# Requirements and objectives ---------------------------------------------------------------------


def test_expensive_objectives_are_not_measured_if_a_cheap_requirement_is_violated():
    measured = []

    def expensive(net):
        measured.append(net)
        return net.depth

    found = sm.search(
        8, expensive, require=["dense", "depth<=3"], trials=40, proposals=["families", "free"]
    )
    assert 0 < len(measured) < 40
    assert all(sm.is_dense(net) and net.depth <= 3 for net in measured)
    assert len(measured) == found.counts["feasible"] - sum(
        t.same_as is not None and t.state == "feasible" for t in found.trials
    )
    for trial in found.trials:
        net = trial.network
        assert (trial.state == "feasible") is (sm.is_dense(net) and net.depth <= 3)


def test_the_front_agrees_with_a_comparison_of_all_pairs():
    goals = ["parameters", objective("dimension"), "depth"]
    found = sm.search(6, goals, trials=40, rng=2)
    assert [t.values for t in found.front] == [
        {"parameters": net.parameters, "dimension": sm.dimension(net).value, "depth": net.depth}
        for net in (t.network for t in found.front)
    ]
    every = {t.number: t for t in found.trials if t.same_as is None}

    def costs(trial):
        return np.array([1, -1, 1]) * list(trial.values.values())

    def is_beaten(trial):
        others = map(costs, every.values())
        return any((o <= costs(trial)).all() and (o < costs(trial)).any() for o in others)

    assert {t.number for t in found.front} == {n for n, t in every.items() if not is_beaten(t)}
    assert found.best == found.front[0]


def test_equivalent_networks_are_measured_once():
    found = sm.search(8, "mixing", trials=40, proposals="families", rng=1)
    apart = [trial for trial in found.trials if trial.same_as is None]
    again = [trial for trial in found.trials if trial.same_as is not None]
    assert again
    for trial in again:
        first = found.trials[trial.same_as]
        assert trial.values == first.values
        assert objective("mixing").measure(trial.network) == pytest.approx(
            trial.values["mixing"], abs=1e-12
        )
    straight = [t.network for t in apart if t.network.is_straight]
    for a, b in itertools.combinations(straight, 2):
        assert sm.isomorphism(a, b) is None


def failing(net):
    if net.depth == 2:
        raise ZeroDivisionError("two stages")
    return float("nan") if net.depth == 3 else net.depth


def test_the_trial_of_a_failing_objective_is_marked_and_the_search_continues():
    found = sm.search(8, failing, trials=40, proposals="families")
    messages = {t.message for t in found.trials if t.state == "failed"}
    line = failing.__code__.co_firstlineno + 2
    raised = 'raise ZeroDivisionError("two stages")'
    assert messages == {
        f"objective failing: ZeroDivisionError: two stages; {__file__}, line {line}: {raised}",
        "objective failing returned nan: it must return a finite number",
    }
    assert {t.state for t in found.trials} == {"failed", "feasible"}
    assert all(t.network.depth not in (2, 3) for t in found.trials if t.state == "feasible")
    assert f"{found.counts['failed']} failed" in str(found)


def test_a_search_in_which_every_trial_fails_is_an_error():
    with pytest.raises(ObjectiveError, match=r"all 5 trials failed, the first with: objective <la"):
        sm.search(8, lambda net: net.missing, trials=5)


def test_functions_can_propose_networks():
    seen = []

    def mine(width, rng, best):
        seen.append([net.depth for net in best])
        if len(seen) == 3:
            return "no_family"
        return sm.random(width, block=2, depth=int(rng.integers(1, 9)), rng=int(rng.integers(9)))

    found = sm.search(8, "depth", trials=12, proposals=mine, start=["benes", sm.butterfly(8)])
    assert [t.source for t in found.trials[:3]] == ["start", "start", "mine"]
    assert [t.spec for t in found.trials[:2]] == ["benes", None]
    assert seen[0] == [3, 5]  # the networks of the first trials, the best first
    assert seen[-1] == sorted(seen[-1])
    [failed] = [t for t in found.trials if t.state == "failed"]
    assert failed.message.startswith("proposal mine: no family 'no_family'")
    with pytest.raises(StructmatError, match="trial 4 has no network: proposal mine"):
        _ = failed.network


def test_only_the_given_families_are_proposed():
    specs = ["shuffle", "mixed_radix(radices=(4, 2))"]
    found = sm.search(8, "depth", trials=20, proposals="families", families=specs)
    names = {t.spec.partition("(")[0] for t in found.trials}
    assert names == {"shuffle", "mixed_radix"}
    assert {t.spec for t in found.trials if "mixed" in t.spec} == {specs[1]}


def test_complex_blocks_and_targets_are_passed_on():
    target = sm.Rotation(sm.butterfly(4), sm.random_blocks(sm.butterfly(4), rng=0)).matrix()
    options = {"require": "parameters<=4", "trials": 6, "proposals": "families"}
    families = ["butterfly(depth=1)", "butterfly"]
    found = sm.search(4, "fit_error", target=target, families=families, **options)
    assert found.best.spec.startswith("butterfly")
    assert found.best.values["fit_error"] < 1e-6
    units = sm.search(4, "parameters", field="complex", trials=1, start=["butterfly"])
    assert units.best.values == {"parameters": 16}


@pytest.mark.parametrize("progress", [True, False])
def test_a_progress_bar_counts_trials_if_it_is_wanted(monkeypatch, progress):
    seen = []

    class Bar:
        n = 0

        def update(self, count):
            self.n += count

    @contextmanager
    def bar(what, total, *, unit, shown):
        seen.append((what, total, unit, shown))
        yield drawn

    drawn = Bar()
    monkeypatch.setattr(engine, "bar", bar)
    sm.search(8, "depth", trials=3, progress=progress)
    assert seen == [("search", 3, "trial", progress)]
    assert drawn.n == 3


# Output ------------------------------------------------------------------------------------------


def test_the_best_network_is_saved_and_read_again(tmp_path):
    found = sm.search(8, "parameters", require="dense", trials=10)
    path = found.save(tmp_path / "best.json")
    assert sm.network(path) == found.best.network
    with pytest.raises(FileError, match=r"no/best.json: cannot be written \(No such file"):
        found.save(tmp_path / "no" / "best.json")


def test_the_table_shows_the_best_networks(monkeypatch):
    found = sm.search(8, ["parameters", "mixing"], trials=30)
    head, *rows = str(found).partition("\n\n")[0].splitlines()
    assert head.split() == ["trial", "network", "source", "parameters", "mixing"]
    assert [int(row.split()[0]) for row in rows] == [t.number for t in found.front[:10]]
    assert f"{len(found.front)} networks on the Pareto front" in str(found)
    assert found._repr_html_().count("<tr>") == len(rows) + 1
    data = json.loads(json.dumps(found.to_dict()))
    assert [row["values"] for row in data["front"]] == [t.values for t in found.front]
    assert data["trials"]["finished"] == 30


@pytest.mark.parametrize("goals", ["parameters", ["parameters", "mixing"]])
def test_the_picture_shows_the_best_values(goals):
    found = sm.search(8, goals, trials=12)
    trials, best = found.plot().lines
    if isinstance(goals, str):
        assert best.get_ydata()[-1] == found.best.values[goals]
        assert list(best.get_ydata()) == list(np.minimum.accumulate(trials.get_ydata()))
    else:
        assert list(best.get_xdata()) == [t.values["parameters"] for t in found.front]
        assert list(best.get_ydata()) == [t.values["mixing"] for t in found.front]


def test_the_error_without_a_feasible_network_names_the_nearest():
    found = sm.search(8, "depth", require=["dense", "depth<=1", "radix<=2"], trials=5)
    for ask in (lambda: found.best, found.plot, lambda: found.save("none.json")):
        with pytest.raises(
            StructmatError, match=r"of 5 trials satisfies depth<=1, radix<=2, dense; the"
        ):
            ask()
    assert "the nearest is that of trial" in " ".join(str(found).split())


# Bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 1}, "width=1: width must be an integer ≥ 2"),
        ({"objectives": []}, "objectives is empty"),
        ({"objectives": ["depth", "depth"]}, "each must have its own name"),
        ({"objectives": "speed"}, "objective 'speed': unknown"),
        ({"objectives": "fit_error"}, "needs a target"),
        ({"require": "parameters < 3"}, "requirement 'parameters < 3'"),
        ({"require": ["dense", "parameters<=11"]}, "a dense network of width 8 has at least 12"),
        ({"require": ["universal", "parameters<=27"]}, "width 8 has at least 28 parameters"),
        ({"trials": 0}, "trials=0: trials must be an integer ≥ 1"),
        ({"sampler": "tpo"}, "sampler='tpo'; did you mean tpe"),
        ({"timeout": "60"}, "timeout='60': it must be a number of seconds"),
        ({"storage": 7}, "storage=7: a storage is the path of a journal file"),
        ({"objectives": {"depth": "maximize"}}, "give a list, such as"),
        ({"require": {"mixing": 0.01}}, "give a list, such as"),
        ({"families": [sm.butterfly]}, "families=<function .*: give names or specs"),
        (
            {"objectives": "fit_error", "target": np.eye(4)},
            r"target=.*: it must have the shape \(8, 8\), or",
        ),
        ({"timeout": float("nan")}, "timeout=nan: it must be a number of seconds"),
        ({"proposals": "family"}, "proposals='family': each must be"),
        ({"proposals": []}, "proposals is empty"),
        ({"families": ["benes"], "width": 6}, "none has a network of width 6"),
        ({"families": ["bens"]}, "no family 'bens'; did you mean benes"),
        ({"start": ["butterfly(8"]}, "cannot be parsed"),
        ({"start": [sm.butterfly(4)]}, "has width 4, not 8"),
        ({"rng": -1}, "rng=-1: rng must be an integer"),
        ({"field": "quaternion"}, "field='quaternion'"),
    ],
)
def test_invalid_arguments_are_refused(options, message):
    with pytest.raises(StructmatError, match=message):
        sm.search(**{"width": 8, "objectives": "depth", "trials": 1, **options})


@pytest.mark.parametrize(
    "target", [np.eye(3), np.ones(4), np.ones((0, 4, 4)), [np.eye(4), np.eye(3)], "x"]
)
def test_a_target_of_another_shape_is_refused_before_the_first_trial(target):
    message = r"target=.*: it must have the shape \(4, 4\), or \(k, 4, 4\) for k ≥ 1 matrices"
    with pytest.raises(StructmatError, match=message):
        sm.search(4, "fit_error", target=target, trials=100)


def test_the_error_without_optuna_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r'pip install "structmat\[search\]"'):
        sm.search(8, "depth")


def test_a_search_runs_in_several_threads_of_one_process(tmp_path):
    measured = []

    def slow(net):
        measured.append(net.to_json())
        time.sleep(0.01)
        return net.depth

    options = {"trials": 12, "sampler": "random", "proposals": ["families", "free"]}
    work = [
        threading.Thread(
            target=sm.search, args=(8, slow), kwargs=options | {"storage": tmp_path / "a"}
        )
        for _ in range(3)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(measured) == len(set(measured))
    found = stored(tmp_path / "a")
    assert outcomes(found) == outcomes(sm.search(8, slow, **options))
