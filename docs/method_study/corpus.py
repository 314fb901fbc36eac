"""Source code of installed packages as a corpus for a small language model.

The files are read as text and never imported. They are chosen and split by hashes of their paths,
so the corpus depends only on the versions of the packages. Two domains are kept apart: the packages
to pretrain on, and `DOMAIN`, to which the pretrained model is adapted. Neither pretraining nor the
tokenizer sees a file of that package, nor any file that mentions it.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from structmat._util.files import cache_folder, make_directory, replacing, write_text
from structmat.errors import FileError
from structmat.finetune.docstring_task import package_directory

PRETRAINING = ("numpy", "scipy", "sympy", "torch", "sklearn", "mpmath")
DOMAIN = "networkx"

Tokens = npt.NDArray[np.uint16]

VOCABULARY = 2048
END = "<|end|>"  # follows each document

_SHORTEST, _LONGEST = 400, 100_000  # characters of a file
_MOST = 5_000_000  # characters of a package
_HELD_OUT = 0.03  # fraction of the files of a pretraining package that measure forgetting
_VALIDATION, _TEST = 0.12, 0.2  # fractions of the files of the domain

# Tests, copies of other projects, and files that consist of data.
_SKIPPED = re.compile(
    r"^(tests?|testing|_?testing|conftest|benchmarks?|_?vendor(ed)?|externals?|_external"
    r"|array_api_(compat|extra)|_numpy|_pytest|_pyodide|distutils|resolvent_lookup)$"
)


class Document(NamedTuple):
    """A file: its path, which begins with the name of the package, and its text."""

    path: str
    text: str


@cache
def corpus() -> Mapping[str, tuple[Document, ...]]:
    """Return the documents of each part, in a fixed pseudorandom order.

    Returns
    -------
    part → documents
        `pretraining`; `forgetting`, held-out files of the pretraining packages; and `train`,
        `validation` and `test`, the files of `DOMAIN`. No file is in two parts, and files with
        equal contents count as one.

    Raises
    ------
    MissingExtraError
        If one of the packages is not installed.
    """
    parts: dict[str, list[Document]] = {
        name: [] for name in ("pretraining", "forgetting", "train", "validation", "test")
    }
    seen: set[str] = set()
    for package in (DOMAIN, *PRETRAINING):
        for document in _chosen(package):
            if document.text not in seen:
                seen.add(document.text)
                parts[_part(document.path)].append(document)
    return {
        name: tuple(sorted(documents, key=lambda document: _hash(document.path)))
        for name, documents in parts.items()
    }


def fingerprint(documents: Iterable[Document]) -> str:
    """Return a hash of the paths and texts.

    Examples
    --------
    >>> fingerprint([Document("a.py", "x = 1")])
    'db6c345bfe9fde14'
    """
    digest = hashlib.sha256()
    for path, text in documents:
        digest.update(f"{path}\0{text}\0".encode())
    return digest.hexdigest()[:16]


# Tokens -----------------------------------------------------------------------------------


@cache
def tokenizer() -> Tokenizer:
    """Return a byte-pair tokenizer, trained on the pretraining part, from the cache if possible."""
    path = folder() / f"tokenizer-{tokens_key()}.json"
    if path.exists():
        return Tokenizer.from_file(str(path))
    trained = trained_tokenizer(document.text for document in corpus()["pretraining"])
    write_text(path, trained.to_str())
    return trained


def trained_tokenizer(texts: Iterable[str], *, vocabulary: int = VOCABULARY) -> Tokenizer:
    """Train a byte-pair tokenizer on texts; every text can be encoded and decoded without loss.

    Examples
    --------
    >>> trained = trained_tokenizer(["a graph, the graph"] * 3, vocabulary=262)
    >>> trained.decode(trained.encode("graph π").ids)
    'graph π'
    """
    # Several threads would count pairs in a varying order.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    found.train_from_iterator(texts, trainer)
    return found


@cache
def tokens(part: str) -> Tokens:
    """Return the tokens of a part, its documents one after another, from the cache if possible."""
    path = folder() / f"tokens-{part}-{tokens_key()}.npy"
    if path.exists():
        return np.load(path)
    found = encoded(tokenizer(), corpus()[part])
    with replacing(path) as new:
        np.save(new, found)
    return found


def encoded(by: Tokenizer, documents: Iterable[Document]) -> Tokens:
    """Return the tokens of documents one after another, each followed by `END`."""
    end = by.token_to_id(END)
    found: list[int] = []
    for document in documents:
        found += [*by.encode(document.text).ids, end]
    return np.array(found, dtype=np.uint16)


def windows(part: Tokens, length: int) -> Tokens:
    """Return consecutive windows of tokens; an incomplete last one is left out.

    Examples
    --------
    >>> windows(np.arange(7, dtype=np.uint16), 3)
    array([[0, 1, 2],
           [3, 4, 5]], dtype=uint16)
    """
    return part[: len(part) // length * length].reshape(-1, length)


@cache
def tokens_key() -> str:
    """Return a hash of everything on which the tokens depend."""
    import tokenizers

    whole = [fingerprint(documents) for documents in corpus().values()]
    text = f"{whole} {VOCABULARY} {END} {tokenizers.__version__}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def folder() -> Path:
    """Return the directory for the tokens and checkpoints of the study.

    Raises
    ------
    FileError
        If there is no directory for cached files.
    """
    root = cache_folder()
    if root is None:
        raise FileError("no home directory; set STRUCTMAT_CACHE to a directory for cached files")
    return make_directory(root / "method-study")


# Files ------------------------------------------------------------------------------------


def _chosen(package: str) -> Iterator[Document]:
    """Yield files of a package, ordered by the hash of their path, up to `_MOST` characters."""
    root = package_directory(package, needed_by="the study")
    paths = [
        path
        for path in root.rglob("*.py")
        if not any(map(_SKIPPED.match, path.relative_to(root).with_suffix("").parts))
    ]
    named = {f"{package}/{path.relative_to(root).as_posix()}": path for path in paths}
    room = _MOST
    for name in sorted(named, key=_hash):
        text = _text(named[name])
        if not _SHORTEST <= len(text) <= _LONGEST or (package != DOMAIN and DOMAIN in text):
            continue
        room -= len(text)
        if room < 0:
            return
        yield Document(name, text)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        return ""


def _part(path: str) -> str:
    """Return the part to which a file belongs, determined by a hash of its path."""
    place = int(_hash(f"part {path}"), 16) / 16**64
    if not path.startswith(f"{DOMAIN}/"):
        return "forgetting" if place < _HELD_OUT else "pretraining"
    if place < _TEST:
        return "test"
    return "validation" if place < _TEST + _VALIDATION else "train"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
