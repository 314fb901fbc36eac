import json
import re
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import structmat as sm
from structmat.bench import layer_benchmark
from structmat.bench.candidates import ALONE, Candidate, alone, named, topology
from structmat.bench.layer_benchmark import ROUNDS, measure
from structmat.bench.measurements import Benchmark, Row, Spread, _milliseconds
from structmat.errors import StructmatError

NAMES = ("frozen", "lora", "dense")


def measured(specs=("monarch",), **options):
    chosen = [named(name) for name in NAMES] + [topology(spec) for spec in specs]
    return measure(chosen, **{"widths": [16], "tokens": [3], "seconds": 0} | options)


def test_every_combination_has_a_row():
    found = measured(widths=[16, 32], tokens=[1, 5], outputs=8)
    subjects = [(f"{w}→8", t) for w in (16, 32) for t in (1, 5)]
    assert [(r.subject, r.tokens, r.name) for r in found.rows] == [
        (*subject, name) for subject in subjects for name in (*NAMES, "monarch")
    ]
    for row in found.rows:
        assert row.refused is None
        assert row.forward.rounds == row.step.rounds == ROUNDS
        for spread in (row.forward, row.step):
            assert 0 < spread.minimum <= spread.low <= spread.median <= spread.high
        assert row.memory > 0
        assert (row.to_frozen == 1.0) or row.name != "frozen"
        assert (row.to_lora == 1.0) or row.name != "lora"


def test_trainable_parameters_are_counted():
    rows = {row.name: row.parameters for row in measured().rows}
    assert rows == {
        "frozen": 0,
        "lora": 8 * (16 + 16),
        "dense": 16 * 16,
        "monarch": sm.monarch(16).parameters,
    }


def test_an_unsupported_width_gives_a_row_with_the_reason():
    found = measured(["butterfly(block=4)", "mixed_radix"], widths=[12])
    rows = {row.name: row for row in found.rows}
    assert "width must be 4·2^k" in rows["butterfly(block=4)"].refused
    assert rows["butterfly(block=4)"].step is None
    assert rows["mixed_radix"].step is not None
    assert "butterfly(block=4): butterfly(width=12, block=4): width must" in str(found)


def test_bfloat16_is_measured_in_bfloat16():
    found = measured(dtype="bfloat16")
    single, half = ({r.name: r for r in f.rows} for f in (measured(), found))
    assert half["frozen"].memory * 2 == single["frozen"].memory
    assert "bfloat16" in str(found)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dtype": "float8"}, "dtype='float8'"),
        ({"widths": [0]}, "width=0"),
        ({"outputs": -1}, "outputs=-1"),
        ({"tokens": [0]}, "tokens=0"),
        ({"seconds": float("nan")}, "seconds=nan"),
        ({"warmup": -1}, "warmup=-1"),
    ],
)
def test_invalid_sizes_are_rejected(options, reason):
    with pytest.raises(StructmatError, match=reason):
        measured(**options)


def test_the_record_is_json_with_the_command():
    found = measured(command="structmat bench monarch", notes=["a note", "a note"])
    read = json.loads(json.dumps(found.to_dict()))
    assert (read["format"], read["version"]) == ("structmat.bench", 1)
    assert read["command"] == "structmat bench monarch"
    assert read["notes"] == ["a note"]
    assert {"cores", "threads", "device", "model", "versions"} <= set(read["machine"])
    assert {"structmat", "torch", "numpy"} <= set(read["machine"]["versions"])
    assert read["setting"] == {
        "dtype": "float32",
        "optimizer": "SGD",
        "seconds": 0,
        "warmup": 1,
        "busy": False,
    }
    assert set(read["rows"][0]) == set(Row.__dataclass_fields__)
    assert set(read["rows"][0]["step"]) == {"median", "minimum", "low", "high", "rounds"}


@pytest.mark.parametrize(
    ("warmup", "said"), [(0, "after 0 rounds"), (1, "after 1 round of"), (3, "after 3 rounds")]
)
def test_warm_up_rounds_are_run_and_recorded(warmup, said):
    runs = []

    class Counted(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            runs.append(torch.is_grad_enabled())
            return self.layer(x)

    found = measure(
        [Candidate("counted", "counted", Counted)], widths=[4], tokens=[2], seconds=0, warmup=warmup
    )
    assert runs.count(False) == warmup + ROUNDS
    assert runs.count(True) == warmup + ROUNDS + 1  # and one for the memory
    assert found.rows[0].step.rounds == ROUNDS
    assert said in str(found)
    assert found.to_dict()["setting"]["warmup"] == warmup


def test_the_table_contains_times_and_parameters():
    found = measured()
    text = str(found)
    assert text.startswith("16→16, 3 tokens, float32\n")
    for row in found.rows:
        line = next(line for line in text.splitlines() if line.startswith(row.label))
        for spread in (row.forward, row.step):
            cells = [_milliseconds(t) for t in (spread.median, spread.minimum)]
            assert "  ".join(cells) in re.sub("  +", "  ", line)
        assert f"{row.parameters:,}" in line


def test_everything_is_measured_beside_a_busy_core(monkeypatch):
    occupied, seen = [], []

    @contextmanager
    def busy_core():
        occupied.append(1)
        yield
        occupied.clear()

    class Watched(nn.Module):
        def forward(self, x):
            seen.append(bool(occupied))
            return x

    monkeypatch.setattr(layer_benchmark, "busy_core", busy_core)
    watched = [Candidate("watched", "watched", lambda _: Watched())]
    for busy in (True, False):
        found = measure(watched, widths=[4], tokens=[2], seconds=0, busy=busy)
        assert set(seen) == {busy}
        assert found.setting["busy"] is busy
        assert ("while another program occupied one core" in str(found)) is busy
        seen.clear()


def test_rotations_alone_are_compared_by_their_forward_pass():
    chosen = [ALONE["copy"], ALONE["lora"], ALONE["dense"], alone(topology("monarch"))]
    found = measure(chosen, widths=[16], tokens=[3], seconds=0, alone=True)
    rows = {row.name: row for row in found.rows}
    assert list(rows) == ["copy", "lora", "dense", "monarch"]
    for row in rows.values():
        assert (row.subject, row.step, row.memory) == ("rotation of 16 wires", None, None)
        assert row.to_frozen is None
        assert row.forward.rounds == ROUNDS
    assert rows["copy"].to_copy == rows["lora"].to_lora == 1.0
    assert {n: r.parameters for n, r in rows.items()} == {
        "copy": 0,
        "lora": 8 * (16 + 16),
        "dense": 16 * 16,
        "monarch": sm.monarch(16).parameters,
    }
    assert [name for name, row in rows.items() if row.plan] == ["monarch"]
    title, header, *lines = str(found).splitlines()
    assert title == "rotation of 16 wires, 3 tokens, float32"
    assert header.split("  ")[-2:] == ["vs copy", "vs LoRA"]
    assert "step" not in header
    assert f"monarch: {rows['monarch'].plan.splitlines()[0]}" in lines
    assert found.bars()["copy of the vectors"] == rows["copy"].to_lora


def test_without_lora_a_rotation_alone_is_compared_with_a_copy():
    found = measure([ALONE["copy"]], widths=[4], tokens=[2], seconds=0, alone=True)
    assert (found.reference, found.bars()) == ("copy", {"copy of the vectors": 1.0})


def test_a_forward_pass_runs_in_evaluation_mode_and_a_step_in_training_mode():
    modes = []

    class Watched(nn.Module):
        def forward(self, x):
            modes.append((torch.is_grad_enabled(), self.training))
            return x

    measure([Candidate("a", "a", lambda _: Watched())], widths=[4], tokens=[2, 3], seconds=0)
    assert set(modes) == {(False, False), (True, True)}


def record(rows):
    return Benchmark(tuple(rows), {"dtype": "float32"}, {}, "", "")


@settings(deadline=None)
@given(st.integers(1, 3), st.booleans())
def test_bars_are_relative_to_lora_if_measured(settings_, with_lora):
    took = Spread(1.0, 1.0, 1.0, 1.0, 3)
    rows = [
        Row("8→8", tokens, "a", "A", step=took, to_frozen=2.0, to_lora=1.5 if with_lora else None)
        for tokens in range(1, settings_ + 1)
    ]
    rows.append(Row("8→8", 1, "b", "B", refused="too large"))
    found = record(rows)
    assert found.reference == ("LoRA" if with_lora else "frozen")
    assert set(found.bars().values()) == {1.5 if with_lora else 2.0}
    assert len(found.bars()) == settings_
    assert ("A" in found.bars()) is (settings_ == 1)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=20))
def test_quartiles_lie_within_the_range(seconds):
    spread = Spread.of(seconds)
    assert (
        min(seconds) == spread.minimum <= spread.low <= spread.median <= spread.high <= max(seconds)
    )
    assert spread == Spread.of(seconds[::-1])
