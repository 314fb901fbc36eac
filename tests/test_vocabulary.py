"""All text that users read uses the standard terms of the field."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("*.md", "docs/*.md", "theory/*.md", "structmat/explorer/page/*")
MODULES = ("structmat/**/*.py", "theory/*.py", "docs/*.py")
NAMED = ("structmat/**/*", "theory/*", "docs/*", "notebooks/*", "tests/**/*")

INSTEAD = {  # in lower case; a space stands for any white space, as lines are wrapped
    r"who hears whom|hears?|heard|hearing|deaf": "reachability; influences, reaches, unreached",
    r"trad(?:e|es|ed|ing)(?![ -]off)": "gauge redundancy, redundant parameters",
    r"(?<!math\.)(?<!np\.)floors?(?! plan)": "lower bound",
    r"mend(?:s|ed|ing)?": "fix, correct",
    r"strangers?": "independent random matrices",
    r"turn(?:ed|ing)(?! (?:off|on|into|out))|turns by": "rotated, rotates by",
    r"came of it": "results",
    r"told right": "correctly classified, accuracy",
    r"could not be told": "no difference is significant",
    r"had better be": "should be",
    r"map of the house": "module map",
    r"peel(?:s|ed|ing)?": "one stage at a time",
    r"plain paths?": "reference implementation",
    r"multipl(?:y|ies|ied|ying) out": "fuse",
    r"merg(?:e|es|ed|ing) (?:neighbouring )?stages": "fuse stages",
    r"what nobody can do without": "lower bound",
    r"blocks=[\"'](?:cayley|exp|givens|householder)": "parametrization=",
}
RULES = {words.replace(" ", r"\s+"): instead for words, instead in INSTEAD.items()}
FORBIDDEN = re.compile(rf"\b(?:{'|'.join(RULES)})(?!\w)")  # all at once: ten times as fast


def found(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line of each forbidden word, from 0, with the word and what to say instead."""
    text = text.lower()
    for match in FORBIDDEN.finditer(text):
        instead = next(said for words, said in RULES.items() if re.fullmatch(words, match[0]))
        yield text.count("\n", 0, match.start()), f"{match[0]!r}; say: {instead}"


def strings(code: str) -> Iterator[tuple[int, str]]:
    """Yield the docstrings, messages and other strings of a program, each with its line."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def in_module(code: str) -> list[tuple[int, str]]:
    """Return the forbidden words in the strings of a program; names of variables are free."""
    if not any(found(re.sub(r'"\s*\n\s*f?"', "", code))):  # without parsing, which is slow
        return []
    return [(line + n, word) for line, text in strings(code) for n, word in found(text)]


def in_notebook(text: str) -> list[tuple[int, str]]:
    """Return the forbidden words in the text and in the strings of a notebook, by cell."""
    words = []
    for number, cell in enumerate(json.loads(text)["cells"], 1):
        source = "".join(cell["source"])
        here = found(source) if cell["cell_type"] == "markdown" else in_module(source)
        words += [(number, word) for _, word in here]
    return words


def in_name(path: Path) -> list[str]:
    """Return the forbidden words in the name of a file."""
    return [word for _, word in found(re.sub(r"[_.-]", " ", path.name))]


def files(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file())


def test_every_text_uses_the_terms_of_the_field():
    words = []
    for path in files(*PAGES):
        text = path.read_text("utf-8")
        words += [f"{path.relative_to(ROOT)}:{n + 1}: {word}" for n, word in found(text)]
    for path in files(*MODULES):
        here = in_module(path.read_text("utf-8"))
        words += [f"{path.relative_to(ROOT)}:{n}: {word}" for n, word in here]
    for path in files("notebooks/*.ipynb"):
        here = in_notebook(path.read_text("utf-8"))
        words += [f"{path.relative_to(ROOT)}, cell {n}: {word}" for n, word in here]
    for path in files(*NAMED):
        words += [f"{path.relative_to(ROOT)}: its name has {word}" for word in in_name(path)]
    assert not words, "\n" + "\n".join(words)


@pytest.mark.parametrize(
    "text",
    [
        "Who hears\nwhom",
        "the wires heard by input 3",
        "parameters that can be traded",
        "the floor of the error",
        "Mended in this version",
        "the turned weight",
        "each block turns by an angle",
        "the stages are multiplied out",
        "merged stages",
        'Orthogonal(net, blocks="cayley")',
    ],
)
def test_forbidden_words_are_found(text):
    assert [line for line, _ in found(f"first\n{text}")] == [1]
    assert in_module(f"x = 1\n\ny = {text!r}")[0][0] == 3
    cells = [{"cell_type": "markdown", "source": ["title\n", text]}]
    assert in_notebook(json.dumps({"cells": cells}))[0][0] == 1


@pytest.mark.parametrize(
    "text",
    [
        "a trade-off, the trade off",
        "np.floor(x) and math.floor(x)",
        "turned off, turned into a layer, each in turn, a quarter turn",
        "recommended",
        "weights are merged",
    ],
)
def test_other_words_are_allowed(text):
    assert not list(found(text))


def test_file_names_and_strings_are_checked_but_not_variable_names():
    assert in_name(Path("02_who_hears_whom.ipynb"))
    assert not in_name(Path("tradeoffs.py"))
    assert not in_module("heard = 'reached'")
    assert in_module('raise ValueError("the weight was"\n    " mended")')
