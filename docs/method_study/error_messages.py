"""Error messages of installed packages, and the types of the exceptions that contain them.

The sources are searched rather than imported or parsed. The labels are four built-in exceptions;
each package supplies equally many messages of every label, so recognising the package does not help
to predict the label.
"""

import ast
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version

from docs.method_study.corpus import folder
from structmat._util.files import read_json, write_json
from structmat.finetune.docstring_task import LIBRARIES, package_directory
from structmat.finetune.near_duplicates import distinct
from structmat.finetune.task import Task, balanced

LABELS = ("NotImplementedError", "RuntimeError", "TypeError", "ValueError")

# distribution → package
PACKAGES: Mapping[str, str] = {
    **LIBRARIES,
    "pandas": "pandas",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "peft": "peft",
    "matplotlib": "matplotlib",
}

TRAIN, VALIDATION, TEST = 300, 60, 150  # messages of each label

VALUE = "…"  # replaces the values that are inserted into a message
_SHORTEST, _FEWEST, _LONGEST = 25, 4, 300  # characters, words, characters

_STRING = r"""[rRfF]{0,2}(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
_RAISED = re.compile(rf"raise\s+({'|'.join(LABELS)})\(\s*((?:{_STRING}\s*)+)")
_SKIPPED = re.compile(r"^(tests?|_?testing|conftest|benchmarks?|_?vendor(ed)?|externals?)$")
_PLACE = re.compile(r"%[-+ #0-9.]*[a-zA-Z]|%\(\w+\)[a-z]|\{[^{}]*\}")
_EXCEPTION = re.compile(r"\b\w*(Error|Exception|Warning)\b")


def error_task() -> Task:
    """Return the task, with its messages from the cache if versions and rules are unchanged.

    Raises
    ------
    FileError
        If the installed versions have too few messages.
    MissingExtraError
        If one of the packages is not installed.
    """
    known = [f"{name} {version(name)}" for name in PACKAGES]
    rules = [each.pattern for each in (_RAISED, _SKIPPED, _PLACE, _EXCEPTION)]
    text = f"{known} {rules} {VALUE} {_SHORTEST} {_FEWEST} {_LONGEST}"
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = folder() / f"errors-{key}.json"
    texts = read_json(path)
    if texts is None:
        texts = matched({name: list(messages(package)) for name, package in PACKAGES.items()})
        write_json(path, texts)
    sizes = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    return balanced("errors", texts, **sizes, notes=known)


def messages(package: str) -> Iterator[tuple[str, str]]:
    """Yield the labels and messages in the sources of a package, ordered by path."""
    root = package_directory(package, needed_by="the study")
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).parts):
        if not any(map(_SKIPPED.match, path.relative_to(root).with_suffix("").parts)):
            yield from raised(path.read_text("utf-8", "replace"))


def raised(source: str) -> Iterator[tuple[str, str]]:
    r"""Yield the labels and messages in a source text.

    Examples
    --------
    >>> list(raised('raise TypeError(f"the argument {x!r} is not "\n "an IndexError of a list")'))
    [('TypeError', 'the argument … is not an error of a list')]
    >>> list(raised('raise KeyError("there is no such name in the list of names")'))
    []
    """
    for label, literal in _RAISED.findall(source):
        text = _message(literal)
        if len(text) >= _SHORTEST and len(text.split()) >= _FEWEST:
            yield label, text[:_LONGEST]


def matched(found: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, list[str]]:
    """Return distinct messages by label, with equally many messages per label from each package.

    Examples
    --------
    >>> one = [("TypeError", "a"), ("TypeError", "b"), ("ValueError", "c")]
    >>> other = [("RuntimeError", "d"), ("NotImplementedError", "e")]
    >>> found = matched({"one": [*one, *other], "other": other})
    >>> [len(found[label]) for label in LABELS]
    [1, 1, 1, 1]
    """
    texts: dict[str, list[str]] = {label: [] for label in LABELS}
    origin: dict[str, str] = {}
    for package, rows in found.items():
        for label, text in rows:
            texts[label].append(text)
            origin.setdefault(text, package)
    by: dict[str, dict[str, list[str]]] = defaultdict(lambda: {label: [] for label in LABELS})
    for label, group in distinct(texts).items():
        for text in group:
            by[origin[text]][label].append(text)
    kept: dict[str, list[str]] = {label: [] for label in LABELS}
    for package in found:
        least = min(map(len, by[package].values()))
        for label, group in by[package].items():
            order = sorted(group, key=lambda text: hashlib.sha256(text.encode()).digest())
            kept[label] += order[:least]
    return kept


def _message(literal: str) -> str:
    try:
        node = ast.parse(f"({literal.strip()})", mode="eval").body
    except SyntaxError:  # an f-string with quotes inside
        return ""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    text = "".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in parts)
    text = _EXCEPTION.sub("error", _PLACE.sub(VALUE, text))
    return re.sub(r"\s+", " ", text).strip()
