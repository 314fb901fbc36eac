"""Every check of theory/ passes, and every claim has a status."""

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import theory
from theory.__main__ import main

ROOT = Path(__file__).parent.parent
WORDS = {"proved": "Proof. ", "refuted": "Refutation. ", "conjecture": "Evidence. "}


@pytest.mark.parametrize("claim", theory.claims(), ids=theory.name)
def test_the_check_of_a_claim_passes(claim):
    assert claim.STATUS in theory.STATUSES
    assert "\nStatement. " in claim.__doc__
    assert "\nSource: " in claim.__doc__
    for status, word in WORDS.items():
        assert (f"\n{word}" in claim.__doc__) == (status == claim.STATUS), word
        if status != "proved":
            assert theory.title(claim).startswith(f"{status.title()}: ") == (status == claim.STATUS)
    assert claim.check()


@pytest.mark.parametrize("claim", theory.claims(), ids=theory.name)
def test_statements_are_plain_paragraphs(claim):
    """No line begins like a Markdown list or quotation, because the docs include the text."""
    lines = claim.__doc__.splitlines()[1:]
    assert not [line for line in lines if re.match(r">|[-+*#] |\d+[.)] ", line)]


def test_claims_are_numbered():
    assert [claim.NUMBER for claim in theory.claims()] == [
        f"T{k}" for k in range(1, len(theory.claims()) + 1)
    ]


@pytest.mark.parametrize("claim", theory.claims(), ids=theory.name)
def test_proofs_cite_only_proved_claims_without_cycles(claim):
    proof = claim.__doc__.partition("\nProof. ")[2].partition("\nSource: ")[0]
    used = set(re.findall(r"T\d+", proof))
    assert used <= {c.NUMBER for c in theory.claims() if c.STATUS == "proved"}
    assert claim.NUMBER not in _needs(used)


def _needs(numbers):
    """Return the claims that these proofs cite, directly or indirectly."""
    docs = {claim.NUMBER: claim.__doc__ for claim in theory.claims()}
    known, left = set(), set(numbers)
    while left:
        number = left.pop()
        known.add(number)
        proof = docs[number].partition("\nProof. ")[2].partition("\nSource: ")[0]
        left |= set(re.findall(r"T\d+", proof)) - known
    return known


def test_readme_lists_every_claim():
    readme = (ROOT / "theory" / "README.md").read_text("utf-8")
    assert theory.table() in readme
    for status in theory.STATUSES:
        assert f"*{status}*" in readme


def _claim(name, check, **more):
    claim = types.ModuleType(f"theory.{name}", "It is so.\n\nMore.")
    claim.NUMBER, claim.STATUS, claim.check = "T1", "proved", check
    for key, value in more.items():
        setattr(claim, key, value)
    return claim


def _fails():
    raise AssertionError("width 3")


def test_the_program_prints_checks_that_pass(monkeypatch, capsys):
    monkeypatch.setattr("theory.__main__.claims", lambda: [_claim("one", lambda: "two cases")])
    assert main([]) == 0
    head, row, end = capsys.readouterr().out.splitlines()
    assert head.split() == ["claim", "file", "status", "seconds", "checked"]
    assert re.fullmatch(r"T1 +one +proved +\d+\.\d +two cases", row)
    assert end == "the check passed"


def test_the_program_exits_with_1_if_a_claim_fails(monkeypatch, capsys):
    claims = [_claim("one", _fails), _claim("two", lambda: "all")]
    monkeypatch.setattr("theory.__main__.claims", lambda: claims)
    assert main([]) == 1
    out = capsys.readouterr().out
    assert re.search(r"T1 +one +WRONG +\d+\.\d +width 3\n", out)
    assert re.search(r"two +proved .*all\n", out)
    assert out.endswith("\nWRONG: T1, It is so\n")


def test_a_check_that_raises_counts_as_failed(monkeypatch, capsys):
    claims = [_claim("one", lambda: [][3]), _claim("two", lambda: "all")]
    monkeypatch.setattr("theory.__main__.claims", lambda: claims)
    assert main([]) == 1
    out = capsys.readouterr().out
    assert re.search(r"T1 +one +WRONG +\d+\.\d +IndexError: list index out of range\n", out)
    assert re.search(r"two +proved .*all\n", out)
    assert out.endswith("\nWRONG: T1, It is so\n")


def test_the_program_refuses_to_run_without_assertions():
    done = subprocess.run(
        [sys.executable, "-O", "-m", "theory", "T1"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "python -O disables assertions: run python -m theory\n"


def test_the_example_of_the_help_runs(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    example = re.search(r"example: python -m theory (.*)", capsys.readouterr().out)[1]
    assert main(example.split()) == 0


def test_the_program_checks_only_the_named_claims(capsys):
    assert main(["T26", "support.py", "ruler_in_n_stages"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:-1]
    assert [row.split()[0] for row in rows] == ["T26", "T1", "T35"]


def test_the_program_reports_unknown_claims(capsys):
    assert main(["T26", "nothing"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "no claim is called nothing; see theory/README.md\n"


def test_the_thorough_check_runs_only_on_request(monkeypatch, capsys):
    one = _claim("one", lambda: "few", thorough=lambda: "many")
    two = _claim("two", lambda: "few", thorough=_fails)
    monkeypatch.setattr("theory.__main__.claims", lambda: [one, two])
    assert main([]) == 0
    assert "many" not in capsys.readouterr().out
    assert main(["--thorough"]) == 1
    assert "many" in capsys.readouterr().out


def test_the_program_prints_the_table(capsys):
    assert main(["--table"]) == 0
    assert capsys.readouterr().out == theory.table() + "\n"
