"""Adapt a small vision transformer from the digits 0 to 4 to the digits 5 to 9.

Each seed has its own transformer, pretrained on scikit-learn's images of 8×8 pixels.
"""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import sklearn
import torch
from torch import Tensor, nn
from torch.nn import functional

from docs.digits_model import LAYERS, NEW, OLD, WIDTH, Body, Images, drawn, parts
from docs.method_study.judging import Judged, judged
from docs.method_study.language_model import order
from docs.method_study.tasks import Part, Task

OLD_TESTED, TESTED = 300, 400  # images that measure forgetting, and test images
EACH = 40  # training images of each new digit; there are as many validation images
PRETRAINING = 600  # steps


class VisionTransformer(Body):
    """The transformer, with a head for five digits."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(WIDTH, len(NEW))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (images, 5) of images (images, 8, 8)."""
        return self.classifier(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Return the features (images, width) that the head classifies."""
        return super().forward(images)


class Start(NamedTuple):
    """The pretrained model of a seed, and its training and validation images of the new digits."""

    model: VisionTransformer
    train: Images
    valid: Images


class DigitsTask(Task):
    """The task; see the module."""

    name = "digits"
    per_seed = True
    head = ("classifier",)
    steps, batch, budget = 100, 32, 2 * 3232

    def __init__(self, *, quick: bool = False) -> None:
        super().__init__()
        self.pretraining = 20 if quick else PRETRAINING
        self.steps = 4 if quick else type(self).steps
        (self._old, self._old_test), (self._new, self._test) = (
            parts(OLD, OLD_TESTED),
            parts(NEW, TESTED),
        )
        # Runs of the study proceed seed by seed, so few seeds are needed at a time.
        self._start = lru_cache(maxsize=4)(self._start)

    @property
    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the linear layers to adapt, by group."""
        inside = {"attention": ("query", "key", "value", "out"), "up": ("up",), "down": ("down",)}
        return {
            group: tuple(f"blocks.{block}.{name}" for block in range(LAYERS) for name in names)
            for group, names in inside.items()
        }

    @property
    def fingerprint(self) -> str:
        """A key of the data and of the pretraining."""
        digest = hashlib.sha256(f"{self.pretraining} {sklearn.__version__}".encode())
        for images, labels in (self._old, self._old_test, self._new, self._test):
            digest.update(images.numpy().tobytes() + labels.numpy().tobytes())
        return digest.hexdigest()[:16]

    def _start(self, seed: int) -> Start:
        torch.manual_seed(seed)
        model = VisionTransformer()
        images, labels = self._old
        optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.pretraining)
        for rows in order(len(labels), batch=64, steps=self.pretraining, seed=seed):
            functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimiser.step()
            optimiser.zero_grad()
            falling.step()
        return Start(model, *drawn(self._new, EACH, seed))

    def model(self, seed: int) -> nn.Module:
        """Return a copy of the pretrained model of this seed, with a new head."""
        model = copy.deepcopy(self._start(seed).model)
        torch.manual_seed(seed)
        model.classifier.reset_parameters()
        return model

    def batches(self, seed: int, steps: int) -> Sequence[Any]:
        """Return the batches of images and labels."""
        images, labels = self._start(seed).train
        rows = order(len(labels), batch=self.batch, steps=steps, seed=seed)
        return [(images[picked], labels[picked]) for picked in rows]

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss of a batch."""
        images, labels = batch
        return functional.cross_entropy(model(images), labels)

    @torch.no_grad()
    def judged(self, model: nn.Module, part: Part, seed: int) -> Judged:
        """Return the losses and predictions on images of the new digits."""
        images, labels = self._test if part == "test" else self._start(seed).valid
        return judged(model.eval()(images), labels)

    @torch.no_grad()
    def old(self, model: nn.Module, seed: int) -> Mapping[str, float]:
        """Return the loss and accuracy on old digits, with the head used in pretraining."""
        images, labels = self._old_test
        return judged(
            self._start(seed).model.classifier(model.eval().features(images)), labels
        ).summary()
