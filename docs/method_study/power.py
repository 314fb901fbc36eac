"""Power of paired comparisons whose seeds and test texts are random samples.

The closed forms are for one comparison at a given level; `simulated_power` checks them by
simulating whole studies, with Holm's procedure over all methods.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from docs.method_study.differences import Array, Components, estimated
from docs.method_study.plan import LEVEL, POWER

MOST = 1000  # seeds; more are not considered
QUADRATURE = 1000  # points; the error is below 1e-4


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
