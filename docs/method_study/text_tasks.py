"""Adapt MiniLM to two classifications of texts: docstrings by library, and error messages by type.

The pretrained model is that of `structmat finetune`. Only its last blocks are adapted, so the
outputs of the frozen blocks before them are computed once per text and process, without dropout; a
training step or an evaluation computes only the last blocks and the head. Forgetting is measured by
a task for which the model was trained: among the continuations of several docstrings, the nearest
to the beginning of a docstring must be its own.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from docs.docstring_pairs import Pair, continuations
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
    openings,
)
from structmat.finetune.models import Classifier, block_linears, pretrained
from structmat.finetune.near_duplicates import distinct
from structmat.finetune.task import Example, balanced

LENGTH = 32  # tokens of a text that are read
ADAPTED = 2  # blocks, the last of six
PAIRS = 30  # docstrings of each library, which measure forgetting
TEMPERATURE = 0.05  # of the similarities, as in the training of the pretrained model
QUICK = {"train": 24, "validation": 12, "test": 12}


class TextTask(Task):
    """A classification of texts by MiniLM, whose last blocks are adapted.

    Its models take the frozen blocks' outputs for a text as `inputs_embeds`.
    """

    steps, batch, budget = 60, 16, ADAPTED * 25_300

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
        first: Classifier = self.source.classifier(self.texts.labels, seed=0)
        self.head = first.head
        self._weights = digest(first.model)
        self._frozen = first_blocks(first.model)
        self._last = self.model(0)
        self._outputs: dict[str, Tensor] = {}

    @abstractmethod
    def whole(self) -> texts.Task:
        """Return all texts."""

    @abstractmethod
    def few(self) -> texts.Task:
        """Return a small task, whose texts are read in a few seconds."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Return the numbers of texts that are used."""

    @property
    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the linear layers to adapt, by group."""
        found: dict[str, list[str]] = {"attention": [], "up": [], "down": []}
        for name in block_linears(self._last):
            outputs, inputs = self._last.get_submodule(name).weight.shape
            group = "attention" if outputs == inputs else "up" if outputs > inputs else "down"
            found[group].append(name)
        return {group: tuple(names) for group, names in found.items()}

    @property
    def fingerprint(self) -> str:
        """A key of the texts and of the pretrained model."""
        about = f"{self.texts.fingerprint} {self.pairs} {LENGTH} {ADAPTED} {self._weights}"
        return hashlib.sha256(about.encode()).hexdigest()[:16]

    def model(self, seed: int) -> nn.Module:
        """Return the last blocks of the pretrained model with a new head."""
        return last_blocks(self.source.classifier(self.texts.labels, seed=seed).model)

    def batches(self, seed: int, steps: int) -> Sequence[Any]:
        """Return batches of outputs of the frozen blocks, and labels; each epoch is shuffled."""
        rng = np.random.default_rng(seed)
        part = self.texts.train
        epochs = -(-steps * self.batch // len(part))
        order = np.concatenate([rng.permutation(len(part)) for _ in range(epochs)])
        return [
            self._batch([part[index] for index in picked])
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
        rows = {"valid": self.texts.validation, "test": self.texts.test}[part]
        outputs = self.frozen_outputs([example.text for example in rows])
        order = sorted(range(len(rows)), key=lambda row: len(outputs[row]))
        found = []
        for first in range(0, len(order), 64):
            batch = self._batch([rows[row] for row in order[first : first + 64]])
            found.append(judged(model(**batch).logits, batch["labels"]))
        places = torch.tensor(order).argsort()
        return Judged(*(field[places] for field in joined(found)))

    @torch.no_grad()
    def old(self, model: nn.Module, seed: int) -> Mapping[str, float]:
        """Return the loss and accuracy of retrieving the continuation of docstrings."""
        del seed
        body = getattr(model, model.base_model_prefix).eval()
        begins, rests = (self._embedded(body, side) for side in zip(*self.pairs, strict=True))
        own = torch.arange(len(begins))
        return judged(begins @ rests.T / TEMPERATURE, own).summary()

    @torch.no_grad()
    def frozen_outputs(self, parts: Sequence[str]) -> list[Tensor]:
        """Return the outputs (tokens, width) of the frozen blocks for each text."""
        new = sorted({text for text in parts if text not in self._outputs}, key=len)
        for first in range(0, len(new), 64):
            some = new[first : first + 64]
            tokens = self.tokenizer(
                some, truncation=True, max_length=LENGTH, padding=True, return_tensors="pt"
            )
            outputs = self._frozen(**tokens).last_hidden_state
            for text, row, shown in zip(some, outputs, tokens["attention_mask"], strict=True):
                self._outputs[text] = row[shown.bool()]
        return [self._outputs[text] for text in parts]

    def _batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        labels = torch.tensor([example.label for example in examples])
        return {**padded(self.frozen_outputs([e.text for e in examples])), "labels": labels}

    def _embedded(self, body: nn.Module, parts: Sequence[str]) -> Tensor:
        """Return the normalised means of the outputs over the tokens, as in pretraining."""
        rows = []
        for first in range(0, len(parts), 64):
            batch = padded(self.frozen_outputs(parts[first : first + 64]))
            shown = batch["attention_mask"].unsqueeze(-1)
            total = (body(**batch).last_hidden_state * shown).sum(1)
            rows.append(functional.normalize(total / shown.sum(1), dim=-1))
        return torch.cat(rows)


class Given(nn.Module):
    """Return the given inputs: it replaces the embeddings of a model without its first blocks."""

    def forward(self, *, inputs_embeds: Tensor, **_: Any) -> Tensor:
        """Return `inputs_embeds`."""
        return inputs_embeds


def first_blocks(model: Any) -> nn.Module:
    """Return a classifier's embeddings and the blocks that are not adapted; changes the model."""
    body = model.base_model.eval()
    body.encoder.layer = body.encoder.layer[:-ADAPTED]
    body.pooler = None
    return body


def last_blocks(model: Any) -> nn.Module:
    """Return a classifier reduced to its last blocks and its head; changes the model."""
    body = model.base_model
    body.encoder.layer = body.encoder.layer[-ADAPTED:]
    body.embeddings = Given()
    return model


def digest(model: nn.Module) -> str:
    """Return a key of the weights of a model."""
    found = hashlib.sha256()
    for weight in model.state_dict().values():
        found.update(weight.numpy().tobytes())
    return found.hexdigest()


def padded(outputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return outputs of different lengths as inputs of the remaining blocks."""
    lengths = torch.tensor([len(rows) for rows in outputs])
    embedded = pad_sequence(list(outputs), batch_first=True)
    mask = (torch.arange(embedded.shape[1]) < lengths.unsqueeze(-1)).long()
    return {"inputs_embeds": embedded, "attention_mask": mask}


class DocstringsTask(TextTask):
    """Predict the library of a docstring, one of six: the task of `structmat finetune`."""

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
    """Predict the exception type of an error message, one of four."""

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
    found = continuations(kept, task)
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
