"""The docstring task: classify the openings of docstrings by library.

The sources of the installed libraries are parsed rather than imported: this is fast, runs no
foreign code, and yields the same texts on every machine with the same versions.
"""

from __future__ import annotations

import ast
import gc
import importlib.util
import inspect
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from structmat.errors import MissingExtraError, StructmatError, abbreviated, suggest
from structmat.finetune.near_duplicates import distinct
from structmat.finetune.task import Task, balanced

# label → the package to import; the label is also the name of the distribution
LIBRARIES: Mapping[str, str] = {
    "numpy": "numpy",
    "scipy": "scipy",
    "sympy": "sympy",
    "networkx": "networkx",
    "torch": "torch",
    "scikit-learn": "sklearn",
}

MASK = "library"  # replaces the names of libraries

# Numbers of texts per class. The smallest class (numpy) has about 800 distinct texts.
TRAIN, VALIDATION, TEST = 300, 80, 150

# Tests, vendored copies of other projects, and the internals of torch's compilers.
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
_ADDERS = ("add_newdoc", "add_docstr")  # functions with which numpy and torch document C code

_SHORTEST = 40  # minimum number of characters of an opening
_FEWEST = 6  # minimum number of words of an opening
_ENOUGH = 90  # number of characters after which no further paragraph is added
_LONGEST = 400  # maximum number of characters of an opening


def docstring_task(labels: Iterable[str] = tuple(LIBRARIES), *, seed: int = 0) -> Task:
    """Build the docstring task from the installed libraries.

    Parameters
    ----------
    labels : iterable of str
        The keys of `LIBRARIES` to distinguish, by default all six. Large libraries take seconds to
        read.
    seed : int
        The seed of the split.

    Returns
    -------
    Task
        For each label, 300 texts for training, 80 for validation and 150 for testing. The names of
        the libraries are masked; of several near-duplicate texts only one is kept, and none if they
        come from different libraries.

    Raises
    ------
    StructmatError
        If there are fewer than two labels, or a label is unknown.
    FileError
        If the installed version of a library has too few distinct texts.
    MissingExtraError
        If one of the libraries is not installed.
    """
    selected = list(dict.fromkeys([labels] if isinstance(labels, str) else labels))
    for label in selected:
        if label not in LIBRARIES:
            raise StructmatError(f"label {abbreviated(label)}{suggest(str(label), LIBRARIES)}")
    if len(selected) < 2:
        raise StructmatError(f"labels={selected}: a task needs at least two libraries")
    found = {label: list(openings(LIBRARIES[label])) for label in selected}
    kept = distinct(found)
    notes = [
        f"{label} {version(label)}: {len(texts)} openings, {len(kept[label])} distinct"
        for label, texts in found.items()
    ]
    return balanced(
        "docstrings", kept, train=TRAIN, validation=VALIDATION, test=TEST, seed=seed, notes=notes
    )


def openings(package: str) -> Iterator[str]:
    """Yield the masked openings of a package's docstrings, except those that are too short.

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    """
    for documentation in docstrings(package):
        text = masked(opening(documentation))
        if len(text) >= _SHORTEST and len(text.split()) >= _FEWEST:
            yield text


def docstrings(package: str) -> Iterator[str]:
    """Yield the docstrings of modules, public functions, classes and methods, ordered by path.

    Modules with private names are included, since libraries also define public names there.

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    """
    root = package_directory(package)
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).parts):
        parts = path.relative_to(root).with_suffix("").parts
        if not any(_SKIPPED.match(part) for part in parts):
            yield from _documented(path)


def opening(documentation: str) -> str:
    r"""Return the first paragraph of a docstring as plain text, and more if it is short.

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
    r"""Yield the paragraphs of prose at the beginning of a docstring, as plain text.

    Signatures at the top are skipped; headings, directives and examples end the prose.

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
    """Return the text with the names and aliases of libraries masked.

    Examples
    --------
    >>> masked("NumPy's np.sort is not torch.sort; scikit-learn has none.")
    "library's library.sort is not library.sort; library has none."
    """
    return _ALIASES.sub(MASK, _NAMES.sub(MASK, text))


def package_directory(package: str, *, needed_by: str = "the docstring task") -> Path:
    """Return the directory of an installed package.

    Raises
    ------
    MissingExtraError
        If the package is not installed; the message states what needs it (`needed_by`).
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            f"{package} is not installed, but {needed_by} needs it; install it with:"
            ' pip install "structmat[finetune]"'
        )
    return Path(spec.submodule_search_locations[0])


def _documented(path: Path) -> Iterator[str]:
    try:
        tree = _parsed(path.read_text("utf-8"))
    except (SyntaxError, UnicodeDecodeError):  # templates, or files for other Python versions
        return
    if documentation := ast.get_docstring(tree):
        yield documentation
    yield from _public(tree.body)


def _parsed(source: str) -> ast.Module:
    """Parse a source without garbage collection, which would take a third of the time in vain."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # invalid escapes in foreign sources
            return ast.parse(source)
    finally:
        if collecting:
            gc.enable()


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
    """Return the text without URLs and most markup, which would reveal the library."""
    text = re.sub(r"https?://\S+", "", text)
    text = re.sub(r":[a-z:]+:`~?([^`<]*?)\s*(<[^`]*>)?`", r"\1", text)
    text = text.replace("`", "").replace("**", "")
    return re.sub(r"\s+", " ", text).strip()
