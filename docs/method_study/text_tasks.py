"""Adapt MiniLM to two classifications of texts: docstrings by library, and error messages by type.

The pretrained model is that of `structmat finetune`. Forgetting is measured by a task for which it
was trained: among the continuations of several docstrings, the nearest to the beginning of a
docstring must be its own.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from docs.method_study.corpus import folder
from docs.method_study.error_messages import error_task, matched, messages
from docs.method_study.judging import Judged, joined, judged
from docs.method_study.tasks import Part, Task
from structmat._util.files import read_json, write_json
from structmat.finetune import task as texts
from structmat.finetune.docstring_task import (
    LIBRARIES,
    TEST,
    TRAIN,
    VALIDATION,
    docstring_task,
    docstrings,
    masked,
    opening,
    openings,
    paragraphs,
)
from structmat.finetune.models import Classifier, pretrained
from structmat.finetune.task import Example, balanced, distinct
from structmat.finetune.training import tokenized

LENGTH = 32  # tokens of a text that are read
SHORTEST = 60  # characters of the rest of a docstring
PAIRS = 30  # docstrings of each library that measure forgetting
TEMPERATURE = 0.05  # of the similarities, as in the training of the pretrained model
QUICK = {"train": 24, "validation": 12, "test": 12}


class Pair(NamedTuple):
    """The beginning and the rest of a docstring."""

    begins: str
    goes_on: str


class TextTask(Task):
    """A classification of texts by MiniLM."""

    steps, batch, budget = 60, 16, 6 * 25_300

    def __init__(self, *, quick: bool = False) -> None:
        super().__init__()
        self.texts = (self.few() if quick else self.whole()).first(
            **(QUICK if quick else self.sizes())
        )
        self.pairs = halves(self.texts.test) if quick else docstring_texts()[1]
        self.steps = 2 if quick else type(self).steps
        self.batch = 4 if quick else type(self).batch
        self.source = pretrained()
        self.tokenizer = self.source.tokenizer()
        self._collate = transformers.DataCollatorWithPadding(self.tokenizer)
        self._first: Classifier = self.source.classifier(self.texts.labels, seed=0)
        self.head = self._first.head

    @abstractmethod
    def whole(self) -> texts.Task:
        """Return all texts."""

    @abstractmethod
    def few(self) -> texts.Task:
        """Return texts that are read in a few seconds."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Return the numbers of texts that are used."""

    @property
    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the linear layers to adapt, by group."""
        found: dict[str, list[str]] = {"attention": [], "up": [], "down": []}
        for name in self._first.targets:
            outputs, inputs = self._first.model.get_submodule(name).weight.shape
            group = "attention" if outputs == inputs else "up" if outputs > inputs else "down"
            found[group].append(name)
        return {group: tuple(names) for group, names in found.items()}

    @property
    def fingerprint(self) -> str:
        """A key of the texts and of the pretrained model."""
        digest = hashlib.sha256(f"{self.texts.fingerprint} {self.pairs} {LENGTH}".encode())
        for weight in self._first.model.state_dict().values():
            digest.update(weight.numpy().tobytes())
        return digest.hexdigest()[:16]

    def model(self, seed: int) -> nn.Module:
        """Return the pretrained model with a new head."""
        return self.source.classifier(self.texts.labels, seed=seed).model

    def batches(self, seed: int, steps: int) -> Sequence[Any]:
        """Return batches of tokens and labels; each epoch is shuffled."""
        rng = np.random.default_rng(seed)
        rows = self._rows["train"]
        epochs = -(-steps * self.batch // len(rows))
        order = np.concatenate([rng.permutation(len(rows)) for _ in range(epochs)])
        return [
            self._collate([rows[index] for index in picked])
            for picked in order[: steps * self.batch].reshape(steps, self.batch)
        ]

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss of a batch."""
        return model(**batch).loss

    @torch.no_grad()
    def judged(self, model: nn.Module, part: Part, seed: int) -> Judged:
        """Return the losses and predictions, in the order of the texts."""
        del seed
        model.eval()
        rows = self._rows[part]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]["input_ids"]))
        found = []
        for first in range(0, len(order), 64):
            batch = self._collate([rows[row] for row in order[first : first + 64]])
            found.append(judged(model(**batch).logits, batch["labels"]))
        places = torch.tensor(order).argsort()
        return Judged(*(field[places] for field in joined(found)))

    @torch.no_grad()
    def old(self, model: nn.Module, seed: int) -> Mapping[str, float]:
        """Return the loss and accuracy of retrieving the continuation of docstrings."""
        del seed
        begins, rests = (self._embedded(model, side) for side in zip(*self.pairs, strict=True))
        own = torch.arange(len(begins))
        return judged(begins @ rests.T / TEMPERATURE, own).summary()

    @cached_property
    def _rows(self) -> Mapping[str, list[dict[str, Any]]]:
        parts: Mapping[str, Sequence[Example]] = {
            "train": self.texts.train,
            "valid": self.texts.validation,
            "test": self.texts.test,
        }
        return {
            name: tokenized(self.tokenizer, part, max_length=LENGTH) for name, part in parts.items()
        }

    def _embedded(self, model: nn.Module, parts: Sequence[str]) -> Tensor:
        """Return the normalised mean outputs over the tokens, as the model was pretrained."""
        body = getattr(model, model.base_model_prefix).eval()
        rows = []
        for first in range(0, len(parts), 64):
            tokens = self.tokenizer(
                list(parts[first : first + 64]),
                truncation=True,
                max_length=LENGTH,
                padding=True,
                return_tensors="pt",
            )
            shown = tokens["attention_mask"].unsqueeze(-1)
            total = (body(**tokens).last_hidden_state * shown).sum(1)
            rows.append(functional.normalize(total / shown.sum(1), dim=-1))
        return torch.cat(rows)


class DocstringsTask(TextTask):
    """Predict the library of a docstring: the task of `structmat finetune`, with six labels."""

    name = "docstrings"

    def whole(self) -> texts.Task:
        """Return the texts of `structmat finetune`."""
        return docstring_texts()[0]

    def few(self) -> texts.Task:
        """Return the docstrings of two small libraries."""
        return docstring_task(("networkx", "numpy"))

    def sizes(self) -> dict[str, int]:
        """Return the numbers of texts that are used."""
        return {"train": 6 * TRAIN, "validation": 240, "test": 600}


class ErrorsTask(TextTask):
    """Predict the type of exception of an error message, with four labels."""

    name = "errors"

    def whole(self) -> texts.Task:
        """Return all messages."""
        return error_task()

    def few(self) -> texts.Task:
        """Return messages of one package."""
        found = matched({"scipy": list(messages("scipy"))})
        return balanced("errors", found, **{part: size // 4 for part, size in QUICK.items()})

    def sizes(self) -> dict[str, int]:
        """Return the numbers of messages that are used."""
        return {"train": 1200, "validation": 240, "test": 600}


# Docstrings ---------------------------------------------------------------------------------


def docstring_texts() -> tuple[texts.Task, list[Pair]]:
    """Return the task of `structmat finetune`, and the docstrings that measure forgetting.

    No beginning is a text of the task or a near duplicate of one. Reading the libraries takes a
    while, so the result is kept in the cache.
    """
    known = [f"{label} {version(label)}" for label in LIBRARIES]
    key = hashlib.sha256(f"{known} {TRAIN} {VALIDATION} {TEST} {PAIRS}".encode()).hexdigest()[:16]
    path = folder() / f"docstrings-{key}.json"
    saved = read_json(path)
    if saved is None:
        task, pairs = _read_docstrings()
        parts = {name: getattr(task, name) for name in ("train", "validation", "test")}
        write_json(path, {"labels": task.labels, "parts": parts, "pairs": pairs})
        return task, pairs
    split = {
        name: tuple(Example(*example) for example in part) for name, part in saved["parts"].items()
    }
    task = texts.Task("docstrings", tuple(saved["labels"]), **split, notes=tuple(known))
    return task, [Pair(*pair) for pair in saved["pairs"]]


def halves(part: Sequence[Example]) -> list[Pair]:
    """Return the two halves of texts, for the quick run."""
    middle = [len(example.text) // 2 for example in part]
    return [Pair(e.text[:at], e.text[at:]) for e, at in zip(part, middle, strict=True)]


def _read_docstrings() -> tuple[texts.Task, list[Pair]]:
    kept = distinct({label: list(openings(package)) for label, package in LIBRARIES.items()})
    task = balanced("docstrings", kept, train=TRAIN, validation=VALIDATION, test=TEST)
    used = {example.text for part in (task.train, task.validation, task.test) for example in part}
    found: dict[str, dict[str, str]] = {}
    for label, package in LIBRARIES.items():
        free = set(kept[label]) - used
        found[label] = {}
        for documentation in docstrings(package):
            begin = opening(documentation)
            text = " ".join(paragraphs(documentation))
            rest = masked(text[len(begin) :].strip())
            if len(rest) >= SHORTEST and masked(begin) in free:
                found[label].setdefault(masked(begin), rest)
    own = distinct({label: list(group.values()) for label, group in found.items()})
    once = {rest for group in own.values() for rest in group}
    rest_of: dict[str, str] = {}
    begins: dict[str, list[str]] = {}
    for label, group in found.items():
        for begin, rest in group.items():
            if rest in once:
                once.discard(rest)  # the first docstring with this rest
                rest_of[begin] = rest
                begins.setdefault(label, []).append(begin)
    part = balanced("pairs", begins, train=0, validation=0, test=PAIRS).test
    return task, [Pair(example.text, rest_of[example.text]) for example in part]
