"""Paired differences between methods, whose seeds and test texts are random samples.

The outcome of a run is one number, or one for each test text. For two methods with the same seeds
and the same texts, the difference of their outcomes on text i under seed s is modelled as

    d_si = δ + a_s + c_i + e_si,

with independent normal effects: a of the seed (initialisation, order and selection of the training
texts), c of the text, and the residual e. This is the mixed model of Bates and others for crossed
random effects; on complete data its estimates have the closed form of a two-way analysis of
variance, so nothing has to be iterated. With one number a run, the analysis is the paired t test.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from structmat.finetune.report.significance import mean_squares

Array = np.ndarray[Any, np.dtype[np.float64]]


class Components(NamedTuple):
    """Variances of a paired difference: between seeds, between texts, and of the residual.

    If there is one number a run, texts are not distinguished, and `seed` includes the residual
    variance.
    """

    seed: float
    text: float = 0.0
    rest: float = 0.0

    def variance(self, seeds: float, texts: float = math.inf) -> float:
        """Return the variance of the mean difference over numbers of seeds and of texts.

        Examples
        --------
        >>> Components(seed=4, text=6, rest=120).variance(seeds=4, texts=30)
        2.2
        """
        return self.seed / seeds + self.text / texts + self.rest / (seeds * texts)


class Estimate(NamedTuple):
    """A difference, its standard error and the degrees of freedom of the latter."""

    value: float
    error: float
    degrees: float

    def half(self, level: float = 0.05) -> float:
        """Return half the width of the confidence interval at 1 − level.

        Examples
        --------
        >>> round(Estimate(0.0, 1.0, 10).half(), 3)
        2.228
        """
        return -float(special.stdtrit(self.degrees, level / 2)) * self.error

    def p(self, null: float = 0.0) -> float:
        """Return the two-sided p value of the hypothesis that the difference is `null`.

        If the standard error is zero, p is 1 if the difference is exactly `null`, else 0.

        Examples
        --------
        >>> round(Estimate(2.228, 1.0, 10).p(), 3), Estimate(0.0, 0.0, 4).p()
        (0.05, 1.0)
        """
        return min(1.0, 2 * min(self.beyond(null), self.beyond(null, below=True)))

    def beyond(self, limit: float, *, below: bool = False) -> float:
        """Return the one-sided p value for a difference above `limit`, or `below` it.

        Examples
        --------
        >>> estimate = Estimate(0.0, 1.0, 10)
        >>> round(estimate.beyond(-1.812), 3), round(estimate.beyond(1.812, below=True), 3)
        (0.05, 0.05)
        """
        distance = (limit - self.value) if below else (self.value - limit)
        if self.error == 0:
            return 0.0 if distance > 0 else 1.0
        return float(special.stdtr(self.degrees, -distance / self.error))


def components(differences: Array) -> Components:
    """Return estimates of the variances of differences (seeds,) or (seeds, texts).

    They are unbiased, except that negative estimates are replaced by zero.

    Examples
    --------
    >>> components(np.array([1.0, 2.0, 3.0]))
    Components(seed=1.0, text=0.0, rest=0.0)
    """
    if differences.ndim == 1:
        return Components(float(differences.var(ddof=1)))
    seeds, texts = differences.shape
    by_seed, by_text, rest = mean_squares(differences)
    return Components(max(0, by_seed - rest) / texts, max(0, by_text - rest) / seeds, rest)


def estimated(differences: Array) -> Estimate:
    """Return the mean of differences (seeds,) or (seeds, texts), with its standard error.

    In terms of the mean squares, the variance of the mean of (seeds, texts) is estimated by
    (seed + text − rest) / (seeds · texts), but never by less than the term of the seeds or that of
    the texts alone, as if a negative estimate of the other variance were zero. The degrees of
    freedom are Satterthwaite's [1]_.

    References
    ----------
    .. [1] F. E. Satterthwaite, "An approximate distribution of estimates of variance components",
       Biometrics Bulletin 2 (1946), 110–114.

    Examples
    --------
    >>> estimated(np.array([1.0, 2.0, 3.0, 4.0]))
    Estimate(value=2.5, error=0.6454972243679028, degrees=3.0)
    """
    value, seeds = float(differences.mean()), len(differences)
    if differences.ndim == 1:
        return Estimate(value, float(differences.std(ddof=1)) / math.sqrt(seeds), seeds - 1.0)
    texts = differences.shape[1]
    by_seed, by_text, rest = mean_squares(differences)
    all_terms = [
        (by_seed, seeds - 1),
        (by_text, texts - 1),
        (-rest, (seeds - 1) * (texts - 1)),
    ]
    terms = max((all_terms, all_terms[:1], all_terms[1:2]), key=lambda t: sum(m for m, _ in t))
    total = sum(square for square, _ in terms)
    doubt = sum(square**2 / degrees for square, degrees in terms)
    degrees = total**2 / doubt if doubt > 0 else seeds - 1.0
    return Estimate(value, math.sqrt(total / (seeds * texts)), degrees)
