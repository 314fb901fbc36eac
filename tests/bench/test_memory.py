import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from structmat.bench.memory import peak


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_the_peak_is_the_largest_simultaneous_memory(sizes):
    def together():
        return [torch.empty(1024 * size) for size in sizes]

    def in_turn():
        for size in sizes:
            torch.empty(1024 * size)

    assert peak(together) == 4096 * sum(sizes)
    assert peak(in_turn) == 4096 * max(sizes)


def test_memory_allocated_before_is_not_counted():
    held = [torch.empty(10**6)]
    assert peak(held.clear) == 0
    assert peak(lambda: None) == 0


def test_other_devices_have_no_memory_measurement():
    assert peak(lambda: None, "mps") is None


def test_the_profiler_writes_nothing_to_stderr(capfd):
    peak(lambda: torch.empty(10))
    assert capfd.readouterr() == ("", "")


def test_stderr_is_restored_after_an_error_in_the_step(capfd):
    with pytest.raises(ZeroDivisionError, match="division"):
        peak(lambda: 1 // 0)
    print("here", file=open(2, "w", closefd=False))  # noqa: SIM115
    assert capfd.readouterr().err == "here\n"
