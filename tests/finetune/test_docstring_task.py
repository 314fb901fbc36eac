import re
from collections import Counter

import pytest

from structmat.errors import MissingExtraError, StructmatError
from structmat.finetune import docstring_task as corpus
from structmat.finetune.docstring_task import docstring_task, docstrings, masked, opening, openings
from structmat.finetune.near_duplicates import normalised

NAMES = re.compile(
    r"numpy|scipy|sympy|networkx|torch|sklearn|scikit|(?<![a-z0-9])(np|nx|sp)(?![a-z0-9])", re.I
)


@pytest.mark.slow
def test_the_docstring_task_is_balanced_and_its_parts_are_disjoint(docstrings):
    parts = (docstrings.train, docstrings.validation, docstrings.test)
    for part, size in zip(parts, (corpus.TRAIN, corpus.VALIDATION, corpus.TEST), strict=True):
        assert Counter(e.label for e in part) == dict.fromkeys(range(6), size)
    everything = [normalised(example.text) for part in parts for example in part]
    assert len(set(everything)) == len(everything)


@pytest.mark.slow
def test_no_text_names_a_library(docstrings):
    parts = (docstrings.train, docstrings.validation, docstrings.test)
    assert not [e.text for part in parts for e in part if NAMES.search(e.text)]


def test_a_task_can_be_restricted_to_two_libraries(read_once, monkeypatch):
    monkeypatch.setattr(corpus, "docstrings", read_once)
    task = docstring_task(["networkx", "numpy"])
    assert task.labels == ("networkx", "numpy")
    for part, size in (
        (task.train, corpus.TRAIN),
        (task.validation, corpus.VALIDATION),
        (task.test, corpus.TEST),
    ):
        assert Counter(e.label for e in part) == dict.fromkeys(range(2), size)
    texts = {label: set(openings(label)) for label in task.labels}
    assert all(e.text in texts[task.labels[e.label]] for e in task.train)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["numpy", "networks"], "label 'networks'; did you mean networkx"),
        (["numpy", "numpy"], "at least two"),
        ("numpy", "at least two"),
        ([], "at least two"),
    ],
)
def test_invalid_labels_are_rejected(labels, said):
    with pytest.raises(StructmatError, match=said):
        docstring_task(labels)


def test_reading_docstrings_is_deterministic():
    assert list(openings("networkx")) == list(openings("networkx"))


def test_docstrings_of_functions_classes_methods_and_c_code_are_read(tmp_path, monkeypatch):
    package = tmp_path / "some_package"
    (package / "tests").mkdir(parents=True)
    (package / "__init__.py").write_text(
        '"""The module."""\n'
        "class A:\n"
        '    """A class."""\n'
        "    def method(self):\n"
        '        """A method."""\n'
        "    def _private(self):\n"
        '        """Not this."""\n'
        "def add_newdoc(*_): ...\n"
        'add_newdoc("m", "f", """From\n    C.""")\n'
    )
    (package / "broken.py").write_text('"""Not\nthis: """ syntax error')
    (package / "tests" / "__init__.py").write_text('"""Nor this."""')
    monkeypatch.syspath_prepend(tmp_path)
    assert list(docstrings("some_package")) == [
        "The module.",
        "A class.",
        "A method.",
        "From\n    C.",
    ]


def test_a_missing_library_names_the_extra():
    with pytest.raises(MissingExtraError, match=r"no_such_library is not installed.*finetune"):
        list(docstrings("no_such_library"))


@pytest.mark.parametrize(
    ("documentation", "expected"),
    [
        ("f(x, y=None)\n\nReturn it.\n\nMore of it.", "Return it. More of it."),
        ("Title\n=====\n\nText.", ""),
        ("One.\n\nParameters\n----------\nx : int", "One."),
        ("See :class:`~a.b.C` and https://x.org/y, **now**.", "See a.b.C and now."),
        ("Long " * 30 + ".\n\nNot taken.", "Long " * 30 + "."),
        ("One.\n\n>>> f(1)\n2\n\nNever.", "One."),
    ],
)
def test_openings_are_prose_without_markup(documentation, expected):
    assert opening(documentation) == expected.strip()


@pytest.mark.parametrize(
    "name", ["NumPy", "scikit-learn", "sklearn", "PyTorch", "np", "nx", "SciPy"]
)
def test_library_names_are_masked(name):
    assert masked(f"use {name}.f of {name}") == "use library.f of library"


def test_words_that_contain_an_alias_are_not_masked():
    assert masked("input, next, display, unp") == "input, next, display, unp"
