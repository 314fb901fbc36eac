import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from structmat.bench.timing import MOST_ROUNDS, interleaved, relative

names = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=5, unique=True)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9), st.floats(0.1, 10))
def test_what_slows_a_whole_round_changes_no_ratio(loads, ratio):
    times = {"lora": loads, "boft": [ratio * load for load in loads]}
    assert relative(times) == {"lora": 1.0, "boft": pytest.approx(ratio)}


def test_without_the_reference_there_are_no_ratios():
    assert relative({"boft": [1.0]}) == {}


@given(names, st.integers(1, 5))
def test_steps_take_turns_and_the_first_round_is_not_kept(labels, rounds):
    order, told, now = [], [], itertools.count()
    times = interleaved(
        {name: lambda name=name: order.append(name) for name in labels},
        rounds=rounds,
        on_step=lambda: told.append(1),
        clock=lambda: float(next(now)),
    )
    assert order == labels * (rounds + 1)
    assert times == {name: [1.0] * rounds for name in labels}  # the clock ticks at every look
    assert len(told) == len(order)


@settings(deadline=None)
@given(names, st.integers(1, 5), st.integers(0, 200))
def test_rounds_go_on_until_the_time_is_spent(labels, rounds, seconds):
    now = itertools.count()
    times = interleaved(
        dict.fromkeys(labels, lambda: None),
        rounds=rounds,
        seconds=seconds,
        clock=lambda: float(next(now)),
    )
    assert {len(kept) for kept in times.values()} == {max(rounds, -(-seconds // len(labels)))}


def test_rounds_end_even_where_no_time_passes():
    times = interleaved({"a": lambda: None}, rounds=1, seconds=1.0, clock=lambda: 0.0)
    assert len(times["a"]) == MOST_ROUNDS
