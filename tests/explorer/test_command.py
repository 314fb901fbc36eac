"""`structmat explore` on the command line."""

import json
import signal
import subprocess
import sys
import urllib.request

import pytest

from structmat.cli import main


def run(capsys, *arguments):
    code = main(["explore", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_it_serves_until_it_is_interrupted():
    command = [sys.executable, "-m", "structmat", "explore", "shuffle(block=4)", "--width", "64"]
    with subprocess.Popen(
        [*command, "--no-open", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            said = "".join(iter(running.stdout.readline, "}\n")) + "}"
            address = json.loads(said)["address"]
            with urllib.request.urlopen(address, timeout=60) as response:
                text = response.read().decode()
            running.send_signal(signal.SIGINT)
            _, problem = running.communicate(timeout=60)
        finally:
            running.kill()
    assert '"first": {"spec": "shuffle(block=4)", "width": 64}' in text
    assert (running.returncode, problem) == (0, "")


def test_it_saves_one_file(capsys, tmp_path):
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
    code, out, _ = run(capsys, "benes", "--width", "4", "8", "--save", str(path))
    assert code == 0
    assert "2 networks, of widths 4, 8" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["benes", "--width", "12"], "nearest are 8 and 16"),
        (["benes", "omega"], "one network is shown first"),
        (["benes", "--width", "8", "16"], "one network is shown first"),
        (["--port", "99999"], "ports go up to"),
        (["--save", "page.txt"], "a page ends in .html"),
        (["--save", "no/such/page.html"], "there is no directory"),
        (["benes", "--width", "12", "--save", "page.html"], "none of benes takes"),
        (["nothing", "--save", "page.html"], "no family 'nothing'"),
    ],
)
def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments, "--no-open")
    assert (code, out) == (2, "")
    assert err.startswith("structmat explore: ")
    assert err.count("\n") == 1
    assert words in err
    assert list(tmp_path.iterdir()) == []
