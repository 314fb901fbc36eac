"""Adapt the small language model to the source code of a package that it has not seen."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from docs.method_study.corpus import corpus, encoded, trained_tokenizer, windows
from docs.method_study.judging import Decomposed, Judged, joined, judged
from docs.method_study.language_model import (
    Settings,
    checkpoint,
    losses,
    new_model,
    order,
    pretrained,
    rows_of,
    spaced,
)
from docs.method_study.tasks import Part, Task

VALID, TEST, OLD = 128, 512, 256  # windows
BATCH = 4  # windows in a step

# For the quick run: a model with random weights.
TINY = Settings(layers=1, length=32)


class LanguageTask(Task):
    """The task; see the module."""

    name = "language"
    steps, batch, budget = 200, BATCH, 4 * 8350

    def __init__(self, *, quick: bool = False) -> None:
        self.quick = quick
        if quick:
            self.settings, self.steps, self.budget = TINY, 3, 8350
        else:
            self.settings = Settings()

    @property
    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the linear layers to adapt, by group."""
        inside = {
            "attention": tuple(f"self_attn.{x}_proj" for x in "qkvo"),
            "up": ("mlp.gate_proj", "mlp.up_proj"),
            "down": ("mlp.down_proj",),
        }
        return {
            group: tuple(
                f"model.layers.{layer}.{name}"
                for layer in range(self.settings.layers)
                for name in names
            )
            for group, names in inside.items()
        }

    @property
    def fingerprint(self) -> str:
        """A key of the data and of the pretrained model."""
        if self.quick:
            return "quick"
        sizes = f"{checkpoint(self.settings).name} {VALID} {TEST} {OLD}"
        return hashlib.sha256(sizes.encode()).hexdigest()[:16]

    def model(self, seed: int) -> nn.Module:
        """Return the pretrained model; it has no head to initialise."""
        del seed
        return new_model(self.settings) if self.quick else pretrained(self.settings)

    def batches(self, seed: int, steps: int) -> Sequence[Any]:
        """Return windows of tokens of the training files, (batch, length)."""
        rows = self._rows["train"]
        return [
            rows[picked] for picked in order(len(rows), batch=self.batch, steps=steps, seed=seed)
        ]

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss of a batch, in nats per token."""
        return losses(model, batch).mean()

    def judged(self, model: nn.Module, part: Part, seed: int) -> Judged:
        """Return the losses of windows and the predictions of tokens, of held-out files."""
        del seed
        return self._judged(model, self._rows[part])

    def old(self, model: nn.Module, seed: int) -> Mapping[str, float]:
        """Return the loss and accuracy on held-out files of the pretraining packages."""
        del seed
        return self._judged(model, self._rows["old"]).summary()

    def decomposed(self, seed: int) -> Mapping[str, Decomposed]:
        """Return the pretrained weights, which are the same for every seed."""
        del seed
        return self._weights

    @cached_property
    def _weights(self) -> Mapping[str, Decomposed]:
        return super().decomposed(0)

    @cached_property
    def _rows(self) -> Mapping[str, Tensor]:
        length = self.settings.length
        if self.quick:
            # Few documents, since training the tokenizer and encoding all of them takes longer.
            small = trained_tokenizer(document.text for document in corpus()["pretraining"][:4])
            some = {"train": "train", "valid": "validation", "test": "test", "old": "forgetting"}
            return {
                name: spaced(windows(encoded(small, corpus()[part][:2]), length), 8)
                for name, part in some.items()
            }
        return {
            "train": rows_of("train", length),
            "valid": rows_of("validation", length, most=VALID),
            "test": rows_of("test", length, most=TEST),
            "old": rows_of("forgetting", length, most=OLD),
        }

    @torch.no_grad()
    def _judged(self, model: nn.Module, rows: Tensor) -> Judged:
        model.eval()
        return joined(
            judged(model(input_ids=part[:, :-1]).logits, part[:, 1:]) for part in rows.split(16)
        )
