"""`structmat explore` on the command line."""

import json
import shlex
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import pytest

import structmat as sm
from structmat.cli import explore, main
from tests.explorer.test_page import wait_for
from tests.timeouts import PATIENCE


def run(capsys, *arguments):
    code = main(["explore", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@contextmanager
def serving(*arguments):
    """Run the command while the block runs, and return the address; then interrupt it."""
    # A shell's background job ignores interrupts, and so would all that it starts.
    program = (
        "import signal, sys; from structmat.cli import main;"
        " signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "explore", *arguments, "--no-open", "--json"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            said = "".join(iter(running.stdout.readline, "}\n")) + "}"
            yield json.loads(said)["address"]
            running.send_signal(signal.SIGINT)
            _, problem = running.communicate(timeout=PATIENCE)
        finally:
            running.kill()
    assert (running.returncode, problem) == (0, "")


def test_explore_serves_until_it_is_interrupted():
    with (
        serving("shuffle(block=4)", "--width", "64") as address,
        urllib.request.urlopen(address, timeout=PATIENCE) as response,
    ):
        text = response.read().decode()
    assert '"first": {"spec": "shuffle(block=4)", "width": 64}' in text


def test_the_command_loads_custom_families(tmp_path, opened):
    path = tmp_path / "my families.py"
    path.write_text(
        "import structmat as sm\n\n@sm.family('even')\ndef folded(width):\n"
        "    return sm.Network.of(width, [[[k, width - 1 - k] for k in range(width // 2)]])\n"
    )
    with serving("folded", "--width", "8", "--load", str(path)) as address:
        page = opened(address)
        wait_for(page, "folded", 8)
        own = page.inner_text("#shell-text")
        page.select_option("#family", "benes")
        wait_for(page, "benes", 8)
        other = page.inner_text("#shell-text")
        page.wait_for_load_state("networkidle")  # the server stops afterwards
    assert other == "structmat show benes --width 8 --full"
    name, *arguments = shlex.split(own)
    assert name == "structmat"
    done = subprocess.run(
        [sys.executable, "-m", "structmat", *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(sm.diagram(sm.Network.of(8, [[[0, 7], [1, 6], [2, 5], [3, 4]]])))


def test_save_writes_a_single_file(capsys, tmp_path):
    path = tmp_path / "page.html"
    code, out, err = run(
        capsys, "benes", "torus", "--width", "8", "9", "--save", str(path), "--json"
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    expected = [("benes", 8), ("torus", 8), ("torus", 9)]
    assert [(one["spec"], one["width"]) for one in found["networks"]] == expected
    assert path.read_text("utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]
    again = ["benes", "--width", "4", "8", "--save", str(path)]
    code, _, err = run(capsys, *again)
    assert code == 2
    assert "it exists already; add --force" in err
    code, out, _ = run(capsys, *again, "--force")
    assert code == 0
    assert "2 networks of widths 4, 8" in out


def test_a_directory_as_output_is_rejected_before_any_computation(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(explore, "precomputed", lambda *_, **__: pytest.fail("was found out"))
    target = tmp_path / "page.html"
    target.mkdir()
    code, out, err = run(capsys, "benes", "--save", str(target))
    assert (code, out) == (2, "")
    assert "is a directory" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["benes", "--width", "12"], "nearest are 8 and 16"),
        (["benes", "omega"], "one network is shown first"),
        (["benes", "--width", "8", "16"], "one network is shown first"),
        (["--port", "99999"], "ports go up to"),
        (["--save", "page.txt"], "the suffix must be .html"),
        (["--save", "no/such/page.html"], "there is no directory"),
        (["benes", "--width", "12", "--save", "page.html"], "none of benes accepts"),
        (["nothing", "--save", "page.html"], "no family 'nothing'"),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(
    capsys, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments, "--no-open")
    assert (code, out) == (2, "")
    assert err.startswith("structmat explore: ")
    assert err.count("\n") == 1
    assert words in err
    assert list(tmp_path.iterdir()) == []
