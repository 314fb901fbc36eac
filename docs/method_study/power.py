"""Compute the sample size of the method study from a pilot: `python -m docs.method_study.power`.

From the runs of the pilot (docs/results/method-study-pilot.json) the program estimates the variance
of paired differences between seeds and between test texts, and the difference in loss that
corresponds to two points of accuracy. It prints, for each task, how many seeds, test texts and
steps are needed to detect such a difference with 90 % power at the level that remains for one
comparison after correction for all of them, and to show with 90 % power that two equal methods are
equivalent.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from docs.method_study.differences import Array, Components, components, estimated
from structmat.errors import StructmatError

LEVEL = 0.05  # of the family of comparisons with the baseline in one task
POWER = 0.9
POINTS = 0.02  # the difference in accuracy to detect
CONFIDENCE = 0.8  # that the variances are not larger than assumed
MOST = 1000  # seeds; more are not considered
QUADRATURE = 2000


# Closed forms -----------------------------------------------------------------------------


def degrees(parts: Components, seeds: int, texts: float = math.inf) -> float:
    """Return Satterthwaite's degrees of freedom at the expected mean squares.

    Examples
    --------
    >>> degrees(Components(1.0), seeds=10), round(degrees(Components(1, 1, 0), 10, 10), 9)
    (9.0, 18.0)
    """
    by_seed, by_text, rest = parts.seed / seeds, 0.0, 0.0
    doubt = 0.0
    if math.isfinite(texts):
        rest = parts.rest / (seeds * texts)
        by_seed, by_text = by_seed + rest, parts.text / texts + rest
        doubt = by_text**2 / (texts - 1) + rest**2 / ((seeds - 1) * (texts - 1))
    doubt += by_seed**2 / (seeds - 1)
    return (by_seed + by_text - rest) ** 2 / doubt if doubt > 0 else seeds - 1.0


class Design(NamedTuple):
    """Numbers of seeds and of test texts, and the level of one two-sided comparison."""

    seeds: int
    texts: float = math.inf
    level: float = LEVEL

    def half_widths(self, parts: Components) -> tuple[float, Array]:
        """Return the standard error, and possible half widths of the interval, equally probable."""
        df = degrees(parts, self.seeds, self.texts)
        error = math.sqrt(parts.variance(self.seeds, self.texts))
        middles = (np.arange(QUADRATURE) + 0.5) / QUADRATURE
        relative = np.sqrt(special.gammaincinv(df / 2, middles) * 2 / df)  # quantiles of χ²
        return error, -special.stdtrit(df, self.level / 2) * error * relative


def power(difference: float, parts: Components, design: Design) -> float:
    """Return the probability that a difference is significant, two-sided.

    It integrates over the estimated standard error, whose square is distributed as χ² over its
    degrees of freedom. For one number a run this is the power of the paired t test.

    Examples
    --------
    >>> round(power(1.0, Components(1.0), Design(seeds=13)), 3)  # that of the t test
    0.911
    """
    error, halves = design.half_widths(parts)
    if error == 0:
        return float(difference != 0)
    above, below = (difference - halves) / error, (-halves - difference) / error
    return float((special.ndtr(above) + special.ndtr(below)).mean())


def equivalence_power(
    margin: float, parts: Components, design: Design, *, difference: float = 0.0
) -> float:
    """Return the probability that two one-sided tests show a difference to be within ± margin.

    Each of the tests has the level of the design; the interval at 1 − 2 · level must be within the
    margin.

    Examples
    --------
    >>> round(equivalence_power(1.0, Components(1.0), Design(seeds=13)), 3)
    0.919
    """
    error, halves = design._replace(level=2 * design.level).half_widths(parts)
    if error == 0:
        return float(abs(difference) < margin)
    above = special.ndtr((margin - halves - difference) / error)
    below = special.ndtr((halves - margin - difference) / error)
    return float(np.maximum(0, above - below).mean())


def seeds_needed(
    difference: float,
    parts: Components,
    *,
    comparisons: int,
    texts: float = math.inf,
    target: float = POWER,
) -> int | None:
    """Return the least number of seeds for both aims, or None if 1,000 are not enough.

    The aims are to detect `difference`, and to show that equal methods are equivalent up to it,
    both at the Bonferroni level: the first step of Holm's procedure, hence the worst case.

    Examples
    --------
    >>> seeds_needed(1.0, Components(1.0), comparisons=1)
    13
    >>> seeds_needed(1.0, Components(1.0, text=10), comparisons=1, texts=20) is None
    True
    """

    def enough(seeds: int) -> bool:
        design = Design(seeds, texts, LEVEL / comparisons)
        found = power(difference, parts, design), equivalence_power(difference, parts, design)
        return min(found) >= target

    if not enough(MOST):
        return None
    low, high = 1, MOST  # not enough, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if middle > 1 and enough(middle) else (middle, high)
    return high


def detectable(
    parts: Components,
    *,
    seeds: int,
    comparisons: int,
    texts: float = math.inf,
    target: float = POWER,
) -> float:
    """Return the least difference that is significant with the target power.

    Examples
    --------
    >>> parts = Components(1.0)
    >>> least = detectable(parts, seeds=13, comparisons=1)
    >>> round(power(least, parts, Design(13)), 3)
    0.9
    """
    design = Design(seeds, texts, LEVEL / comparisons)
    scale = math.sqrt(parts.variance(seeds, texts))
    if scale == 0:
        return 0.0
    return float(optimize.brentq(lambda x: power(x, parts, design) - target, 0, 1000 * scale))


# Simulation -------------------------------------------------------------------------------


def simulated(
    differences: Sequence[float],
    parts: Components,
    *,
    seeds: int,
    texts: int | None,
    rng: np.random.Generator,
) -> Array:
    """Draw outcomes of a baseline, then of methods at true differences from it.

    Every method has its own effects, with half of the variances of a paired difference, besides
    effects of the seed and of the text that all methods share.

    Returns
    -------
    ndarray
        Of shape (1 + methods, seeds), or (1 + methods, seeds, texts).
    """
    many = 1 + len(differences)
    shape = (many, seeds, 1 if texts is None else texts)

    def effect(variance: float, *axes: int) -> Array:
        size = tuple(n if axis in axes else 1 for axis, n in enumerate(shape))
        return math.sqrt(variance) * rng.standard_normal(size)

    total = parts.seed + parts.text + parts.rest
    made = np.reshape([0.0, *differences], (many, 1, 1)) + effect(total, 1) + effect(total, 2)
    made = made + effect(parts.seed / 2, 0, 1) + effect(parts.text / 2, 0, 2)
    made = made + effect(parts.rest / 2, 0, 1, 2)
    return made[:, :, 0] if texts is None else made


def simulated_power(
    differences: Sequence[float],
    parts: Components,
    *,
    seeds: int,
    texts: int | None,
    repetitions: int,
    rng: np.random.Generator,
) -> Array:
    """Return how often each difference is significant by Holm's procedure, in simulated studies.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> simulated_power(
    ...     [0.0, 9.0], Components(1.0), seeds=8, texts=None, repetitions=50, rng=rng
    ... )
    array([0.08, 1.  ])
    """
    from docs.method_study.analysis import holm

    found = np.zeros(len(differences))
    for _ in range(repetitions):
        base, *others = simulated(differences, parts, seeds=seeds, texts=texts, rng=rng)
        found += holm([estimated(other - base).p() for other in others]) < LEVEL
    return found / repetitions


# The pilot --------------------------------------------------------------------------------


def pooled(outcomes: Mapping[str, Array], baseline: str) -> tuple[Components, float]:
    """Return the mean variances of the differences from a baseline, and their degrees of freedom.

    Differences that share a baseline are correlated by 1/2, and estimates of their variances
    therefore by 1/4, so m of them are worth m / (1 + (m − 1)/4) independent ones.

    Examples
    --------
    >>> rows = {"LoRA": np.zeros(3), "OFT": np.array([1.0, 2.0, 3.0])}
    >>> pooled(rows, "LoRA")
    (Components(seed=1.0, text=0.0, rest=0.0), 2.0)
    """
    base = outcomes[baseline]
    found = [components(rows - base) for name, rows in outcomes.items() if name != baseline]
    if not found:
        raise StructmatError(f"no method besides {baseline}: a pilot needs two or more")
    worth = len(found) / (1 + (len(found) - 1) / 4)
    return Components(*np.mean(found, axis=0).tolist()), worth * (len(base) - 1)


def cautious(parts: Components, df: float) -> Components:
    """Return the variances with those of the seeds at their upper confidence limit of 80 %.

    A pilot of a few seeds determines them poorly; with the estimate itself, the power would be less
    than planned in about half of all studies [1]_. Those of the texts rest on hundreds of texts.

    References
    ----------
    .. [1] R. H. Browne, "On the use of a pilot sample for sample size determination", Statistics in
       Medicine 14 (1995), 1933–1940.

    Examples
    --------
    >>> cautious(Components(1.0, 2.0, 3.0), 10)
    Components(seed=1.618..., text=2.0, rest=3.0)
    """
    return parts._replace(seed=parts.seed * df / float(special.chdtri(df, CONFIDENCE)))


class Scale(NamedTuple):
    """What adaptation gains in a task: losses and accuracies of the frozen model and of LoRA."""

    loss: tuple[float, float]
    accuracy: tuple[float, float] | None

    @property
    def gain(self) -> float:
        """The decrease in loss."""
        return self.loss[0] - self.loss[1]

    @property
    def fraction(self) -> float | None:
        """The fraction of the gain in accuracy that two points are, if there are accuracies.

        Examples
        --------
        >>> round(Scale((1.5, 0.5), (0.4, 0.8)).fraction, 12)
        0.05
        """
        return None if self.accuracy is None else POINTS / (self.accuracy[1] - self.accuracy[0])


def margins(scales: Mapping[str, Scale]) -> dict[str, float]:
    """Return for each task the difference in loss that corresponds to two points of accuracy.

    In a classification task, two points are a fraction of what LoRA gains in accuracy over the
    frozen model; the margin is the same fraction of what it gains in loss. A task without
    accuracies has the smallest of these fractions.

    Examples
    --------
    >>> margins({"a": Scale((1.5, 0.5), (0.4, 0.8)), "b": Scale((5.0, 4.0), None)})
    {'a': 0.05, 'b': 0.05}
    """
    known = [scale.fraction for scale in scales.values() if scale.fraction is not None]
    if not known or min(known) <= 0:
        raise StructmatError(
            "no task in which LoRA gains accuracy: two points cannot be expressed as a loss"
        )
    return {
        name: round((scale.fraction or min(known)) * scale.gain, 12)
        for name, scale in scales.items()
    }
