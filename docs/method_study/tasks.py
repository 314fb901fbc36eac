"""The tasks of the study behind one interface: a pretrained model, batches, and measures."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from docs.method_study.judging import Decomposed, Judged, decomposed

GROUPS = ("attention", "up", "down")

Part = Literal["valid", "test"]


class Task(ABC):
    """A task to adapt a pretrained model to.

    Attributes
    ----------
    name : str
    per_seed : bool
        Whether each seed has its own pretrained model.
    steps, batch : int
        The number of training steps, and the number of items in a batch.
    head_rate : float
        The learning rate of the modules in `head`, which is the same for all methods.
    head : tuple of str
        The names of the modules that are trained in full.
    budget : int
        The number of adapter parameters, which methods of equal size meet within 5 %.
    """

    name: ClassVar[str]
    per_seed: ClassVar[bool] = False
    head: tuple[str, ...] = ()
    head_rate: float = 1e-2
    steps: int
    batch: int
    budget: int

    def __init__(self) -> None:
        self._before: dict[int, Before] = {}

    @property
    @abstractmethod
    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the linear layers to adapt, by group: attention, up and down."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A key of the data and of the pretrained model."""

    @abstractmethod
    def model(self, seed: int) -> nn.Module:
        """Return a new copy of the pretrained model; the seed initialises its head."""

    @abstractmethod
    def batches(self, seed: int, steps: int) -> Sequence[Any]:
        """Return the batches of a run, which depend only on the seed.

        The batches of a shorter run are the first ones of a longer run.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss of a batch."""

    @abstractmethod
    def judged(self, model: nn.Module, part: Part, seed: int) -> Judged:
        """Return the losses and predictions of the model on validation or test data."""

    @abstractmethod
    def old(self, model: nn.Module, seed: int) -> Mapping[str, float]:
        """Return the `loss` and the `accuracy` on the task of pretraining."""

    def before(self, seed: int) -> "Before":
        """Return the state before adaptation; only the latest state is cached."""
        own = seed if self.per_seed else 0
        if own not in self._before:
            model = self.model(own).eval()
            weights = {
                name: decomposed(model.get_submodule(name).weight)
                for names in self.layers.values()
                for name in names
            }
            self._before = {own: Before(weights, self.old(model, own))}
        return self._before[own]


class Before(NamedTuple):
    """The pretrained weights of the adapted layers, and the measures on the old task."""

    weights: Mapping[str, Decomposed]
    old: Mapping[str, float]


@cache
def task(name: str, *, quick: bool = False) -> Task:
    """Return a task by name; `quick` selects a version with little data and few steps.

    Raises
    ------
    KeyError
        If there is no task of this name.
    """
    return _made(name, quick=quick)


NAMES = ("digits", "language", "docstrings", "errors")


def _made(name: str, *, quick: bool) -> Task:
    # A task's module is imported only if needed; the constructor reads the data.
    if name == "digits":
        from docs.method_study.digits_task import DigitsTask

        return DigitsTask(quick=quick)
    if name == "language":
        from docs.method_study.language_task import LanguageTask

        return LanguageTask(quick=quick)
    if name in ("docstrings", "errors"):
        from docs.method_study.text_tasks import DocstringsTask, ErrorsTask

        return {"docstrings": DocstringsTask, "errors": ErrorsTask}[name](quick=quick)
    raise KeyError(f"no task {name!r}; the tasks are {', '.join(NAMES)}")
