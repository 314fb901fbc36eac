"""Power of paired comparisons whose seeds and test texts are random samples.

The closed forms are for one comparison at a given level; `simulated_power` checks them by
simulating whole studies, with Holm's procedure over all methods.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize, special

from docs.method_study.differences import Array, Components, Estimate, estimated
from docs.method_study.plan import LEVEL, POWER

MOST = 1000  # seeds; more are not considered
QUADRATURE = 1000  # points; the error is below 1e-4


# Closed forms -----------------------------------------------------------------------------


def expected(parts: Components, seeds: int, texts: float = math.inf) -> Estimate:
    """Return the estimate of a difference of zero, with the expected mean squares.

    Examples
    --------
    >>> expected(Components(9.0), seeds=9)
    Estimate(value=0.0, error=1.0, degrees=8.0)
    >>> round(expected(Components(1, 1, 0), seeds=10, texts=10).degrees, 9)
    18.0
    """
    by_seed, by_text, rest = parts.seed / seeds, 0.0, 0.0
    doubt = 0.0  # Satterthwaite's: the squares over their degrees of freedom
    if math.isfinite(texts):
        rest = parts.rest / (seeds * texts)
        by_seed, by_text = by_seed + rest, parts.text / texts + rest
        doubt = by_text**2 / (texts - 1) + rest**2 / ((seeds - 1) * (texts - 1))
    doubt += by_seed**2 / (seeds - 1)
    variance = by_seed + by_text - rest
    degrees = variance**2 / doubt if doubt > 0 else seeds - 1.0
    return Estimate(0.0, math.sqrt(variance), degrees)


def half_widths(estimate: Estimate, level: float) -> Array:
    """Return possible half widths of the interval at 1 − level, all equally probable.

    The square of the estimated standard error is distributed as χ² over its degrees of freedom.
    """
    middles = (np.arange(QUADRATURE) + 0.5) / QUADRATURE
    squares = special.gammaincinv(estimate.degrees / 2, middles) * 2 / estimate.degrees
    return np.asarray(estimate.half(level) * np.sqrt(squares))


def power(difference: float, estimate: Estimate, level: float = LEVEL) -> float:
    """Return the probability that a difference is significant in a two-sided test.

    With one number a run, this is the power of the paired t test.

    Examples
    --------
    >>> round(power(1.0, expected(Components(1.0), seeds=13)), 3)  # that of the t test
    0.911
    """
    if estimate.error == 0:
        return float(difference != 0)
    halves = half_widths(estimate, level)
    above, below = difference - halves, -halves - difference
    return float(
        (special.ndtr(above / estimate.error) + special.ndtr(below / estimate.error)).mean()
    )


def equivalence_power(
    margin: float, estimate: Estimate, level: float = LEVEL, *, difference: float = 0.0
) -> float:
    """Return the probability that two one-sided tests show a difference to be within ± margin.

    Each of the tests is at the given level: the interval at 1 − 2 · level must be within ± margin.

    Examples
    --------
    >>> round(equivalence_power(1.0, expected(Components(1.0), seeds=13)), 3)
    0.919
    """
    if estimate.error == 0:
        return float(abs(difference) < margin)
    halves = half_widths(estimate, 2 * level)
    above = special.ndtr((margin - halves - difference) / estimate.error)
    below = special.ndtr((halves - margin - difference) / estimate.error)
    return float(np.maximum(0, above - below).mean())


def seeds_needed(
    difference: float, at: Callable[[int], Estimate], *, comparisons: int, target: float = POWER
) -> int | None:
    """Return the smallest number of seeds that meets both aims, or None if 1,000 do not.

    The aims are to detect `difference`, and to show that equal methods are equivalent up to it,
    both at the Bonferroni level: the first step of Holm's procedure, hence the worst case. `at`
    returns the expected estimate for a number of seeds.

    Examples
    --------
    >>> seeds_needed(1.0, lambda seeds: expected(Components(1.0), seeds), comparisons=1)
    13
    >>> few = Components(1.0, text=10)
    >>> seeds_needed(1.0, lambda seeds: expected(few, seeds, texts=20), comparisons=1) is None
    True
    """
    level = LEVEL / comparisons

    def enough(seeds: int) -> bool:
        estimate = at(seeds)
        chance = power(difference, estimate, level)
        return min(chance, equivalence_power(difference, estimate, level)) >= target

    if not enough(MOST):
        return None
    low, high = 1, MOST  # not enough, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def detectable(estimate: Estimate, level: float = LEVEL, *, target: float = POWER) -> float:
    """Return the smallest difference that is significant with the target power.

    Examples
    --------
    >>> estimate = expected(Components(1.0), seeds=13)
    >>> round(power(detectable(estimate), estimate), 3)
    0.9
    """
    if estimate.error == 0:
        return 0.0
    most = 1000 * estimate.error
    return float(optimize.brentq(lambda x: power(x, estimate, level) - target, 0, most))


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

    Every method has its own effects, with half the variances of a paired difference, in addition to
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
