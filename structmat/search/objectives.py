"""Objectives and requirements of a search: named measures of a network, or user functions.

An objective is a number to be minimised or maximised. A requirement is a condition with a measure
of its violation, which is zero where the condition holds.
"""

from __future__ import annotations

import inspect
import math
import numbers
import operator
import re
import time as clock
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from structmat._util.text_location import of_error
from structmat.analysis import mixing as spread
from structmat.analysis.jacobian import component_error
from structmat.analysis.jacobian import conditioning as derivative
from structmat.analysis.reachability import reach
from structmat.analysis.report import report
from structmat.errors import (
    ObjectiveError,
    StructmatError,
    abbreviated,
    checked_field,
    checked_integer,
    suggest,
)
from structmat.fitting import fit
from structmat.linalg.blocks import count_generators, generators_per_block, random_blocks
from structmat.linalg.factors import product
from structmat.networks.network import Network

if TYPE_CHECKING:
    from structmat.linalg.rotation import Rotation

Measure: TypeAlias = Callable[[Network], float]
Target: TypeAlias = "npt.ArrayLike | Rotation"

_DIRECTIONS = ("minimize", "maximize")
_STARTS = 2  # random starts of a fit
_VECTORS, _RUNS = 256, 7  # vectors of a timed product, and its repetitions
_ROWS = 2048  # rows of the reachability matrix held in memory at once
_LONGEST = 1000  # characters of the message of an exception
_ROUNDING = 1e-12  # values that differ by at most this, relatively above 1, count as equal
_COMPARISON = re.compile(r"\s*(\w+)\s*(<=|>=|==|≤|≥)\s*(\S+)\s*")
_NO_TARGET = (
    "it needs a target; give target=, the matrix to approximate (on the command line: --target"
    " FILE.npy)"
)
_CONDITIONS = (
    "it must be dense, universal, or a comparison of an objective with a number by <=, >= or ==,"
    " such as mixing<=0.01"
)
_SAME = {"≤": "<=", "≥": ">="}


@dataclass(frozen=True)
class Objective:
    """A number that a search minimises or maximises.

    Attributes
    ----------
    name : str
    direction : {"minimize", "maximize"}
    cost : int
        How long it takes: 0 for counts, 1 for milliseconds, 2 for seconds at a width of a few
        hundred, 3 for more. A search measures cheap objectives first.
    function : Network → number
    description : str
        One line, for tables.
    """

    name: str
    direction: str
    cost: int
    function: Measure
    description: str = ""

    def __post_init__(self) -> None:
        if self.direction not in _DIRECTIONS:
            raise ObjectiveError(
                f'direction={abbreviated(self.direction)} of {self.name}: it must be "minimize" or'
                ' "maximize"'
            )
        if not callable(self.function):
            raise ObjectiveError(
                f"function={abbreviated(self.function)} of {self.name}: it must be a function of a"
                " network"
            )

    def measure(self, net: Network) -> float:
        """Return the value of the objective for a network.

        Raises
        ------
        ObjectiveError
            If the function raises an exception, or does not return a finite number. The message
            names the objective, and the exception is its cause.

        Examples
        --------
        >>> from structmat.families import butterfly
        >>> objective("parameters").measure(butterfly(8))
        12.0
        >>> objective(lambda net: net.depth / (net.depth - 3)).measure(butterfly(8))
        Traceback (most recent call last):
        ...
        structmat.errors.ObjectiveError: objective <lambda>: ZeroDivisionError: division by zero
        """
        return _number(f"objective {self.name}", _called("objective", self, net))

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Requirement:
    """A condition that the networks of a search must satisfy.

    Attributes
    ----------
    name : str
        The condition as text, such as "mixing<=0.01".
    cost : int
        As for `Objective`.
    function : Network → bool or number
        Whether the network satisfies the condition; or a number, positive if it does not.
    """

    name: str
    cost: int
    function: Callable[[Network], float]

    def satisfied(self, net: Network) -> bool:
        """Return whether a network satisfies the condition.

        Raises
        ------
        ObjectiveError
            As for `violation`.
        """
        return self.violation(net) == 0

    def violation(self, net: Network) -> float:
        """Return by how much a network violates the condition: 0 if and only if it satisfies it.

        For a comparison, it is the distance of the measure from the limit, relative to the limit if
        that is above 1; for "dense", the share of (input, output) pairs not connected; for
        "universal", the share of the dimensions that are missing; for a function, its value, or 1
        instead of False.

        Raises
        ------
        ObjectiveError
            If a function raises an exception, or returns neither a bool nor a number that is finite
            or +∞.

        Examples
        --------
        >>> from structmat.families import butterfly
        >>> requirement("parameters<=10").violation(butterfly(8))
        0.2
        >>> requirement("dense").violation(butterfly(8, depth=2))
        0.5
        """
        value = _called("requirement", self, net)
        if isinstance(value, bool | np.bool_):
            return float(not value)
        if isinstance(value, numbers.Real) and value == math.inf:
            return math.inf
        return max(0.0, _number(f"requirement {self.name}", value))

    def __str__(self) -> str:
        return self.name


def objective(
    given: str | Measure | Objective,
    *,
    field: str = "real",
    target: Target | None = None,
    direction: str | None = None,
    rng: int = 0,
) -> Objective:
    """Return the objective with a given name, or that of a function from a network to a number.

    Parameters
    ----------
    given : str, callable or Objective
        A name in `OBJECTIVES`; a function, which is minimised by default; or an Objective.
    field : {"real", "complex"}
        Whether the blocks are orthogonal or unitary.
    target : (width, width) or (k, width, width) array, or Rotation, optional
        The matrix, or matrices, that "fit_error" approximates; for several, the root mean square of
        the errors is returned.
    direction : {"minimize", "maximize"}, optional
        By default that of the objective.
    rng : int
        The seed of all random numbers: measuring a network twice gives the same value, except for
        its time.

    Raises
    ------
    ObjectiveError
        If the name or the direction is unknown, or a target is missing.
    StructmatError
        If the field or the seed is invalid.

    Examples
    --------
    >>> from structmat.families import butterfly, gossip
    >>> mixing = objective("mixing")
    >>> [round(mixing.measure(net), 3) for net in (butterfly(16), gossip(16))]
    [0.0, 0.75]
    >>> objective("mixng")
    Traceback (most recent call last):
    ...
    structmat.errors.ObjectiveError: objective 'mixng': unknown; did you mean mixing?
    """
    options = {"field": checked_field(field), "target": target, "rng": checked_integer(rng, "rng")}
    if isinstance(given, str):
        known = _named(given)
        taken = inspect.signature(known.function).parameters
        if "target" in taken and target is None:
            raise ObjectiveError(f"objective {given}: {_NO_TARGET}")
        bound = {name: value for name, value in options.items() if name in taken}
        found = Objective(
            known.name,
            known.direction,
            known.cost,
            partial(known.function, **bound),
            known.description,
        )
    elif isinstance(given, Objective):
        found = given
    elif callable(given):
        found = Objective(_title(given), "minimize", 3, given)
    else:
        raise ObjectiveError(
            f"objective {abbreviated(given)}: it must be a name, a function of a network, or an"
            " Objective"
        )
    if direction is None or direction == found.direction:
        return found
    return Objective(found.name, direction, found.cost, found.function, found.description)


def requirement(
    given: str | Callable[[Network], float] | Requirement,
    *,
    field: str = "real",
    target: Target | None = None,
    rng: int = 0,
) -> Requirement:
    """Return the requirement that a text or a function states.

    Parameters
    ----------
    given : str, callable or Requirement
        "dense"; "universal", which requires the dimension of SO(d), or of U(d) (some matrices may
        still be out of reach); a comparison of an objective with a number by <=, >= or ==, such as
        "mixing<=0.01", in which numbers within 10⁻¹² count as equal; or a function that returns
        whether a network satisfies the requirement, or a number that is positive if it does not.
    field, target, rng
        As for `objective`.

    Raises
    ------
    ObjectiveError
        If the text states no requirement, or a target is missing.
    StructmatError
        If the field or the seed is invalid.

    Examples
    --------
    >>> from structmat.families import butterfly, gossip
    >>> even = requirement("mixing<=0")
    >>> [even.satisfied(net) for net in (butterfly(16), gossip(16))]
    [True, False]
    >>> requirement("parameters < 100")
    Traceback (most recent call last):
    ...
    structmat.errors.ObjectiveError: requirement 'parameters < 100': it must be dense, universal, \
or a comparison of an objective with a number by <=, >= or ==, such as mixing<=0.01
    """
    if isinstance(given, Requirement):
        return given
    if callable(given):
        return Requirement(_title(given), 3, given)
    if not isinstance(given, str):
        raise ObjectiveError(
            f"requirement {abbreviated(given)}: it must be text, a function of a network, or a"
            " Requirement"
        )
    if given.strip() == "dense":
        return Requirement("dense", 1, _disconnected)
    if given.strip() == "universal":
        return Requirement("universal", 2, partial(_missing, field=checked_field(field)))
    if not (found := _COMPARISON.fullmatch(given)):
        near = suggest(given, ("dense", "universal"), _CONDITIONS)
        unknown = f" unknown{near}" if near != f"; {_CONDITIONS}" else f" {_CONDITIONS}"
        raise ObjectiveError(f"requirement {abbreviated(given)}:{unknown}")
    name, sign, text = found.groups()
    sign = _SAME.get(sign, sign)
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise ObjectiveError(
            f"requirement {abbreviated(given)}: {abbreviated(text)} is not a finite number"
        )
    measured = objective(name, field=field, target=target, rng=rng)
    excess = partial(_excess, measured=measured, sign=sign, limit=limit)
    return Requirement(f"{name}{sign}{text}", measured.cost, excess)


def requirements(
    given: Iterable[str | Callable[[Network], float] | Requirement],
    *,
    field: str = "real",
    target: Target | None = None,
    rng: int = 0,
) -> tuple[Requirement, ...]:
    """Return several requirements, the cheap ones first.

    Parameters
    ----------
    given : iterable
        Each as for `requirement`.
    field, target, rng
        As for `objective`.

    Examples
    --------
    >>> print(*requirements(["universal", "dense", "radix<=2"]))
    radix<=2 dense universal
    """
    each = [given] if isinstance(given, str) else given
    found = [requirement(one, field=field, target=target, rng=rng) for one in each]
    return tuple(sorted(found, key=operator.attrgetter("cost")))


# Measures ----------------------------------------------------------------------------------------


def _parameters(net: Network, *, field: str = "real") -> float:
    return count_generators(net, field=field)


def _depth(net: Network) -> float:
    return net.depth


def _nonzeros(net: Network) -> float:
    return net.nonzeros


def _radix(net: Network) -> float:
    return max((bank.radix for bank in net.banks), default=1)


def _density(net: Network) -> float:
    return _connected(net) / net.width**2


def _dimension(net: Network, *, field: str = "real") -> float:
    return report(net, field=field).dimension.value


def _fourth_moment(net: Network, *, field: str = "real") -> float:
    return report(net, field=field).fourth_moment


def _conditioning(net: Network, *, field: str = "real", rng: int = 0) -> float:
    found = derivative(net, field=field, rng=rng)
    return found.ratio if found.resolved else 0.0


def _fit_error(net: Network, *, target: Target | None = None, rng: int = 0) -> float:
    from structmat.linalg.rotation import Rotation  # deferred: it loads scipy.sparse

    if target is None:
        raise StructmatError(_NO_TARGET)
    several = not isinstance(target, Rotation) and np.ndim(target) == 3
    each: Iterable[Any] = np.asarray(target) if several else [target]
    fits = [fit(net, one, rng=rng, starts=_STARTS, progress=False) for one in each]
    if any(found.method.endswith("interrupted") for found in fits):
        raise KeyboardInterrupt  # an unfinished fit would be a value that no other run repeats
    return float(np.sqrt(np.mean([found.error**2 for found in fits])))


def _time(net: Network, *, field: str = "real", rng: int = 0) -> float:
    dtype = complex if field == "complex" else float
    blocks = random_blocks(net, rng, dtype)
    vectors = np.random.default_rng(rng).standard_normal((net.width, _VECTORS)).astype(dtype)
    times = []
    for _ in range(_RUNS + 1):  # the first run also makes the schedule
        start = clock.perf_counter()
        product(net, blocks, vectors)
        times.append(clock.perf_counter() - start)
    return min(times)


OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {
        name: Objective(name, direction, cost, function, description)
        for name, direction, cost, function, description in (
            ("parameters", "minimize", 0, _parameters, "number of parameters of all blocks"),
            ("depth", "minimize", 0, _depth, "number of stages"),
            ("nonzeros", "minimize", 0, _nonzeros, "number of non-zeros in all factors"),
            ("radix", "minimize", 0, _radix, "number of wires of the largest switch"),
            (
                "error_tolerance",
                "minimize",
                0,
                component_error,
                "relative error of R caused by independent errors in all parameters, divided by the"
                " size of these errors",
            ),
            ("density", "maximize", 1, _density, "share of pairs (input, output) connected"),
            ("mixing", "minimize", 1, spread.mixing, "deviation from perfect mixing, 0 to 1"),
            (
                "concentration",
                "minimize",
                1,
                spread.concentration,
                "largest expected energy on one output, relative to an even spread",
            ),
            (
                "time",
                "minimize",
                1,
                _time,
                f"seconds to rotate {_VECTORS} vectors with numpy on this machine",
            ),
            (
                "dimension",
                "maximize",
                2,
                _dimension,
                "dimension of the set of matrices that the network represents",
            ),
            (
                "fourth_moment",
                "minimize",
                2,
                _fourth_moment,
                "largest E|R_ij|⁴ for random blocks, relative to that of a Haar matrix",
            ),
            (
                "conditioning",
                "maximize",
                3,
                _conditioning,
                "smallest over largest singular value of the derivative at random blocks",
            ),
            (
                "fit_error",
                "minimize",
                3,
                _fit_error,
                "relative Frobenius error of the best fit to a target",
            ),
        )
    }
)
"""All named objectives, the cheap ones first."""


def _connected(net: Network) -> int:
    """Return the number of pairs (input, output) that are connected."""
    rows = range(net.width)
    chunks = [rows[first : first + _ROWS] for first in range(0, net.width, _ROWS)]
    return sum(int(reach(net, list(chunk)).sum()) for chunk in chunks)


def _disconnected(net: Network) -> float:
    return (net.width**2 - _connected(net)) / net.width**2


def _missing(net: Network, *, field: str) -> float:
    """Return the share of the dimensions of SO(d) or U(d) that a network lacks."""
    group = generators_per_block(net.width, field=field)
    return (group - report(net, field=field).dimension.value) / group if group else 0.0


def _excess(net: Network, *, measured: Objective, sign: str, limit: float) -> float:
    """Return by how much a measure misses its limit, relative to the limit above 1."""
    distance = (measured.measure(net) - limit) / max(1.0, abs(limit))
    if abs(distance) <= _ROUNDING:
        return 0.0
    return {"<=": distance, ">=": -distance, "==": abs(distance)}[sign]


# User functions ----------------------------------------------------------------------------------


def _named(name: str) -> Objective:
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    near = suggest(name, OBJECTIVES)
    if "," in name:
        near = "; give several as a list, on the command line by repeating the option"
    raise ObjectiveError(f"objective {abbreviated(name)}: unknown{near}")


def _title(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _called(what: str, asker: Objective | Requirement, net: Network) -> Any:
    """Return the value of the function; name the objective or requirement in any error."""
    try:
        return asker.function(net)
    except ObjectiveError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, StructmatError) else f"{type(error).__name__}: "
        where = of_error(error)
        end = f"; {where}" if where else ""
        raise ObjectiveError(f"{what} {asker.name}: {kind}{worded(error)}{end}") from error


def worded(error: Exception) -> str:
    r"""Return the message of an exception of the user's code in one line, abbreviated if long.

    Examples
    --------
    >>> worded(ValueError("too\nlarge")), len(worded(ValueError("x" * 10**6)))
    ('too large', 1000)
    """
    try:
        text = " ".join(str(error).split())
    except Exception:  # of the user's code
        return "without a message that can be printed"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _number(what: str, value: Any) -> float:
    """Return a finite number as a float, also from an array or a tensor with one element."""
    given = value
    if hasattr(value, "item") and getattr(value, "shape", None) in ((), (1,)):
        value = value.item()
    rule = "it must return a finite number"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ObjectiveError(f"{what} returned {abbreviated(given)}: {rule}")
    try:
        number = float(value)
    except OverflowError:  # an integer or a fraction
        raise ObjectiveError(f"{what} returned {abbreviated(given)}: {rule}") from None
    if not math.isfinite(number):
        raise ObjectiveError(f"{what} returned {abbreviated(given)}: {rule}")
    return number
