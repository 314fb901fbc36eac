"""Resized vocabularies: the tensors that have a row for each token, and their numbers of rows."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from structmat.convert.tensor_files import FileWeights
from structmat.errors import FileError

_SIZE = "vocab_size"


@dataclass(frozen=True)
class Resized:
    """The change of a vocabulary.

    Attributes
    ----------
    before, rows : int
        The numbers of tokens in the model and in the adapter; 0 if the number did not change.
    given, extended : frozenset of str
        The tensors in the adapter, and the model's tensors that must be extended to match them.
    """

    before: int = 0
    rows: int = 0
    given: frozenset[str] = frozenset()
    extended: frozenset[str] = frozenset()

    def holds(self, key: str) -> bool:
        """Return whether this tensor has a row for each token."""
        return key in self.given

    def extend(self, old: Tensor) -> Tensor:
        """Return a table resized to the new number of rows; new rows are the mean of the old ones.

        This is `resize_token_embeddings` of transformers without the small noise that it adds.
        """
        kept = old[: self.rows]
        mean = old.to(torch.float64).mean(0, keepdim=True).to(old.dtype)
        return torch.cat([kept, mean.expand(self.rows - len(kept), *old.shape[1:])])

    def settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return a model's configuration with the old size replaced by the new one."""
        found = copy.deepcopy(dict(settings))
        for part in _parts(found):
            if part.get(_SIZE) == self.before:
                part[_SIZE] = self.rows
                break
        return found

    def notes(self) -> list[str]:
        """Return notes about the change."""
        if not self.rows:
            return []
        found = [
            f"the vocabulary has {self.rows} tokens instead of {self.before}, as in the adapter's"
            f" {', '.join(sorted(self.given))}; the tokenizer is the pretrained model's"
        ]
        if self.extended:
            found.append(
                f"{', '.join(sorted(self.extended))}: not in the adapter, so new rows are the mean"
                " of the old rows"
            )
        return found


def resized(values: Mapping[str, Tensor], weights: FileWeights) -> Resized:
    """Return the change in a model's vocabulary, given the tensors that replace its own.

    Raises
    ------
    FileError
        If tensors of the vocabulary have different numbers of rows.
    """
    vocabulary = frozenset() if weights.skeleton is None else weights.skeleton.vocabulary()
    sizes = {part.get(_SIZE) for part in _parts(weights.settings)}
    found: dict[tuple[int, int], list[str]] = {}
    for key, value in values.items():
        old = weights.shape(key)
        if tuple(value.shape) == old or tuple(value.shape[1:]) != old[1:] or not old:
            continue
        if key in vocabulary or old[0] in sizes or not weights.settings:
            found.setdefault((old[0], len(value)), []).append(key)
    if not found:
        return Resized()
    if len(found) > 1:
        listed = ", ".join(f"{keys[0]} {new} for {old}" for (old, new), keys in found.items())
        raise FileError(
            f"tensors of one vocabulary have different numbers of rows: {listed}; save the adapter"
            " after resize_token_embeddings"
        )
    (((before, rows), keys),) = found.items()
    follow = {
        key
        for key in vocabulary - values.keys()
        if key in weights.keys and weights.shape(key)[0] == before
    }
    return Resized(before, rows, frozenset(keys), frozenset(follow))


def _parts(settings: Any) -> Iterator[dict[str, Any]]:
    """Yield the parts of a configuration, with text parts first."""
    if isinstance(settings, dict):
        yield settings
        inner = {key: part for key, part in settings.items() if isinstance(part, dict)}
        for key in sorted(inner, key=lambda name: ("text" not in name, name)):
            yield from _parts(inner[key])
