"""The output of commands to terminals, pipes and existing files."""

import json
import os
import re
import subprocess
import sys
import warnings

import pytest

import structmat as sm
from structmat.cli import main
from structmat.cli.output_files import check_consent
from structmat.errors import FileError
from tests.terminals import structmat

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def run(capsys, *arguments):
    code = main([str(part) for part in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def piped(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "structmat", *arguments],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


COMPARE = ["compare", "butterfly(block=8, depth=2)", "monarch", "--width", "64"]


def words(text):
    return sorted("".join(ESCAPE.sub("", text).split()).replace("─", "").replace("-", ""))


def test_a_terminal_gets_a_coloured_table_that_fits():
    table = str(sm.compare(COMPARE[1:3], 64))
    for columns in (100, 44):
        code, text = structmat(*COMPARE, columns=columns)
        assert code == 0
        assert "\x1b[1m" in text
        assert "\x1b[36m" in text
        lines = ESCAPE.sub("", text).splitlines()
        assert max(map(len, lines)) <= columns
        assert words(text) == words(table)  # nothing is cut off
        assert (len(lines) == len(table.splitlines())) == (columns == 100)


@pytest.mark.parametrize(
    ("environment", "plain"), [({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, True)]
)
def test_a_terminal_without_colour_gets_none(environment, plain):
    code, text = structmat(*COMPARE, **environment)
    assert code == 0
    assert not re.search(r"\x1b\[(3|4|9)\d", text)
    assert (text == f"{sm.compare(COMPARE[1:3], 64)}\n") == plain


def test_the_variable_columns_sets_the_width_of_a_terminal():
    code, text = structmat(*COMPARE, columns=120, COLUMNS="44")
    assert code == 0
    assert max(map(len, ESCAPE.sub("", text).splitlines())) <= 44


def test_pipes_get_plain_text_and_coloured_text_on_request():
    table = f"{sm.compare(COMPARE[1:3], 64)}\n"
    assert piped(*COMPARE) == table
    assert piped(*COMPARE, FORCE_COLOR="1", NO_COLOR="1") == table
    forced = piped(*COMPARE, FORCE_COLOR="1", COLUMNS="100")
    assert "\x1b[36m" in forced
    assert words(forced) == words(table)


def test_json_is_never_styled():
    assert json.loads(piped(*COMPARE, "--json", FORCE_COLOR="1"))["rows"]
    code, text = structmat("compare", "monarch", "--width", "8", "--json")
    assert code == 0
    assert json.loads(text) == sm.compare("monarch", 8).to_dict()


def test_an_error_in_a_terminal_is_one_line_with_the_name_of_the_command_in_red():
    code, text = structmat("show", "monarch", columns=40)
    assert code == 2
    assert text.startswith("\x1b[1;31mstructmat show:\x1b[0m monarch: ")
    assert text.count("\n") == 1


# Existing files ----------------------------------------------------------------------------------

SHOW = ["show", "benes", "--width", "4", "--save"]


@pytest.mark.parametrize(
    "command",
    [
        [*SHOW, "a.svg"],
        ["atlas", "--width", "8", "--purpose", "dense", "--block", "2", "--save", "a.json"],
        ["search", "--width", "4", "--objective", "depth", "--trials", "2", "--save", "a.json"],
        ["search", "--width", "4", "--objective", "depth", "--trials", "2", "--plot", "a.svg"],
        ["explore", "benes", "--width", "4", "--save", "a.html"],
    ],
    ids=lambda command: f"{command[0]} {command[-2]}",
)
def test_an_existing_file_is_kept_without_force(capsys, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / command[-1]
    path.write_text("precious", encoding="utf-8")
    code, out, err = run(capsys, *command)
    assert (code, out) == (2, "")
    assert err == (
        f"structmat {command[0]}: {command[-2]} {command[-1]}: it exists already;"
        " add --force to replace it\n"
    )
    assert path.read_text("utf-8") == "precious"
    assert run(capsys, *command, "--force")[0] == 0
    assert path.read_text("utf-8") != "precious"


@pytest.mark.parametrize("command", ["bench", "audit"])
def test_slow_commands_refuse_an_existing_file_before_any_work(capsys, tmp_path, command):
    path = tmp_path / "a.svg"
    path.write_text("precious", encoding="utf-8")
    option = {"bench": "--save", "audit": "--html"}[command]
    code, out, err = run(capsys, command, "benes", option, path)
    assert (code, out) == (2, "")
    assert "it exists already; add --force to replace it" in err
    assert path.read_text("utf-8") == "precious"


def test_finetune_refuses_a_finished_result_and_resumes_an_unfinished_one(tmp_path, capsys):
    from structmat.finetune import job

    results = tmp_path / "results.json"
    results.write_text('{"complete": false}', encoding="utf-8")
    (tmp_path / "report.html").touch()
    assert job.finished(tmp_path) is None
    results.write_text('{"complete": true}', encoding="utf-8")
    assert job.finished(tmp_path) == results
    code, out, err = run(capsys, "finetune", "--output", tmp_path)
    assert (code, out) == (2, "")
    assert f"--output {results}: it exists already; add --force to replace it" in err


@pytest.mark.parametrize("answer", ["YES\n", "\n"])
def test_a_terminal_is_asked_before_a_file_is_replaced(tmp_path, answer):
    path = tmp_path / "a.svg"
    path.write_text("precious", encoding="utf-8")
    code, text = structmat(*SHOW, path, answer=answer, cwd=tmp_path)
    assert f"{path}: it exists already. Replace it? [y/N] " in text.replace("\n", " ")
    if answer.lower().startswith("y"):
        assert code == 0
        assert path.read_bytes().startswith(b"<?xml")
    else:
        assert code == 2
        assert "it exists already, and is kept; give another name" in " ".join(text.split())
        assert path.read_text("utf-8") == "precious"


def test_convert_replaces_only_adapters_and_models_that_it_does_not_read(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from structmat.adapters import adapt, save_adapter

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    model = torch.nn.Sequential(torch.nn.Linear(8, 6))
    save_adapter(adapt(model, "butterfly(block=4, depth=2)"), ours)
    command = ["convert", ours, theirs, "--to", "peft-boft"]
    assert run(capsys, *command)[0] == 0
    settings = (theirs / "adapter_config.json").read_bytes()
    names = {path.name for path in theirs.iterdir()}
    (theirs / "README.md").touch()
    code, _, err = run(capsys, *command)
    assert code == 2
    assert err == f"structmat convert: {theirs}: it exists already; add --force to replace it\n"
    assert (theirs / "README.md").exists()
    assert run(capsys, *command, "--force")[0] == 0
    assert {path.name for path in theirs.iterdir()} == names
    assert (theirs / "adapter_config.json").read_bytes() == settings

    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter").touch()
    (tmp_path / "a.txt").touch()
    (theirs / ".git").mkdir()
    for target, message in (
        (tmp_path / "letters", "only a directory with an adapter or a model"),
        (tmp_path / "a.txt", "is not a directory, unlike the result"),
        (theirs, "without hidden files"),
        (ours, "which is converted; choose another name"),
        (tmp_path, "which is converted; choose another name"),
    ):
        code, _, err = run(capsys, "convert", ours, target, "--to", "peft-boft", "--force")
        assert code == 2
        assert message in err
        assert target.exists()


def test_nobody_is_asked_if_the_answer_would_come_from_a_pipe(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with pytest.raises(FileError, match="add --force"):
        check_consent("a.svg", force=False)
    check_consent("a.svg", force=True)


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_device_or_pipe_is_never_replaced(capsys, tmp_path, force):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names on this system")
    pipe = tmp_path / "a.svg"
    os.mkfifo(pipe)
    code, out, err = run(capsys, *SHOW, pipe, *force)
    assert (code, out) == (2, "")
    assert "is not a regular file; give the name of a file" in err
    assert pipe.is_fifo()


# Other libraries ---------------------------------------------------------------------------------

NOISY = """
import logging, warnings
import structmat as sm

warnings.warn("of my own file")
warnings.warn_explicit("of a library", UserWarning, logging.__file__, 1)
logging.getLogger("torch.utils").warning("a message")
logging.getLogger("a library").error("an error")

@sm.family("any")
def quiet_family(width):
    "One stage."
    return sm.Network.of(width, [[range(width)]])
"""


def test_other_libraries_are_silent_apart_from_errors(tmp_path):
    (tmp_path / "noisy.py").write_text(NOISY, encoding="utf-8")
    command = [sys.executable, "-m", "structmat", "list", "--load", str(tmp_path / "noisy.py")]
    home = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"}
    done = subprocess.run(command, capture_output=True, text=True, env=home)
    assert done.returncode == 0
    assert done.stderr == "warning: of my own file\nan error\n"
    loud = subprocess.run(
        command, capture_output=True, text=True, env=home | {"PYTHONWARNINGS": "default"}
    )
    assert "UserWarning: of a library" in loud.stderr


def test_the_settings_of_the_caller_are_restored(capsys):
    import logging

    before = logging.root.manager.disable, warnings.showwarning, [*warnings.filters]
    assert run(capsys, "compare", "monarch", "--width", "8")[0] == 0
    assert (logging.root.manager.disable, warnings.showwarning, warnings.filters) == before
