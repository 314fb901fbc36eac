"""The numbers of the preregistered plan, which docs/method-study.md explains.

They were fixed before the study ran, from the pilot (`docs.method_study.sample_size`).
"""

from collections.abc import Mapping
from typing import NamedTuple

BASELINE = "LoRA"
FROZEN = "head only"  # the pretrained model without an adapter
DEFAULT = "mixing network"  # the recommendation of `structmat.choose` when the plan was made
METHODS = (
    BASELINE,
    "rsLoRA",
    "DoRA",
    "OFT",
    "HRA",
    "RoAd",
    "PSOFT",
    "MiSS",
    "BOFT(1, 16)",
    "BOFT(2, 8)",
    "BOFT(3, 8), reduced",
    "BOFT, dense",
    "shuffle",
    DEFAULT,
    "mixed radix",
    FROZEN,
)
DENSE = "BOFT, dense"  # no dense butterfly of MiniLM's widths is within the budget
CANDIDATES = ("BOFT(1, 16)", "BOFT(2, 8)", "BOFT(3, 8), reduced", "shuffle", "mixed radix")

LEVEL = 0.05  # of a family of comparisons
POWER = 0.9
POINTS = 2.0  # percentage points of accuracy: the difference that matters
EQUAL_TIME = ("digits", "language")  # the tasks with a comparison at equal training time


class Planned(NamedTuple):
    """The plan for a task.

    `outcomes` is the number of classes, or of tokens in the vocabulary; `texts` is the name of the
    test items; `accuracy` states whether two points of accuracy mean the same as in a
    classification; `seeds` is the number of seeds, which start at 0; `margin` is the difference in
    loss that corresponds to two points; and `absent` contains the methods that the task does not
    have.
    """

    title: str
    outcomes: int
    texts: str
    accuracy: bool
    seeds: int
    margin: float
    absent: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of the task, from the baseline to the frozen model."""
        return tuple(name for name in METHODS if name not in self.absent)

    @property
    def comparisons(self) -> int:
        """The number of methods that are compared with the baseline."""
        return len(self.methods) - 2


TASKS: Mapping[str, Planned] = {
    "digits": Planned(
        title="digits",
        outcomes=5,
        texts="images",
        accuracy=True,
        seeds=15,
        margin=0.0536,
    ),
    "language": Planned(
        title="language model",
        outcomes=2048,
        texts="windows",
        accuracy=False,
        seeds=15,
        margin=0.0224,
    ),
    "docstrings": Planned(
        title="docstrings",
        outcomes=6,
        texts="texts",
        accuracy=True,
        absent=(DENSE,),
        seeds=15,
        margin=0.0939,
    ),
    "errors": Planned(
        title="error messages",
        outcomes=4,
        texts="texts",
        accuracy=True,
        absent=(DENSE,),
        seeds=15,
        margin=0.0264,
    ),
}


def tasks_of(budget: str) -> tuple[str, ...]:
    """Return the tasks that are compared at equal "parameters" or at equal "time"."""
    return EQUAL_TIME if budget == "time" else tuple(TASKS)
