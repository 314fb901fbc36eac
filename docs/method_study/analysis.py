"""Compare methods with a baseline: tests, intervals, equivalence, ranks, and means across tasks.

On complete data, two analyses yield the same estimates, but different standard errors. The primary
one models the paired differences of each method from the baseline (`differences.estimated`), which
allows every method a variance of its own, and corrects for the number of comparisons: the tests by
Holm's procedure, the intervals by Bonferroni's. Both are valid for any dependence between the
comparisons. The second is a mixed model of all methods at once (`mixed_model`) with a common
variance, from which Dunnett's simultaneous intervals follow. They are narrower because all methods
contribute to the variance, but wrong if the methods differ in theirs. The bootstrap checks both.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from docs.method_study.differences import Array, Estimate, estimated
from docs.method_study.plan import LEVEL
from structmat.errors import StructmatError
from structmat.finetune.report import significance


def holm(p: Sequence[float]) -> Array:
    """Return p values adjusted by Holm's procedure, which controls the family-wise error rate.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    return np.array(significance.holm(p))


def equivalence(estimate: Estimate, margin: float) -> float:
    """Return the p value of two one-sided tests: small if the difference is within ± margin.

    Examples
    --------
    >>> round(equivalence(Estimate(0.0, 1.0, 10), 1.812), 3)
    0.05
    """
    return max(estimate.beyond(-margin), estimate.beyond(margin, below=True))


class Comparison(NamedTuple):
    """A method compared with the baseline.

    `p` and `equivalent` are p values after Holm's procedure: of no difference, and of a difference
    of the margin or more; `half` is half the width of the simultaneous interval.
    """

    method: str
    estimate: Estimate
    half: float
    p: float
    equivalent: float

    @property
    def interval(self) -> tuple[float, float]:
        """The limits of the simultaneous interval."""
        return self.estimate.value - self.half, self.estimate.value + self.half

    @property
    def verdict(self) -> str:
        """Return the conclusion at the 5 % level, in the same words for losses and accuracies.

        Examples
        --------
        >>> Comparison("OFT", Estimate(-0.01, 0.001, 9.0), 0.004, p=0.001, equivalent=0.002).verdict
        'lower, within the margin'
        >>> Comparison("OFT", Estimate(-0.01, 0.01, 9.0), 0.04, p=0.8, equivalent=0.3).verdict
        'undecided'
        """
        differs = ("higher" if self.estimate.value > 0 else "lower") if self.p < LEVEL else ""
        within = self.equivalent < LEVEL
        if differs:
            return f"{differs}, within the margin" if within else differs
        return "equivalent" if within else "undecided"


def compared(outcomes: Mapping[str, Array], baseline: str, margin: float) -> list[Comparison]:
    """Compare every other method with the baseline, as one family.

    Parameters
    ----------
    outcomes : mapping from method to an array (seeds,) or (seeds, texts)
        As `differences.outcomes_of` returns them.
    baseline : str
    margin : float
        Smaller differences do not matter; positive.

    Raises
    ------
    StructmatError
        If there are fewer than two seeds, or the arrays differ in shape.

    Examples
    --------
    >>> rows = {"LoRA": np.array([1.0, 1.2, 1.1]), "OFT": np.array([0.8, 1.1, 0.95])}
    >>> [(c.method, round(c.estimate.value, 2), c.verdict) for c in compared(rows, "LoRA", 0.05)]
    [('OFT', -0.15, 'lower')]
    """
    shapes = {rows.shape for rows in outcomes.values()}
    if len(shapes) != 1:
        raise StructmatError(
            f"outcomes of shapes {sorted(shapes)}: paired comparisons need the same seeds and texts"
            " for every method"
        )
    if len(outcomes[baseline]) < 2:
        raise StructmatError("one seed: the spread between seeds needs two or more")
    names = [name for name in outcomes if name != baseline]
    estimates = [estimated(outcomes[name] - outcomes[baseline]) for name in names]
    return family(names, estimates, margin)


def family(names: Sequence[str], estimates: Sequence[Estimate], margin: float) -> list[Comparison]:
    """Return comparisons whose tests and intervals are simultaneously valid, as one family.

    Examples
    --------
    >>> found = family(["a", "b"], [Estimate(1.0, 0.1, 9), Estimate(0.0, 0.1, 9)], margin=0.5)
    >>> [c.verdict for c in found]
    ['higher', 'equivalent']
    """
    p = holm([estimate.p() for estimate in estimates])
    same = holm([equivalence(estimate, margin) for estimate in estimates])
    level = LEVEL / max(1, len(names))
    return [
        Comparison(name, estimate, estimate.half(level), float(one), float(two))
        for name, estimate, one, two in zip(names, estimates, p, same, strict=True)
    ]


# The model of all methods -----------------------------------------------------------------


def mixed_model(outcomes: Mapping[str, Array], baseline: str) -> dict[str, Estimate]:
    """Fit a mixed model by REML, with methods as fixed effects and seeds as random ones.

    Outcomes with texts are averaged over these first. The degrees of freedom are (methods − 1) ·
    (seeds − 1), those of the residual; on complete data the standard error is √(2 · residual mean
    square / seeds), except where the estimated variance between seeds is zero.

    Examples
    --------
    >>> rows = {"LoRA": np.array([1.0, 2.0, 3.0]), "OFT": np.array([2.0, 3.5, 3.5])}
    >>> mixed_model(rows, "LoRA")["OFT"]
    Estimate(value=1.0, error=0.28867..., degrees=2.0)
    """
    names = [baseline, *(name for name in outcomes if name != baseline)]
    table = np.stack([rows.reshape(len(rows), -1).mean(1) for rows in map(outcomes.get, names)])
    many, seeds = table.shape
    unit = float(table.std()) or 1.0  # the optimiser expects numbers near one
    design = np.kron(np.eye(many), np.ones((seeds, 1)))
    design[:, 0] = 1
    model = MixedLM(table.ravel() / unit, design, groups=np.tile(np.arange(seeds), many))
    with warnings.catch_warnings():  # a variance between seeds of zero is a valid estimate
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = model.fit(reml=True)
    freedom = float((many - 1) * (seeds - 1))
    return {
        name: Estimate(unit * float(value), unit * float(error), freedom)
        for name, value, error in zip(
            names[1:], fitted.fe_params[1:], fitted.bse_fe[1:], strict=True
        )
    }


def dunnett_quantile(comparisons: int, degrees: float, level: float = LEVEL) -> float:
    """Return the quantile of the largest |t| of comparisons with one baseline.

    The estimates are correlated by 1/2, as in a complete design with a common variance: this is the
    multivariate t distribution with that correlation, integrated over the common part of the
    estimates and over the standard error.

    References
    ----------
    .. [1] C. W. Dunnett, "New tables for multiple comparisons with a control", Biometrics 20
       (1964), 482–491.

    Examples
    --------
    >>> round(dunnett_quantile(5, 30), 2)  # Dunnett's table: 2.66
    2.66
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    middles = (np.arange(1000) + 0.5) / 1000
    scales = np.sqrt(2 * special.gammaincinv(degrees / 2, middles) / degrees)[:, None]

    def excess(limit: float) -> float:
        cdf = special.ndtr
        inside = cdf(nodes + math.sqrt(2) * limit * scales) - cdf(
            nodes - math.sqrt(2) * limit * scales
        )
        return float(((inside**comparisons) @ weights).mean()) - (1 - level)

    return float(optimize.brentq(excess, 0.1, 100, xtol=1e-6))


# Bootstrap and ranks ----------------------------------------------------------------------


def resampled(
    outcomes: Mapping[str, Array], *, draws: int, rng: np.random.Generator
) -> tuple[list[str], Array]:
    """Return the names of the methods, and their means (draws, methods) over resampled data.

    Seeds and, where there are any, texts are drawn independently with replacement, the same ones
    for all methods, so that the pairing is kept [1]_.

    References
    ----------
    .. [1] A. B. Owen, "The pigeonhole bootstrap", The Annals of Applied Statistics 1 (2007),
       386–411.

    Examples
    --------
    >>> rows = {"LoRA": np.arange(4.0), "OFT": np.arange(4.0) + 1}
    >>> names, means = resampled(rows, draws=100, rng=np.random.default_rng(0))
    >>> names, bool(np.allclose(means[:, 1] - means[:, 0], 1))
    (['LoRA', 'OFT'], True)
    """
    names = list(outcomes)
    table = np.stack([outcomes[name].reshape(len(outcomes[name]), -1) for name in names])
    _, seeds, texts = table.shape
    by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
    by_text = rng.multinomial(texts, np.full(texts, 1 / texts), size=draws) / texts
    means = [np.einsum("kt,kt->k", by_seed @ rows, by_text) for rows in table]
    return names, np.stack(means, axis=1)


def bootstrap(
    outcomes: Mapping[str, Array],
    baseline: str,
    *,
    draws: int = 4000,
    rng: np.random.Generator,
    level: float = LEVEL,
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of the differences from the baseline, each at 1 − level.

    The deviations are widened by √(seeds / (seeds − 1)), since the mean over seeds resampled from a
    few varies less than the mean over new seeds.

    Examples
    --------
    >>> rows = {"LoRA": np.zeros(30), "OFT": np.linspace(-1, 1, 30)}
    >>> low, high = bootstrap(rows, "LoRA", rng=np.random.default_rng(0))["OFT"]
    >>> bool(-0.25 < low < -0.18), bool(0.18 < high < 0.25)
    (True, True)
    """
    names, means = resampled(outcomes, draws=draws, rng=rng)
    seeds = len(outcomes[baseline])
    wider = math.sqrt(seeds / (seeds - 1))
    gaps = means - means[:, [names.index(baseline)]]
    found = {}
    for name, gap in zip(names, gaps.T, strict=True):
        if name != baseline:
            centre = float(outcomes[name].mean() - outcomes[baseline].mean())
            low, high = np.quantile(gap, [level / 2, 1 - level / 2])
            found[name] = (centre + wider * (low - centre), centre + wider * (high - centre))
    return found


class Rank(NamedTuple):
    """The rank of a method by its mean, with an interval, and the frequency of being the best."""

    rank: float
    low: float
    high: float
    best: float


def ranks(
    outcomes: Mapping[str, Array], *, draws: int = 4000, rng: np.random.Generator
) -> dict[str, Rank]:
    """Return the rank of each method, 1 for the lowest mean, with 95 % bootstrap intervals.

    Equal means share the mean of their ranks, and the frequency of being the best.

    Examples
    --------
    >>> rows = {"a": np.zeros(3), "b": np.zeros(3), "c": np.ones(3)}
    >>> found = ranks(rows, draws=10, rng=np.random.default_rng(0))
    >>> found["a"]
    Rank(rank=1.5, low=1.5, high=1.5, best=0.5)
    >>> found["c"].rank
    3.0
    """
    names, means = resampled(outcomes, draws=draws, rng=rng)
    means = means.round(12)  # rounding errors do not break ties
    of = stats.rankdata(means, axis=1)
    first = means == means.min(1, keepdims=True)
    best = (first / first.sum(1, keepdims=True)).mean(0)
    point = stats.rankdata([outcomes[name].mean().round(12) for name in names])
    low, high = np.quantile(of, [LEVEL / 2, 1 - LEVEL / 2], axis=0, method="nearest")
    rows = zip(names, point, low, high, best, strict=True)
    return {name: Rank(*map(float, row)) for name, *row in rows}


# Several tasks ----------------------------------------------------------------------------


def mean_of_tasks(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of independent estimates, the difference averaged over the given tasks.

    The degrees of freedom are Satterthwaite's.

    Examples
    --------
    >>> mean_of_tasks([Estimate(1.0, 0.2, 9), Estimate(3.0, 0.2, 9)])
    Estimate(value=2.0, error=0.1414..., degrees=18.0)
    """
    squares = [(e.error / len(estimates)) ** 2 for e in estimates]
    doubt = sum(s**2 / e.degrees for s, e in zip(squares, estimates, strict=True))
    degrees = sum(squares) ** 2 / doubt if doubt else min(e.degrees for e in estimates)
    value = float(np.mean([e.value for e in estimates]))
    return Estimate(value, math.sqrt(sum(squares)), round(degrees, 9))


class RandomEffects(NamedTuple):
    """The mean over a population of tasks, with an interval; the spread between tasks, and I²."""

    value: float
    low: float
    high: float
    spread: float
    heterogeneity: float


def random_effects(estimates: Sequence[Estimate]) -> RandomEffects:
    """Return the mean effect over tasks like these, by a random-effects model.

    The variance between tasks is estimated by Paule and Mandel's method, and the interval by
    Hartung and Knapp's, with a quantile of Student's t for one degree of freedom fewer than there
    are tasks [1]_. With few tasks, the interval is wide, but its coverage is close to nominal.

    References
    ----------
    .. [1] J. IntHout, J. P. A. Ioannidis and G. F. Borm, "The Hartung–Knapp–Sidik–Jonkman method
       for random effects meta-analysis is straightforward and considerably outperforms the standard
       DerSimonian–Laird method", BMC Medical Research Methodology 14 (2014), 25.

    Examples
    --------
    >>> found = random_effects([Estimate(v, 0.1, 20) for v in (0.8, 1.0, 1.2)])
    >>> [round(x, 2) for x in (found.value, found.low, found.high, found.spread)]
    [1.0, 0.5, 1.5, 0.17]
    """
    if len(estimates) < 2:
        raise StructmatError("one task: the spread between tasks needs two or more")
    values = np.array([e.value for e in estimates])
    squares = np.array([e.error**2 for e in estimates])
    freedom = len(values) - 1

    def weighted(between: float) -> tuple[float, float, float]:
        """Return the mean, the weighted sum of squares around it, and the total weight."""
        weights = 1 / (squares + between)
        centre = float(weights @ values / weights.sum())
        return centre, float(weights @ np.square(values - centre)), float(weights.sum())

    _, apart, _ = weighted(0)  # Cochran's Q
    widest = freedom * float(np.ptp(values)) ** 2 + 1  # leaves a sum of squares below `freedom`
    between = (
        optimize.brentq(lambda t: weighted(t)[1] - freedom, 0, widest) if apart > freedom else 0.0
    )
    value, rest, weight = weighted(between)
    half = float(stats.t.isf(LEVEL / 2, freedom)) * math.sqrt(rest / freedom / weight)
    heterogeneity = 1 - freedom / apart if apart > freedom else 0.0
    return RandomEffects(value, value - half, value + half, math.sqrt(between), heterogeneity)
