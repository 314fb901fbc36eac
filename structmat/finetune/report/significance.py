"""Confidence intervals of accuracies, and paired tests of methods on the same test texts.

The data of a method are its correct answers, a matrix (seeds, texts). All methods answer the same
texts, and a seed is the same initial head and order of texts for every method, so methods are
compared text by text and seed by seed. Texts and seeds are both samples: conclusions about a method
concern other texts and other seeds as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

LEVEL = 0.05  # intervals have a confidence of 1 − LEVEL, tests a familywise error rate of LEVEL

Correct = npt.NDArray[np.bool_]  # (seeds, texts)
Floats = npt.NDArray[np.float64]


class Paired(NamedTuple):
    """The comparison of two methods: the difference between their accuracies, and its test.

    `low` and `high` are the confidence limits of the difference; `first_only` and `second_only` are
    the numbers of answers, over all seeds, for which only one of the methods is right.
    """

    difference: float
    low: float
    high: float
    p: float
    first_only: int
    second_only: int


def accuracy_interval(correct: Correct, groups: Sequence[int]) -> tuple[float, float]:
    """Return the confidence limits of an accuracy.

    With one seed and distinct texts, this is Wilson's interval of a binomial proportion; it does
    not include the variation between seeds. Otherwise it is Wilson's interval for the number of
    independent texts that would have the same variance, with a quantile of Student's distribution:
    the variance of the mean over seeds and texts is estimated as in a crossed random-effects
    model, and texts of a group, which are near duplicates of each other, count as one unit.

    Parameters
    ----------
    correct : (seeds, texts) array of bool
    groups : sequence of int
        The group of each text.

    References
    ----------
    Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927);
    Franco, Little, Louis, Slud, Comparative study of confidence intervals for proportions in
    complex sample surveys, J. Survey Stat. Methodol. 7 (2019), for the effective sample size.

    Examples
    --------
    >>> right = np.array([[True] * 45 + [False] * 15])
    >>> [round(limit, 3) for limit in accuracy_interval(right, range(60))]
    [0.628, 0.842]
    """
    accuracy = float(correct.mean())
    units = _units(correct.astype(float), groups)
    variance, freedom = _variance(units)
    most = correct.shape[1] if len(units) == 1 else correct.size
    spread = accuracy * (1 - accuracy)
    texts = min(most, spread / variance) if variance > 0 else units.shape[1]
    return wilson(accuracy, texts, freedom)


def wilson(accuracy: float, texts: float, freedom: float = math.inf) -> tuple[float, float]:
    """Return Wilson's limits of a proportion, with a quantile of Student's t distribution.

    With infinite `freedom`, the default, this is the normal distribution.

    Examples
    --------
    >>> [round(limit, 3) for limit in wilson(0.0, 20)]
    [0.0, 0.161]
    """
    z = _quantile(freedom)
    centre = (accuracy + z**2 / (2 * texts)) / (1 + z**2 / texts)
    half = z * math.sqrt(accuracy * (1 - accuracy) / texts + z**2 / (4 * texts**2))
    half /= 1 + z**2 / texts
    return max(0.0, centre - half), min(1.0, centre + half)


def paired(first: Correct, second: Correct, groups: Sequence[int]) -> Paired:
    """Compare two methods that have answered the same texts, with the same seeds.

    With one seed, p is exact: the probability that random exchanges of the two methods' answers,
    group by group, lead to a difference at least as large. For distinct texts, this is McNemar's
    exact test. With several seeds, p is that of a t test with the variance between texts and
    between seeds. The interval and the t test include Agresti and Min's correction: one unit is
    added in favour of each method.

    References
    ----------
    Bonett and Price, Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data, J. Educ. Behav. Stat. 37 (2012);
    Gallas, One-shot estimate of MRMC variance: AUC, Acad. Radiol. 13 (2006), for crossed designs.

    Examples
    --------
    >>> first = np.array([[True] * 9 + [False] * 3])
    >>> found = paired(first, ~first, range(12))
    >>> found.difference, found.first_only, found.second_only, round(found.p, 3)
    (0.5, 9, 3, 0.146)
    """
    change = first.astype(float) - second
    units = _units(change, groups)
    favours = np.broadcast_to([[1.0, -1.0]], (len(units), 2))
    adjusted = np.concatenate([units, favours], axis=1)
    variance, freedom = _variance(adjusted)
    centre, half = float(adjusted.mean()), _quantile(freedom) * math.sqrt(variance)
    if len(units) == 1:
        p = _exchanged(_sums(change, groups)[0])
    else:
        p = float(2 * stats.t.sf(abs(centre) / math.sqrt(variance), freedom))
    return Paired(
        float(change.mean()),
        max(-1.0, centre - half),
        min(1.0, centre + half),
        p,
        int((change > 0).sum()),
        int((change < 0).sum()),
    )


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, which bound the familywise error rate.

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6 (1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda k: p[k])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = largest
    return adjusted


def _quantile(freedom: float) -> float:
    return float(
        stats.norm.isf(LEVEL / 2) if freedom == math.inf else stats.t.isf(LEVEL / 2, freedom)
    )


def _sums(values: Floats, groups: Sequence[int]) -> Floats:
    """Return the sums over the texts of each group, (seeds, groups)."""
    _, place = np.unique(np.asarray(groups), return_inverse=True)
    return np.stack([np.bincount(place, row) for row in values])


def _units(values: Floats, groups: Sequence[int]) -> Floats:
    """Return the linearised values of independent units, (seeds, groups), with the same mean.

    For groups of one text each, these are the values themselves.
    """
    sizes = _sums(np.ones((1, values.shape[1])), groups)
    mean = values.mean()
    return np.asarray(mean + (_sums(values, groups) - mean * sizes) / sizes.mean())


def mean_squares(values: Floats) -> tuple[float, float, float]:
    """Return the mean squares of values (seeds, texts): between seeds, between texts, residual.

    In terms of the variances of these effects, their expectations are texts · seed + residual,
    seeds · text + residual, and residual.

    Examples
    --------
    >>> mean_squares(np.array([[1.0, 2.0], [3.0, 4.0]]))
    (4.0, 1.0, 0.0)
    """
    seeds, texts = values.shape
    centred = values - values.mean()
    rows, columns = centred.mean(1), centred.mean(0)
    rest = centred - rows[:, None] - columns
    return (
        texts * float(rows @ rows) / (seeds - 1),
        seeds * float(columns @ columns) / (texts - 1),
        float(np.square(rest).sum()) / ((seeds - 1) * (texts - 1)),
    )


def _variance(units: Floats) -> tuple[float, float]:
    """Return the variance of the mean of a crossed sample, and its degrees of freedom.

    For one seed, the variance is that of the mean over texts, without a correction for small
    samples, and the number of degrees of freedom is infinite.
    """
    seeds, texts = units.shape
    if seeds == 1:
        return float(units.mean(axis=0).var()) / texts, math.inf
    by_seed, by_text, both = (square / (seeds * texts) for square in mean_squares(units))
    variance = max(by_text + by_seed - both, by_text, by_seed)  # the estimated sum may be smaller
    if variance == 0:
        return 0.0, float(seeds - 1)
    # Satterthwaite's approximation
    spread = by_text**2 / (texts - 1) + by_seed**2 / (seeds - 1)
    spread += both**2 / ((seeds - 1) * (texts - 1))
    return variance, max(variance**2 / spread, min(seeds, texts) - 1)


def _exchanged(sums: Floats) -> float:
    """Return P(|Σ ±s| ≥ |Σ s|) for independent random signs of integers s."""
    sizes, counts = np.unique(np.abs(np.rint(sums)).astype(int), return_counts=True)
    chances = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        if size:
            steps = np.zeros(2 * size * count + 1)  # at −size·count … size·count
            steps[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
            chances = np.convolve(chances, steps)
    middle = len(chances) // 2
    reached = abs(round(float(sums.sum())))
    far = np.abs(np.arange(len(chances)) - middle) >= reached
    return min(1.0, float(chances[far].sum()))
