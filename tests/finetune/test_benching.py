"""`structmat bench`: measurements, output and rejected input."""

import json

import pytest

from structmat.bench import candidates
from structmat.bench.candidates import AGAINST, ALONE
from structmat.cli import bench, main

QUICK = ("--width", "32", "--tokens", "4", "--seconds", "0")


def run(capsys, *arguments):
    code = main(["bench", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_default_is_all_installed_libraries_and_two_networks(capsys):
    code, out, _ = run(capsys, *QUICK, "--json")
    found = json.loads(out)
    assert code == 0
    installed = [name for name, candidate in AGAINST.items() if not candidate.missing]
    assert {"frozen", "lora", "oft", "boft", "hra", "road", "psoft", "dense"} <= set(installed)
    assert [row["name"] for row in found["rows"]] == [*installed, *bench.SPECS]
    assert {(row["subject"], row["tokens"]) for row in found["rows"]} == {("32→32", 4)}
    assert all(row["step"] or row["refused"] for row in found["rows"])
    assert found["command"] == f"structmat bench {' '.join(QUICK)} --json"


def test_warm_up_rounds_are_reported(capsys):
    _, out, _ = run(capsys, *QUICK, "--against", "frozen", "--warmup", "3")
    assert "medians and minima (min) over rounds, after 3 rounds of warm-up; " in out


def test_load_on_one_core_is_reported(capsys):
    _, out, _ = run(capsys, *QUICK, "--against", "frozen", "--busy")
    assert "of warm-up, while another program occupied one core; " in out


def test_a_rotation_alone_is_compared_with_a_copy(capsys, tmp_path):
    picture = tmp_path / "times.svg"
    arguments = ("monarch", *QUICK, "--rotation", "--against", "copy,dense")
    code, out, err = run(capsys, *arguments, "--save", str(picture))
    assert (code, err) == (0, "")
    assert out.startswith("rotation of 32 wires, 4 tokens, float32\n")
    assert "\nmonarch: 32 wires, 2 stages, 4 vectors of 4-byte numbers" in out
    assert "relative to a copy of the vectors" in picture.read_text("utf-8")
    _, out, _ = run(capsys, *QUICK, "--rotation", "--json")
    found = json.loads(out)
    installed = [name for name, candidate in ALONE.items() if not candidate.missing]
    assert [row["name"] for row in found["rows"]] == [*installed, *bench.SPECS]
    assert found["setting"]["busy"] is False


def test_each_candidate_is_measured_once_in_the_given_order(capsys):
    specs = ("monarch", "mixed_radix( largest=4 )", "monarch()")
    _, out, _ = run(capsys, *specs, *QUICK, "--against", "lora, frozen,lora", "--json")
    names = [row["name"] for row in json.loads(out)["rows"]]
    assert names == ["lora", "frozen", "monarch", "mixed_radix(largest=4)"]


def test_the_output_has_the_table_the_machine_and_the_plot_path(capsys, tmp_path):
    picture = tmp_path / "steps.svg"
    code, out, err = run(capsys, "monarch", *QUICK, "--against", "frozen", "--save", str(picture))
    assert (code, err) == (0, "")
    assert out.startswith("32→32, 4 tokens, float32\ncandidate ")
    assert "cores" in out
    assert "torch 2" in out
    assert out.endswith(f"picture: {picture}\n")
    assert "<svg" in picture.read_text("utf-8")


@pytest.mark.parametrize("form", [(), ("--json",), ("--rotation",)])
def test_if_every_network_is_refused_an_error_follows_the_references(capsys, form):
    against = "copy" if form == ("--rotation",) else "frozen"
    options = ("--width", "12", *QUICK[2:], "--against", against)
    code, out, err = run(capsys, "benes", *options, *form)
    assert code == 2
    assert "no network was measured: benes: " in err
    assert "width must be 2^n" in err
    assert ("copy of the vectors" if form == ("--rotation",) else "frozen") in out
    code, _, err = run(capsys, "benes", "monarch", *options, *form)
    assert (code, err) == (0, "")


def test_a_missing_library_is_noted_or_if_requested_an_error(capsys, monkeypatch):
    absent = candidates.Candidate("lora", "LoRA", lambda layer: layer, "no_such_library")
    few = {"frozen": AGAINST["frozen"], "lora": absent}
    monkeypatch.setattr(candidates, "AGAINST", few)
    code, out, _ = run(capsys, "monarch", *QUICK)
    assert code == 0
    assert "LoRA: no_such_library is not installed\n" in out
    code, out, err = run(capsys, "monarch", *QUICK, "--against", "lora")
    assert (code, out) == (2, "")
    assert "lora needs no_such_library, which is not installed" in err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["butterfli"], "did you mean butterfly"),
        (["--against", "frozen,lore"], "no candidate 'lore'; did you mean lora?"),
        (["--width", "0"], "width=0"),
        (["--tokens", "-1"], "tokens=-1"),
        (["--seconds", "nan"], "--seconds nan: it must be a finite number"),
        (["--warmup", "-1"], "--warmup -1: it must be an integer"),
        (["--save", "steps.pdf"], "the suffix must be"),
        (["--width", "8", "--model"], "--width applies to a single layer; omit it with --model"),
        (["--rotation", "--model"], "--rotation applies to a single layer; omit it with --model"),
        (["--rotation", "--outputs", "8"], "--outputs applies to a layer; omit it with --rotation"),
        (["--rotation", "--against", "oft"], "no candidate 'oft'"),
        (["--against", "boft", "--model"], "unknown candidate 'boft' for a model"),
        (["--model", "/no/such/place"], "no such directory"),
    ],
)
def test_invalid_input_is_a_one_line_error(capsys, arguments, reason):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert reason in err


def test_without_measurements_there_is_a_one_line_error(capsys, tmp_path):
    picture = tmp_path / "steps.svg"
    widths = ("--width", "12", "20", "--tokens", "4", "8", "--seconds", "0")
    code, out, err = run(capsys, "benes", *widths, "--against", "", "--json")
    assert (code, out) == (2, "")
    assert err.startswith("structmat bench: nothing was measured: benes: benes(width=12): width ")
    assert (err.count("\n"), err.count("width=12"), err.count("width=20")) == (1, 1, 1)
    with_frozen = ("benes", *widths, "--against", "frozen", "--save", str(picture))
    assert run(capsys, *with_frozen)[0] == 2
    assert picture.is_file()


def test_a_plot_needs_at_least_two_candidates(capsys, tmp_path):
    picture = tmp_path / "steps.png"
    code, out, err = run(capsys, *QUICK, "--save", str(picture), "--against", "dense")
    assert (code, out, picture.is_file()) == (2, "", False)
    assert "add lora or frozen to --against" in err


def test_an_unsupported_width_is_noted_below_the_table_and_not_plotted(capsys, tmp_path):
    picture = tmp_path / "steps.svg"
    specs = ("butterfly(block=6)", "monarch")
    arguments = [*specs, *QUICK, "--against", "frozen", "--save", str(picture)]
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert "\nbutterfly(block=6): butterfly(width=32, block=6): " in out
    assert picture.is_file()


def test_a_model_is_timed_on_a_batch_of_the_docstring_task(capsys, monkeypatch, tiny_model, task):
    monkeypatch.setattr("structmat.finetune.docstring_task.docstring_task", lambda: task)
    quick = ("--seconds", "0", "--warmup", "2", "--busy", "--json")
    code, out, _ = run(capsys, "monarch", *quick, "--model", str(tiny_model))
    found = json.loads(out)
    assert code == 0
    assert [row["name"] for row in found["rows"]] == ["head", "lora", "peft-oft", "monarch"]
    assert {row["subject"] for row in found["rows"]} == {tiny_model.name}
    assert found["setting"]["optimizer"] == "AdamW"
    assert found["setting"]["warmup"] == 2
    assert found["setting"]["busy"] is True
