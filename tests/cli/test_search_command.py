"""`structmat search` runs, shows and saves a search."""

import json
import sys

import pytest

import structmat as sm
from structmat.cli import main
from structmat.search.objectives import objective


def run(capsys, *arguments):
    code = main(["search", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def read(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


BASIC = ["--width", "8", "--objective", "parameters", "--require", "dense"]


def test_the_example_runs_and_can_be_continued_and_shown(capsys, tmp_path):
    storage = ["--storage", str(tmp_path / "search.journal")]
    code, out, err = run(capsys, *BASIC, "--trials", "12", *storage)
    assert (code, err) == (0, "")
    found = sm.search(8, "parameters", require="dense", trials=20)
    data = read(capsys, *BASIC, "--trials", "20", *storage)
    assert data == found.to_dict()
    assert data["trials"]["finished"] == 20
    assert read(capsys, "--show", *storage) == data
    assert run(capsys, "--show", *storage)[1] == f"{found}\n"
    first = sm.search(8, "parameters", require="dense", trials=12)
    assert out == f"{first}\n"


def test_the_best_network_and_the_picture_are_saved(capsys, tmp_path):
    best, picture = tmp_path / "best.json", tmp_path / "front.svg"
    command = ["--width", "8", "--objective", "parameters", "--maximize", "depth", "--trials", "8"]
    code, out, err = run(capsys, *command, "--save", str(best), "--plot", str(picture))
    assert (code, err) == (0, "")
    assert out.endswith(f"network: {best}\npicture: {picture}\n")
    result = sm.search(
        8,
        ["parameters", objective("depth", direction="maximize")],
        trials=8,
    )
    assert sm.network(best) == result.best.network
    assert picture.read_bytes().startswith(b"<?xml")
    assert main(["show", str(best)]) == 0
    assert "parameters" in capsys.readouterr().out


FUNCTIONS = """
import structmat as sm

def my_function(net):
    if net.depth == 3:
        raise ValueError("three stages")
    return net.depth

def is_small(net):
    return net.parameters < 40

def my_networks(width, rng, best):
    return sm.random(width, block=2, depth=int(rng.integers(1, 5)), rng=int(rng.integers(100)))
"""


def test_functions_of_the_user_are_loaded(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "functions_of_a_user.py"
    path.write_text(FUNCTIONS, encoding="utf-8")
    storage = ["--storage", str(tmp_path / "a")]
    command = "--width 6 --objective my_function --require is_small --propose my_networks"
    try:
        found = read(capsys, *command.split(), "--trials", "12", "--load", str(path), *storage)
    finally:
        sys.modules.pop("functions_of_a_user")
    assert found["objectives"] == [{"name": "my_function", "direction": "minimize"}]
    assert found["requirements"] == ["is_small"]
    assert found["trials"]["failed"] > 0
    assert {row["source"] for row in found["front"]} == {"my_networks"}
    assert {row["values"]["my_function"] for row in found["front"]} == {1.0}
    assert read(capsys, "--show", *storage) == found  # without the file


def test_an_interruption_prints_what_was_found(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "interrupted_after_three.py"
    path.write_text(
        "calls = []\n\ndef mine(net):\n    calls.append(net)\n    if len(calls) == 4:\n"
        "        raise KeyboardInterrupt\n    return net.depth\n",
        encoding="utf-8",
    )
    command = ["--width", "8", "--objective", "mine", "--load", str(path)]
    for storage, hint in (
        ([], ""),
        (
            ["--storage", str(tmp_path / "a.journal")],
            "the trials are stored; repeat the command to continue the search\n",
        ),
    ):
        try:
            code, out, err = run(capsys, *command, *storage)
        finally:
            sys.modules.pop("interrupted_after_three")
        assert (code, err) == (130, f"{hint}structmat search: interrupted\n")
        assert "interrupted." in out


def test_a_misspelt_function_of_a_loaded_file_is_recognised(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "lengths_of_wires.py"
    path.write_text("def wire_length(net):\n    return net.width\n", encoding="utf-8")
    try:
        command = ["--width", "8", "--objective", "wire_lenght", "--load", str(path)]
        code, out, err = run(capsys, *command)
    finally:
        sys.modules.pop("lengths_of_wires")
    assert (code, out) == (2, "")
    assert "objective 'wire_lenght': unknown; did you mean wire_length?" in err


def test_an_objective_can_be_minimised_against_its_direction(capsys):
    found = read(capsys, "--width", "4", "--minimize", "dimension", "--trials", "4")
    assert found["objectives"] == [{"name": "dimension", "direction": "minimize"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "--width N is missing; to continue a stored search, repeat all its options"),
        ("--width 8", "--objective NAME is missing"),
        ("--show", "--show reads a storage; give --storage FILE or URL, too"),
        ("--show --storage none.journal", "none.journal: there is no such journal"),
        ("--width 8 --objective my_function", "functions of a file given with --load"),
        ("--width 8 --objective parameters,depth", "by repeating the option"),
        ("--width 8 --objective fit_error", "on the command line: --target FILE.npy"),
        ("--width 8 --objective depth --require dense --require parameters<=3", "at least 12"),
        (
            "--width 8 --objective depth --save best.txt",
            "--save best.txt: the suffix must be .json",
        ),
        ("--width 8 --objective depth --plot a.pdf", "--plot a.pdf: the suffix must be .svg or"),
        ("--width 8 --objective depth --family butterfly(", "'butterfly(' cannot be parsed"),
        ("--width 8 --objective depth --propose family", "proposals='family': each must be"),
        ("--width 4 --objective fit_error --target no.npy", "--target no.npy: not a matrix saved"),
        ("--width 8 --objective depth --trials 0", "trials=0: trials must be an integer ≥ 1"),
        ("--width 8 --objective depth --storage no/a", "no/a: cannot read or write (No such file"),
    ],
)
def test_bad_input_raises_an_error_of_one_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("structmat search: ")
    assert message in err
    assert err.count("\n") == 1
