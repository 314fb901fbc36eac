"""Plans are measured once, cached on disk, and do not change results."""

import json
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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

    def times(cache, plans, tokens, dtype, device):
        calls.append((tokens, dtype))
        return [float(len(plans) - k) for k in range(len(plans))]

    monkeypatch.setattr(plan_selection, "_timed", times)
    yield calls
    timing_cache.forget()


def ask(tokens=5000, *, measure=True, dtype=torch.float32):
    return plan_selection.selected(PlanCache(NET), tokens, dtype, CPU, measure=measure)


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
    assert timed[1:] == [(8192, torch.float64), (2**18, torch.float32)]  # of 64 wires at most


def test_a_later_process_reads_the_measurements(timed):
    first = ask()
    timing_cache.forget()  # as a new process has nothing in memory
    assert ask() == first
    assert len(timed) == 1
    data = json.loads(timing_cache.file().read_text(encoding="utf-8"))
    assert data["format"] == "structmat.plans"
    (name,) = data["plans"]
    for part in ("8192", "float32", f"torch {torch.__version__}", "threads"):
        assert part in name


def test_nothing_is_measured_for_few_vectors_or_deterministic_runs(timed):
    assert ask(100) == candidates(NET, 128)[0].ends
    assert ask(measure=False) == candidates(NET, 8192)[0].ends
    torch.use_deterministic_algorithms(mode=True)
    try:
        assert ask() == candidates(NET, 8192)[0].ends
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

    monkeypatch.setattr(plan_selection, "_timed", refuse)
    monkeypatch.setattr(timing_cache, "recall", refuse)
    model = adapt(torch.nn.Sequential(torch.nn.Linear(64, 64)), NET)
    assert model[0].rotation.plan == Orthogonal(NET).plan == "auto"
    x = torch.randn(2 * plan_selection.SMALL // 64, 64, requires_grad=True)
    for rotate in (Orthogonal(NET), model):
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
        '{"format": "structmat.plans", "version": 99, "plans": {"a": []}}',
        '{"format": "structmat.plans", "version": 1, "plans": {"a": [{"ends": "?"}]}}',
        '{"format": "structmat.plans", "version": 1, "plans": 7}',
        # An integer that no float holds.
        '{"format": "structmat.plans", "version": 1, "plans": {"a": [{"ends": [1], "seconds": 1'
        + "0" * 400
        + "}]}}",
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
        assert timing_cache.file() == tmp_path / ".cache" / "structmat" / "plans.json"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert timing_cache.file() == tmp_path / "caches" / "structmat" / "plans.json"
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
    best = min(times, key=lambda plan: times[plan])
    assert ask() == best.ends
    text = Orthogonal(NET, plan="measure").explain(5000)
    assert "measured here" in text
    assert f"→ {best}" in text
    timing_cache.forget()


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
    assert ("the layer's weight is rotated" in text) == weight


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
