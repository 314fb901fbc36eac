"""The numbers of the preregistered plan; docs/method-study.md says what they are for.

They were fixed before the study ran, from the pilot (`docs.method_study.sample_size`).
"""

from collections.abc import Mapping
from typing import NamedTuple

BASELINE = "LoRA"
FROZEN = "head only"  # the pretrained model without an adapter
DEFAULT = "mixing network"  # what `structmat.choose` recommends when the plan is made
CANDIDATES = ("BOFT(1, 16)", "BOFT(2, 8)", "BOFT(3, 8), reduced", "shuffle", "mixed radix")

LEVEL = 0.05  # of a family of comparisons
POWER = 0.9
POINTS = 2.0  # percentage points of accuracy: the difference that matters


class Planned(NamedTuple):
    """What is planned for a task.

    `outcomes` is the number of classes, or of tokens in the vocabulary; `texts` what the test items
    are called, `accuracy` whether two points of accuracy mean the same as in a classification;
    `comparisons` the number of methods that are compared with the baseline; `seeds` the number of
    seeds, 0, 1, …; `margin` the loss that corresponds to two points.
    """

    title: str
    outcomes: int
    texts: str
    accuracy: bool
    comparisons: int
    seeds: int
    margin: float


TASKS: Mapping[str, Planned] = {
    "digits": Planned(
        title="digits",
        outcomes=5,
        texts="images",
        accuracy=True,
        comparisons=14,
        seeds=20,
        margin=0.05,
    ),
    "language": Planned(
        title="language model",
        outcomes=2048,
        texts="windows",
        accuracy=False,
        comparisons=14,
        seeds=20,
        margin=0.01,
    ),
    "docstrings": Planned(
        title="docstrings",
        outcomes=6,
        texts="texts",
        accuracy=True,
        comparisons=13,
        seeds=20,
        margin=0.05,
    ),
    "errors": Planned(
        title="error messages",
        outcomes=4,
        texts="texts",
        accuracy=True,
        comparisons=13,
        seeds=20,
        margin=0.05,
    ),
}
