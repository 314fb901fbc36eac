"""The script of `structmat completion`, run by the installed shells."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys

import pytest

import structmat as sm
from structmat import cli
from structmat.cli.completion import SHELLS
from tests.cli.test_examples import EXAMPLES


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
