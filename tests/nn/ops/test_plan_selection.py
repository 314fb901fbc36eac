"""Plans are measured until the times are certain, cached on disk, and do not change results."""

import json
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode

import structmat as sm
from structmat._util import files
from structmat.adapters import adapt
from structmat.errors import StructmatError
from structmat.nn import Orthogonal
from structmat.nn.ops import plan_selection, timing_cache
from structmat.nn.ops.backends import compiled
from structmat.nn.ops.cost_model import candidates, rotates_weight
from structmat.nn.ops.plan_cache import PlanCache
from structmat.testing import networks
from tests.random_modules import layer

CPU = torch.device("cpu")
NET = sm.butterfly(64)


@pytest.fixture(autouse=True)
def no_compiled_kernels(monkeypatch):
    """Plans are selected for torch's operations only: the kernels fuse stages themselves."""
    monkeypatch.setattr(compiled, "available", lambda _: False)


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Count measurements in a separate cache, with the last plan always the fastest."""
    monkeypatch.setenv("STRUCTMAT_CACHE", str(tmp_path))
    timing_cache.forget()
    calls = []

    def stepper(cache, tokens, dtype, device):
        calls.append((tokens, dtype))
        return lambda plan: 1e-7 / plan.seconds

    monkeypatch.setattr(plan_selection, "_stepper", stepper)
    yield calls
    timing_cache.forget()


@pytest.fixture
def machine(timed, monkeypatch):
    """Return a function that sets the milliseconds per step of each plan, in the model's order.

    They are a function of the number of the round; later plans take 2 ms. The function returns a
    list of the number of rounds of each measurement.
    """
    ranks = [plan.ends for plan in candidates(NET, 8192)]
    rounds = []

    def behave(milliseconds):
        def stepper(*_):
            steps = Counter()
            rounds.append(0)

            def step(plan):
                count = steps[plan.ends]  # 0 in the warm-up
                steps[plan.ends] += 1
                rounds[-1] = max(rounds[-1], count)
                times = [*milliseconds(max(count - 1, 0)), *[2.0] * len(ranks)]
                return 1e-3 * times[ranks.index(plan.ends)]

            return step

        monkeypatch.setattr(plan_selection, "_stepper", stepper)
        return rounds

    return behave


def ask(tokens=5000, *, measure=True, dtype=torch.float32, cache=None):
    return plan_selection.selected(cache or PlanCache(NET), tokens, dtype, CPU, measure=measure)


def slowest_worth_trying(tokens):
    plans = candidates(NET, tokens)
    return [w for w in plans if w.seconds <= 3 * plans[0].seconds][-1].ends


def test_the_fastest_plan_is_selected_and_measured_once(timed):
    assert ask() == slowest_worth_trying(8192) != candidates(NET, 8192)[0].ends
    assert timed == [(8192, torch.float32)]
    assert ask(5001) == ask(8192) == ask()
    assert len(timed) == 1
    ask(dtype=torch.float64)
    ask(10**6)
    assert timed[1:] == [(8192, torch.float64), (2**20, torch.float32)]


def test_a_later_process_reads_the_measurements(timed):
    first = ask()
    timing_cache.forget()  # as a new process has nothing in memory
    assert ask() == first
    assert len(timed) == 1
    data = json.loads(timing_cache.file().read_text(encoding="utf-8"))
    assert data["format"] == "structmat.timings"
    (name,) = data["timings"]
    for part in ("8192", "float32", f"torch {torch.__version__}", "threads"):
        assert part in name


def test_nothing_is_measured_for_few_vectors_or_deterministic_runs(timed):
    assert ask(100) == candidates(NET, 128)[0].ends
    assert ask(measure=False) == candidates(NET, 8192)[0].ends
    torch.use_deterministic_algorithms(mode=True)
    try:
        cache = PlanCache(NET)
        assert {ask(cache=cache) for _ in range(20)} == {candidates(NET, 8192)[0].ends}
    finally:
        torch.use_deterministic_algorithms(mode=False)
    assert not timed


def test_the_number_of_threads_is_part_of_the_cache_key(timed):
    cache, threads = PlanCache(NET), torch.get_num_threads()
    plan_selection.selected(cache, 5000, torch.float32, CPU, measure=True)
    try:
        torch.set_num_threads(threads + 1)
        plan_selection.selected(cache, 5000, torch.float32, CPU, measure=True)
    finally:
        torch.set_num_threads(threads)
    plan_selection.selected(cache, 5000, torch.float32, CPU, measure=True)
    assert len(timed) == 2


def test_the_default_plan_does_not_depend_on_timings(monkeypatch):
    """A seed gives the same bits in every process."""

    def refuse(*_):
        raise AssertionError("timed")

    monkeypatch.setattr(plan_selection, "_stepper", refuse)
    monkeypatch.setattr(timing_cache, "recall", refuse)
    model = adapt(torch.nn.Sequential(torch.nn.Linear(64, 64)), NET)
    assert model[0].rotation.plan == Orthogonal(NET).plan == "auto"
    x = torch.randn(2 * plan_selection.SMALL // 64, 64, requires_grad=True)
    for rotate in (Orthogonal(NET), model) * 8:
        rotate(x).sum().backward()
    assert "nothing was measured" in Orthogonal(NET).explain(len(x))
    threads = torch.get_num_threads()
    choice = plan_selection.selected(PlanCache(NET), len(x), x.dtype, CPU)
    try:
        torch.set_num_threads(threads + 1)
        assert plan_selection.selected(PlanCache(NET), len(x), x.dtype, CPU) == choice
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("plan", ["measure", "reference"])
def test_adapt_passes_the_plan_to_every_rotation(plan):
    net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 8))
    found = [m for m in adapt(net, "monarch", plan=plan).modules() if isinstance(m, Orthogonal)]
    assert [m.plan for m in found] == [plan, plan]
    fresh = torch.nn.Sequential(torch.nn.Linear(64, 64))
    with pytest.raises(StructmatError, match="plan='fast': it must be one of auto, measure"):
        adapt(fresh, "monarch", plan="fast")
    assert type(fresh[0]) is torch.nn.Linear


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": "structmat.timings", "version": 99, "timings": {"a": []}}',
        '{"format": "structmat.timings", "version": 1, "timings": {"a": [{"ends": "?"}]}}',
        '{"format": "structmat.timings", "version": 1, "timings": 7}',
        # An integer that no float holds.
        '{"format": "structmat.timings", "version": 1, "timings": {"a": {"rounds": 4, "spread": 1'
        + "0" * 400
        + ', "times": [{"ends": [1], "seconds": 1}]}}}',
    ],
)
def test_a_damaged_timing_file_is_ignored_and_rewritten(timed, content):
    timing_cache.file().write_text(content, encoding="utf-8")
    ask()
    assert len(timed) == 1
    timing_cache.forget()
    ask()
    assert len(timed) == 1  # it was written anew


def test_an_unwritable_cache_directory_is_not_an_error(timed, monkeypatch, tmp_path):
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    monkeypatch.setenv("STRUCTMAT_CACHE", str(tmp_path / "taken"))
    ask()
    ask()
    assert len(timed) == 1  # kept in memory


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="other systems' folders")
def test_the_cache_file_follows_the_xdg_specification(monkeypatch, tmp_path):
    monkeypatch.delenv("STRUCTMAT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    for base in ("", "relative"):  # as the XDG specification asks, a relative one is ignored
        monkeypatch.setenv("XDG_CACHE_HOME", base)
        assert timing_cache.file() == tmp_path / ".cache" / "structmat" / "timings.json"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert timing_cache.file() == tmp_path / "caches" / "structmat" / "timings.json"
    assert list(tmp_path.iterdir()) == []  # nothing is made before there is something to keep


@pytest.mark.parametrize("folder", [RuntimeError("no home"), Path("~/.cache/structmat")])
def test_without_a_home_directory_there_is_no_cache_file(monkeypatch, folder):
    """Recent versions of platformdirs raise, older ones return what could not be expanded."""

    def user_cache_path(*names, **options):
        if isinstance(folder, Exception):
            raise folder
        return folder

    monkeypatch.setattr(files, "user_cache_path", user_cache_path)
    assert timing_cache.file() is not None  # $STRUCTMAT_CACHE
    monkeypatch.delenv("STRUCTMAT_CACHE")
    assert timing_cache.file() is None


def test_real_measurements_give_a_time_for_each_plan(monkeypatch, tmp_path):
    monkeypatch.setenv("STRUCTMAT_CACHE", str(tmp_path))
    timing_cache.forget()
    times = plan_selection.measured(PlanCache(NET), 5000, torch.float32, CPU)
    assert len(times) > 1
    assert all(0 < seconds < 60 for seconds in times.values())
    text = Orthogonal(NET, plan="measure").explain(5000)
    assert "measured here in" in text
    timing_cache.forget()


# Noise -------------------------------------------------------------------------------------------

FIRST, SECOND = (plan.ends for plan in candidates(NET, 8192)[:2])
SOME = [set(rounds) for n in range(6) for rounds in combinations(range(7), n)]


def idle(_):
    return 1.1, 1.0


def busy(n):
    """Another program interferes with the fastest plan, more and more."""
    return 1.1, 3.0 + n


@pytest.mark.parametrize("rounds", SOME, ids=str)
def test_a_program_that_interferes_in_some_rounds_does_not_change_the_selection(machine, rounds):
    machine(lambda n: busy(n) if n in rounds else idle(n))
    assert ask() == SECOND


def test_the_cost_model_decides_between_plans_of_almost_the_same_time(machine):
    rounds = machine(lambda n: (1.02 + n % 4 / 1000, 1.0))
    assert ask() == FIRST
    assert rounds == [4]


def test_the_rounds_and_their_total_time_are_bounded(machine):
    def undecided(n):  # each doubling of the number of rounds has another winner
        doubling = (n + 1).bit_length()
        return [4.0**-doubling * (1 + (doubling + k) % 2) for k in range(2)]

    rounds = machine(undecided)
    ask()
    machine(lambda _: (1000, 1000))
    ask(10_000)
    assert rounds == [32, 2]


def test_a_noisy_measurement_is_provisional_until_a_later_process_confirms_it(machine):
    processes = [(busy, FIRST), (idle, SECOND), (busy, SECOND), (idle, SECOND), (busy, SECOND)]
    for milliseconds, selected in processes:
        rounds = machine(milliseconds)
        cache = PlanCache(NET)
        assert ask(cache=cache) == ask(cache=cache) == selected
        timing_cache.forget()
    (kept,) = json.loads(timing_cache.file().read_text(encoding="utf-8"))["timings"].values()
    assert kept["spread"] == 0
    assert kept["rounds"] == sum(rounds)
    assert rounds == [32, 4, 32, 4]  # in the fifth process, nothing is measured


def test_timings_that_never_agree_are_not_measured_for_ever(machine):
    rounds = machine(lambda n: busy(n + 10 * len(rounds)))
    for _ in range(100):
        ask()
        timing_cache.forget()
    assert sum(rounds) == 128


@pytest.mark.parametrize(("disturbed", "use"), [(1.5, 16), (3.0, 256)])
def test_the_selected_plan_is_occasionally_timed_against_another(machine, disturbed, use):
    """A program may interfere in all rounds of a measurement, in the same way."""
    cache = PlanCache(NET)
    rounds = machine(lambda _: (1.1, disturbed))  # the second or the fourth fastest
    assert ask(cache=cache) == FIRST
    machine(idle)
    uses = [ask(cache=cache) for _ in range(2, 301)]
    assert uses == [FIRST] * (use - 2) + [SECOND] * (301 - use)
    assert rounds == [4] * 5  # at uses 1, 16, 64 and 256; once of two plans and then of all
    timing_cache.forget()
    assert ask() == SECOND
    assert rounds == [4] * 5


def test_a_long_step_is_timed_on_fewer_vectors(monkeypatch):
    drawn, randn = [], torch.randn

    def spy(*shape, **options):
        drawn.append(shape)
        return randn(*shape, **options)

    monkeypatch.setattr(torch, "randn", spy)
    monkeypatch.setattr(plan_selection, "_MOST", 2**13)
    plan_selection._stepper(PlanCache(NET), 10**6, torch.float32, CPU)
    assert drawn[0] == (2**7, 64)


def test_nothing_is_timed_under_fake_tensors(timed):
    with FakeTensorMode():
        rotate = Orthogonal(NET, plan="measure")
        x = torch.empty(5000, 64, requires_grad=True)
        for _ in range(20):
            rotate(x).sum().backward()
    assert not timed


def test_without_memory_for_timing_the_plan_stays_the_same(monkeypatch, timed):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("full")

    cache = PlanCache(NET)
    with monkeypatch.context() as patch:
        patch.setattr(plan_selection, "_stepper", full)
        assert {ask(cache=cache) for _ in range(15)} == {candidates(NET, 8192)[0].ends}
    assert ask(cache=cache) == slowest_worth_trying(8192)


def test_nothing_is_timed_while_a_cuda_graph_is_captured(monkeypatch, timed):
    cache = PlanCache(NET)
    with monkeypatch.context() as patch:
        patch.setattr(plan_selection, "_capturing", lambda _: True)
        assert {ask(cache=cache) for _ in range(20)} == {candidates(NET, 8192)[0].ends}
    assert not timed
    assert ask(cache=cache) == slowest_worth_trying(8192)


def test_every_plan_has_the_same_values_and_gradients(timed):
    x = torch.randn(5000, 64, dtype=torch.float64, requires_grad=True)
    results = []
    for plan in ("measure", "auto", "reference"):
        q = layer(NET, 0, plan=plan)
        y = q(x)
        results.append([y, *torch.autograd.grad(y.sin().sum(), [x, *q.generators])])
        assert plan in q.explain(5000) or plan != "reference"
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    assert len(timed) == 1


@given(networks(max_width=16, max_depth=5), st.integers(1, 5000))
def test_explain_lists_every_candidate(net, tokens):
    text = plan_selection.explain(PlanCache(net), tokens)
    assert "→ " in text
    assert "nothing was measured" in text
    for candidate in candidates(net, tokens):
        assert str(candidate) in text


@given(networks(max_width=20, max_depth=5), st.integers(1, 5000), st.integers(1, 5000))
def test_explain_says_whether_the_weight_is_rotated(net, tokens, outputs):
    weight = rotates_weight(net, tokens, outputs)
    text = plan_selection.explain(PlanCache(net), tokens, outputs)
    assert ("rotating the layer's weight" in text) == weight


def test_explain_lists_the_measured_times(timed):
    cache = PlanCache(NET)
    text = plan_selection.explain(cache, 5000, plan="measure")
    times = plan_selection.measured(cache, 5000, torch.float32, CPU)
    best = min(times, key=lambda candidate: times[candidate])
    assert "measured here" in text
    assert f"→ {best}" in text
    assert all(f"{1e3 * seconds:.3g}" in text for seconds in times.values())
    assert len(timed) == 1


@pytest.mark.parametrize("tokens", [-1, 1.5, "many"])
def test_explain_refuses_invalid_numbers_of_vectors(tokens):
    with pytest.raises(StructmatError, match="tokens"):
        plan_selection.explain(PlanCache(sm.butterfly(4)), tokens)


def test_explain_names_the_extra_for_compiled_kernels():
    """If the extra is missing and would help."""
    hint = 'pip install "structmat[cpu]"'
    assert hint in plan_selection.explain(PlanCache(NET), 100)
    assert hint not in plan_selection.explain(PlanCache(sm.butterfly(1024, block=512)), 100)
