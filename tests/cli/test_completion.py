"""The script of `structmat completion`, run by the installed shells."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys

import pytest

import structmat as sm
from structmat import cli
from structmat.cli.completion import SHELLS
from tests.cli.test_examples import EXAMPLES
from tests.terminals import in_terminal


def script_of(capsys, shell):
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.fixture
def completed(capsys, tmp_path):
    """Return a function: the completions that bash offers for the last word of a line."""
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    script = tmp_path / "completion.bash"
    script.write_text(script_of(capsys, "bash"), encoding="utf-8")

    def offers(line):
        words = line.split(" ")
        program = f"""
            source {shlex.quote(str(script))}
            COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}
            $(complete -p structmat | sed 's/.*-F \\([^ ]*\\).*/\\1/') structmat {words[-1]} ""
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(
            ["bash", "--norc", "--noprofile", "-c", program],
            capture_output=True,
            encoding="utf-8",
            check=True,
            cwd=tmp_path,
        )
        assert done.stderr == ""
        return {word.strip() for word in done.stdout.split("\n")} - {""}

    return offers


def test_bash_completes_commands_options_and_families(completed):
    assert completed("structmat ") >= {*EXAMPLES}
    assert completed("structmat co") == {"compare", "convert", "completion"}
    assert completed("structmat convert --to peft-") == {"peft-boft", "peft-oft"}
    assert completed("structmat list --w") == {"--width"}
    families = {entry.name for entry in sm.catalogue()}
    assert completed("structmat show ") >= families
    for line in ("structmat show mon", "structmat compare benes mon", "structmat bench mon"):
        assert completed(line) == {name for name in families if name.startswith("mon")}
    assert completed("structmat finetune --topology mixe") == {"mixed_radix"}


def test_bash_completes_files(completed, tmp_path):
    (tmp_path / "my-families.py").touch()
    (tmp_path / "my-adapter").mkdir()
    assert completed("structmat list --load my-f") == {"my-families.py"}
    for line in ("structmat audit my-a", "structmat convert my-a", "structmat convert x my-a"):
        assert {word.rstrip("/") for word in completed(line)} == {"my-adapter"}


FAMILIES = {entry.name for entry in sm.catalogue()}
MORE = {  # completed by fish and zsh; the tests above cover bash
    "structmat co": {"compare", "convert", "completion"},
    "structmat convert --to peft-": {"peft-boft", "peft-oft"},
    "structmat show benes --fo": {"--force"},
    "structmat compare benes mon": {name for name in FAMILIES if name.startswith("mon")},
    "structmat list --load my-f": {"my-families.py"},
    "structmat convert x my-a": {"my-adapter/"},
}


@pytest.fixture
def some_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-families.py").touch()
    (tmp_path / "my-adapter").mkdir()
    return tmp_path


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish_completes_commands_options_families_and_files(capsys, some_files):
    (some_files / "script.fish").write_text(script_of(capsys, "fish"), encoding="utf-8")
    program = "source script.fish; for line in $argv; complete -C $line; echo ==; end"
    done = subprocess.run(
        ["fish", "--no-config", "-c", program, *MORE], capture_output=True, encoding="utf-8"
    )
    assert (done.returncode, done.stderr) == (0, "")
    offered = done.stdout.split("==\n")[:-1]
    for words, (line, wanted) in zip(offered, MORE.items(), strict=True):
        assert {word.partition("\t")[0] for word in words.splitlines()} == wanted, line


ZSH = """
fpath=($PWD $fpath); autoload -U compinit; compinit -u -D
PS1=; LISTMAX=1000; unsetopt zle_bracketed_paste
shown() { print -r -- "<${LBUFFER}>"; BUFFER=; }
zle -N shown; bindkey '^G' shown
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_completes_commands_options_families_and_files(capsys, some_files):
    """The second Tab selects the first of several words; a key then prints the line."""
    (some_files / "_structmat").write_text(script_of(capsys, "zsh"), encoding="utf-8")
    (some_files / ".zshrc").write_text(ZSH, encoding="utf-8")
    typed = "".join(f"{line}\t\t\x07" for line in MORE) + "exit\n"
    home = {"TERM": "dumb", "ZDOTDIR": str(some_files)}
    _, text = in_terminal("zsh", "-i", cwd=some_files, answer=typed, **home)
    chosen = re.findall(r"<(.*?)(?: -?)?>", text)
    expected = [f"{line.rpartition(' ')[0]} {min(wanted)}" for line, wanted in MORE.items()]
    assert chosen == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_for_every_shell_contains_every_command(capsys, tmp_path, shell):
    text = script_of(capsys, shell)
    for name in EXAMPLES:
        assert name in text
    if shutil.which(shell) is None:
        return  # its syntax is checked where the shell is
    script = tmp_path / "script"
    script.write_text(text, encoding="utf-8")
    subprocess.run([shell, "-n", str(script)], check=True)


def test_without_shtab_the_error_names_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 2
    assert 'pip install "structmat[completion]"' in capsys.readouterr().err
