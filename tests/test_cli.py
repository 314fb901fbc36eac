import csv
import json
import os
import subprocess
import sys

import pytest

import structmat as sm
from structmat import cli
from structmat.cli import FAMILIES, WIDTHS, main


def run(capsys, *arguments):
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def read(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_list_has_every_family_with_its_widths(capsys):
    rows = read(capsys, "list")
    assert [row["family"] for row in rows] == [entry.name for entry in sm.catalogue()]
    code, out, _ = run(capsys, "list")
    assert code == 0
    for entry in sm.catalogue():
        assert f"{entry.name}(" in out
        assert f"widths: {entry.widths}" in out
        assert entry.summary in out


def test_show_reports_and_explains(capsys):
    spec = "butterfly(block=8, depth=2)"
    net = sm.parse(spec)(64)
    found = read(capsys, "show", spec, "--width", "64")
    assert found == sm.report(net).to_dict() | {"spec": spec}
    _, out, _ = run(capsys, "show", spec, "--width", "64")
    assert str(sm.report(net)) in out
    assert sm.schedule(net).explain() in out


def test_compare_has_a_row_for_every_network_and_width(capsys):
    rows = read(capsys, "compare", "shuffle(block=4)", "benes", "--width", "8", "12")["rows"]
    assert [(row["network"], row["width"]) for row in rows] == [
        ("shuffle(block=4)", 8),
        ("shuffle(block=4)", 12),
        ("benes", 8),
        ("benes", 12),
    ]
    assert "width must be 2^n" in rows[3]["refused"]


def test_compare_by_default_shows_what_the_demo_finetunes_with(capsys):
    rows = read(capsys, "compare")["rows"]
    assert {row["width"] for row in rows} == set(WIDTHS)
    assert {row["network"] for row in rows} >= set(FAMILIES)
    assert all(row["refused"] is None for row in rows)
    code, out, _ = run(capsys, "compare")
    assert code == 0
    assert "torus" in out


WRONG = [
    (["show", "butterfly", "--width", "48"], "nearest are 32 and 64"),
    (["show", "buterfly", "--width", "48"], "did you mean butterfly"),
    (["show", "butterfly(block=__import__('os'))", "--width", "8"], "must be a literal"),
    (["show", "butterfly", "--width", "-4"], "width must be an integer, at least 1"),
    (["compare", "shuffle(blok=4)"], "no option 'blok'; did you mean block"),
    (["finetune", "--compare", "lor"], "did you mean lora"),
    (["finetune", "--compare", ","], "there must be some"),
    (["finetune", "--topology", "benes(3)"], "every option is written name=value"),
    (["finetune", "--topology", "benes", "--rate", "nan"], "a learning rate is a positive number"),
    (["finetune", "--seeds", "0"], "seeds=0: seeds must be an integer, at least 1"),
    (["finetune", "--epochs", "0"], "epochs=0: epochs must be an integer, at least 1"),
    (["finetune", "--data", "none.csv"], "--data needs --text COLUMN and --label COLUMN"),
    (["finetune", "--text", "a"], "give it too"),
    (["finetune", "--data", "none.csv", "--text", "a", "--label", "b"], "none.csv: cannot be read"),
    (["finetune", "--model", "./none"], "./none: no such directory"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda x: " ".join(x)[:40])
def test_bad_input_is_one_clear_line_and_code_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"structmat {arguments[0]}: ")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["show", "butterfly"],
        ["show", "butterfly", "--width", "x"],
        ["finetune", "--quick", "--full"],
    ],
)
def test_a_wrong_command_line_is_one_line_that_names_the_help(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "--help" in captured.err


@pytest.mark.parametrize("command", ["list", "show", "compare", "finetune"])
def test_every_command_has_help_with_an_example(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    out = capsys.readouterr().out
    assert f"example: structmat {command}" in " ".join(out.split())
    assert "--json" in out


def test_an_interrupted_command_exits_with_130(capsys, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.sm, "catalogue", interrupt)
    code, _, err = run(capsys, "list")
    assert (code, err) == (130, "structmat list: interrupted\n")


def test_commands_that_need_no_model_load_no_torch():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "structmat", "list"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("benes(")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert loaded.isdisjoint({"torch", "transformers", "peft"})


COLOURS = ["crimson", "olive", "navy", "teal", "amber", "ivory", "coral", "khaki", "plum", "azure"]
ANIMALS = ["otter", "heron", "lynx", "viper", "moose", "gecko", "raven", "bison", "trout", "crane"]


@pytest.mark.slow
def test_finetune_serves_the_users_own_data(tmp_path):
    """The packaged model, a CSV file, a topology of one's own: through the real command."""
    path = tmp_path / "mine.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "kind"])
        for kind, names in (("colour", COLOURS), ("animal", ANIMALS)):
            writer.writerows((f"{a} and {b}", kind) for a in names for b in names if a < b)
    command = [sys.executable, "-m", "structmat", "finetune", "--data", path.name]
    command += ["--text", "what", "--label", "kind", "--topology", "monarch(radices=(24, 16))"]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].endswith("inputs of widths 384, 1536")
    assert not (tmp_path / "structmat-finetune").exists()

    command[-1] = "mixed_radix(largest=4)"
    command += ["--compare", "lora", "--epochs", "2", "--rate", "0.003", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ, check=True
    )
    found = json.loads(done.stdout)
    assert found["task"]["labels"] == ["animal", "colour"]
    assert [row["method"] for row in found["methods"]] == ["lora", "mixed-radix"]
    assert found["best"]["method"] == "mixed-radix"
    assert found["best"]["test"] > 0.8  # of two balanced classes
    assert "training" in done.stderr  # progress
    assert (tmp_path / "structmat-finetune" / "report.html").is_file()
