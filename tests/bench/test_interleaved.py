import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from structmat.bench.interleaved import MOST_ROUNDS, interleaved, relative

names = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=5, unique=True)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9), st.floats(0.1, 10))
def test_a_slow_round_does_not_change_ratios(loads, ratio):
    times = {"lora": loads, "boft": [ratio * load for load in loads]}
    assert relative(times) == {"lora": 1.0, "boft": pytest.approx(ratio)}


def test_without_lora_there_are_no_ratios():
    assert relative({"boft": [1.0]}) == {}


@given(names, st.integers(1, 5), st.integers(0, 3))
def test_steps_are_interleaved_and_warm_up_rounds_are_discarded(labels, rounds, warmup):
    order, steps, now = [], [], itertools.count()
    times = interleaved(
        {name: lambda name=name: order.append(name) for name in labels},
        rounds=rounds,
        warmup=warmup,
        on_step=lambda: steps.append(1),
        clock=lambda: float(next(now)),
    )
    assert order == labels * (warmup + rounds)
    assert times == {name: [1.0] * rounds for name in labels}  # the clock ticks at every look
    assert len(steps) == len(order)


def test_one_warm_up_round_is_the_default():
    order = []
    interleaved({"a": lambda: order.append("a")}, rounds=2)
    assert len(order) == 1 + 2


def test_slow_warm_up_rounds_do_not_count():
    clock = [0.0]

    def tuned(calls=itertools.count()):  # noqa: B008 - one count for all calls
        clock[0] += 100.0 if next(calls) < 3 else 1.0

    times = interleaved({"a": tuned}, rounds=4, seconds=4, warmup=3, clock=lambda: clock[0])
    assert times == {"a": [1.0] * 4}


@settings(deadline=None)
@given(names, st.integers(1, 5), st.integers(0, 200), st.integers(0, 3))
def test_rounds_continue_until_the_time_is_spent(labels, rounds, seconds, warmup):
    now = itertools.count()
    times = interleaved(
        dict.fromkeys(labels, lambda: None),
        rounds=rounds,
        seconds=seconds,
        warmup=warmup,
        clock=lambda: float(next(now)),
    )
    assert {len(kept) for kept in times.values()} == {max(rounds, -(-seconds // len(labels)))}


def test_rounds_end_even_if_the_clock_stands_still():
    times = interleaved({"a": lambda: None}, rounds=1, seconds=1.0, clock=lambda: 0.0)
    assert len(times["a"]) == MOST_ROUNDS
