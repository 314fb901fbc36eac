import pytest
from hypothesis import given
from hypothesis import strategies as st

from structmat.finetune.methods import named
from structmat.finetune.models import pretrained
from structmat.finetune.timing import relative, seconds_a_step
from structmat.finetune.training import Recipe


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9), st.floats(0.1, 10))
def test_what_slows_a_whole_round_changes_no_ratio(loads, ratio):
    times = {"lora": loads, "boft": [ratio * load for load in loads]}
    assert relative(times) == {"lora": 1.0, "boft": pytest.approx(ratio)}


def test_without_the_reference_there_are_no_ratios():
    assert relative({"boft": [1.0]}) == {}


def test_every_method_is_timed_in_every_round(tiny_model, task):
    steps = []
    seconds = seconds_a_step(
        [named("lora"), named("boft")],
        pretrained(str(tiny_model)),
        task,
        recipe=Recipe(),
        rounds=2,
        on_step=lambda: steps.append(1),
    )
    assert {name: len(times) for name, times in seconds.items()} == {"lora": 2, "boft": 2}
    assert all(time > 0 for times in seconds.values() for time in times)
    assert len(steps) == 2 * 3  # the first round warms up
