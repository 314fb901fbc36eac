"""The docstring task: from the opening of a docstring, tell which library it documents.

The sources of the installed libraries are parsed, never imported: that is fast, runs no foreign
code, and gives the same texts on every machine with the same versions.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from structmat.errors import MissingExtraError, StructmatError, suggest
from structmat.finetune.task import Task, balanced, distinct

# label → the package to import; the label is also the name of the distribution
LIBRARIES: Mapping[str, str] = {
    "numpy": "numpy",
    "scipy": "scipy",
    "sympy": "sympy",
    "networkx": "networkx",
    "torch": "torch",
    "scikit-learn": "sklearn",
}

MASK = "library"  # what a library's own name becomes

# Per class. The smallest class (numpy) has about 800 distinct texts.
TRAIN, VALIDATION, TEST = 300, 80, 150

# Tests, vendored copies of other projects, and the insides of torch's compilers.
_SKIPPED = re.compile(
    r"^(tests?|testing|_?testing|conftest|benchmarks?|_?vendor(ed)?|externals|_external"
    r"|array_api_(compat|extra)|_numpy|_pytest|_inductor|_dynamo|_functorch|_export|_refs"
    r"|_prims|_decomp|_higher_order_ops|onnx|_pyodide|distutils)$"
)
_NAMES = re.compile(r"numpy|scipy|sympy|networkx|pytorch|torch|sklearn|scikits?[- ]?(learn)?", re.I)
_ALIASES = re.compile(r"(?<![a-z0-9])(np|nx|sp)(?![a-z0-9])", re.I)
_SIGNATURE = re.compile(r"^[\w.]+\s*\(.*\)?\s*(->.*)?$|^.*\)\s*->.*$")
_HEADING = re.compile(
    r"^(parameters|args|arguments|returns?|raises|examples?|notes?|attributes)\b:?$", re.I
)
_LITERAL = re.compile(r"^(>>>|\.\. |[-=~^*]{3,}|[|+]|\$)")
_ADDERS = ("add_newdoc", "add_docstr")  # how numpy and torch document what is written in C

_SHORTEST = 40  # characters of an opening worth classifying
_FEWEST = 6  # words of it
_ENOUGH = 90  # characters after which no further paragraph is taken
_LONGEST = 400


def docstring_task(labels: Iterable[str] = tuple(LIBRARIES), *, seed: int = 0) -> Task:
    """Build the docstring task from the installed libraries.

    Parameters
    ----------
    labels : iterable of str
        Which of `LIBRARIES` to tell apart, by default all six. Large ones take seconds to read.
    seed : int
        Of the split.

    Returns
    -------
    Task
        For each label 300 texts to train on, 80 to validate and 150 to test. The libraries' own
        names are masked; of near-duplicate texts one is kept, and none when they come from two
        libraries.

    Raises
    ------
    StructmatError
        For fewer than two labels, or one that is no library of the task.
    MissingExtraError
        When one of the libraries is not installed.
    """
    chosen = list(dict.fromkeys([labels] if isinstance(labels, str) else labels))
    for label in chosen:
        if label not in LIBRARIES:
            raise StructmatError(f"label {label!r}{suggest(str(label), LIBRARIES)}")
    if len(chosen) < 2:
        raise StructmatError(f"labels={chosen}: a task tells at least two libraries apart")
    found = {label: list(openings(LIBRARIES[label])) for label in chosen}
    kept = distinct(found)
    notes = [
        f"{label} {version(label)}: {len(texts)} openings, {len(kept[label])} distinct"
        for label, texts in found.items()
    ]
    return balanced(
        "docstrings", kept, train=TRAIN, validation=VALIDATION, test=TEST, seed=seed, notes=notes
    )


def openings(package: str) -> Iterator[str]:
    """Yield the masked openings of the docstrings of a package's public names.

    Raises
    ------
    MissingExtraError
        When the package is not installed.
    """
    for documentation in docstrings(package):
        text = masked(opening(documentation))
        if len(text) >= _SHORTEST and len(text.split()) >= _FEWEST:
            yield text


def docstrings(package: str) -> Iterator[str]:
    """Yield the docstrings of modules, public functions, classes and methods, in path order.

    Modules with private names count too: that is where libraries keep what they export.
    """
    root = _directory(package)
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).parts):
        parts = path.relative_to(root).with_suffix("").parts
        if not any(_SKIPPED.match(part) for part in parts):
            yield from _documented(path)


def opening(documentation: str) -> str:
    r"""Return the first paragraph of a docstring as plain text, and the next while it is short.

    Examples
    --------
    >>> opening("abs(x) -> Tensor\n\nReturn the :func:`absolute` ``x``.\n\nArgs:\n    x: y")
    'Return the absolute x.'
    """
    taken: list[str] = []
    for paragraph in paragraphs(documentation):
        taken.append(paragraph)
        if sum(map(len, taken)) >= _ENOUGH:
            break
    return " ".join(taken)[:_LONGEST].strip()


def paragraphs(documentation: str) -> Iterator[str]:
    r"""Yield the paragraphs with which a docstring begins, as plain text.

    Signatures, headings, directives and examples are no prose: the first two are passed over
    at the top, and any of them ends it.

    Examples
    --------
    >>> list(paragraphs("f(x)\n\nDo *that*,\nnow.\n\nThen ``this``.\n\n>>> f(1)\n\nNever."))
    ['Do *that*, now.', 'Then this.']
    """
    begun = False
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(documentation)):
        lines = [line.strip() for line in paragraph.strip().splitlines()]
        while not begun and lines and _SIGNATURE.match(lines[0]):
            lines = lines[1:]
        if not lines:
            continue
        if _is_no_prose(lines):
            break
        begun = True
        yield _plain(" ".join(lines))


def masked(text: str) -> str:
    """Return the text with the libraries' own names and aliases replaced.

    Examples
    --------
    >>> masked("NumPy's np.sort is not torch.sort; scikit-learn has none.")
    "library's library.sort is not library.sort; library has none."
    """
    return _ALIASES.sub(MASK, _NAMES.sub(MASK, text))


def _directory(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            f"{package} is not installed, and the docstring task reads it; it comes with:"
            ' pip install "structmat[finetune]"'
        )
    return Path(spec.submodule_search_locations[0])


def _documented(path: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # invalid escapes in foreign sources
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError):  # templates, and files for other Pythons
            return
    if documentation := ast.get_docstring(tree):
        yield documentation
    yield from _public(tree.body)


def _public(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Expr):
            yield from _added(node.value)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.name.startswith("_"):
                continue
            if documentation := ast.get_docstring(node):
                yield documentation
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body)


def _added(call: ast.expr) -> Iterator[str]:
    if not isinstance(call, ast.Call):
        return
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name not in _ADDERS or not call.args:
        return
    for node in ast.walk(call.args[-1]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
            yield node.value


def _is_no_prose(lines: list[str]) -> bool:
    underlined = len(lines) > 1 and re.match(r"^[-=~^*]{3,}$", lines[1]) is not None
    literal = any(_LITERAL.match(line) for line in lines)
    return underlined or literal or bool(_HEADING.match(lines[0]))


def _plain(text: str) -> str:
    """Return the text without reStructuredText markup, which would tell the house style."""
    text = re.sub(r"https?://\S+", "", text)
    text = re.sub(r":[a-z:]+:`~?([^`<]*?)\s*(<[^`]*>)?`", r"\1", text)
    text = text.replace("`", "").replace("**", "")
    return re.sub(r"\s+", " ", text).strip()
