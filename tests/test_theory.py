"""Every claim of theory/ holds, and says how sure we are of it."""

import types

import pytest

import theory
from theory.__main__ import main


@pytest.mark.parametrize("claim", theory.claims(), ids=lambda claim: claim.__name__.split(".")[1])
def test_claims_hold(claim):
    assert claim.STATUS in theory.STATUSES
    assert "Source: " in claim.__doc__
    assert "Statement. " in claim.__doc__
    assert ("Proof. " in claim.__doc__) == (claim.STATUS == "proved")
    assert claim.check()


def _claim(name, check):
    claim = types.ModuleType(f"theory.{name}", "It is so.\n\nMore.")
    claim.STATUS, claim.check = "proved", check
    return claim


def _fails():
    raise AssertionError("width 3")


def test_the_program_prints_what_holds(monkeypatch, capsys):
    monkeypatch.setattr("theory.__main__.claims", lambda: [_claim("one", lambda: "two cases")])
    assert main() == 0
    assert capsys.readouterr().out.splitlines() == [
        "one: It is so.",
        "    proved; looked at two cases",
        "every claim holds",
    ]


def test_the_program_fails_where_a_claim_does(monkeypatch, capsys):
    claims = [_claim("one", _fails), _claim("two", lambda: "all")]
    monkeypatch.setattr("theory.__main__.claims", lambda: claims)
    assert main() == 1
    out = capsys.readouterr().out
    assert "WRONG: width 3" in out
    assert "looked at all" in out
    assert "1 claims are wrong" in out
