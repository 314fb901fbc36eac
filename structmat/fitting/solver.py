"""Fitting a network to a matrix: directly if its structure allows that, otherwise by sweeps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from structmat._util.progress import bar
from structmat.errors import BlockError, StructmatError, abbreviated, checked_integer, random_source
from structmat.families.resolution import checked
from structmat.fitting.cosine_sine import cosine_sine_blocks
from structmat.fitting.determinant_signs import rotated
from structmat.fitting.end_permutations import end_permutations
from structmat.fitting.error_bounds import lower_bound
from structmat.fitting.givens_nulling import givens_blocks
from structmat.fitting.hierarchical_svd import hierarchical_blocks
from structmat.fitting.multistart import Search
from structmat.fitting.permutation_targets import routed
from structmat.fitting.procrustes import polar
from structmat.fitting.radix_one import absorbed
from structmat.fitting.target_scaling import Scaled, scaled
from structmat.linalg.blocks import Array, checked_blocks, random_blocks
from structmat.networks.network import Network

if TYPE_CHECKING:
    from structmat.linalg.rotation import Rotation

_MOST_PERMUTED = 12  # permutations of the ends for which the direct methods are run


@dataclass(frozen=True, eq=False)
class Fit:
    """The result of `fit`: the best blocks found, with a lower bound on the error.

    Attributes
    ----------
    rotation : Rotation
        The network with the blocks that were found.
    error : float
        ‖R − T‖_F / ‖T‖_F, for the target as given. For an orthogonal target ‖T‖_F = √d, and the
        error is at most 2; if the target has any other norm, no orthogonal R has error 0.
    lower_bound : float
        A certified lower bound on the error over all blocks. If it is close to `error`, no other
        search can do much better; a bound of 0 is uninformative.
    exact : bool
        Whether a direct method solved the problem. R is then the target up to rounding (a few ulps
        per stage) or, if the target is not orthogonal, the orthogonal matrix nearest to it. For
        such a target, the network must cover every orthogonal matrix, or a multiple of the target.
    method : str
        "routing", "hierarchical SVD", "cosine–sine decomposition", "nulling", or "alternating
        Procrustes", with "refined" or "interrupted" added.
    history : tuple of float
        The error after each sweep of the best start, then after each step of the refinement, in the
        precision of the blocks. It never increases, and its last value is `error`.
    scale : float
        s = ‖T‖_F / √d, the norm of the target relative to that of an orthogonal matrix.
    scaled_error : float
        ‖R − T/s‖_F / √d, the error against the target scaled to the norm √d. Blocks that minimise
        one of the two errors also minimise the other.
    permuted : Rotation or None
        The target, divided by `scale`, up to rounding: the network with a permutation of its inputs
        or outputs, and blocks. It is sought only where no direct method is exact, and is None if no
        permutation was found.
    permutation : str
        That permutation in words, such as "inputs bit-reversed".
    """

    rotation: Rotation
    error: float
    lower_bound: float
    exact: bool
    method: str
    history: tuple[float, ...] = field(repr=False)
    scale: float
    scaled_error: float
    permuted: Rotation | None = None
    permutation: str = ""

    @property
    def blocks(self) -> list[Array]:
        """Copies of the blocks, one (n, r, r) array for each bank, as in `random_blocks`."""
        return [block.copy() for block in self.rotation.blocks]

    def __getattr__(self, name: str) -> Any:
        if name in ("matrix", "factors"):
            raise AttributeError(f"a Fit has no {name}: use its attribute rotation.{name}()")
        raise AttributeError(f"a Fit has no attribute {name!r}")

    def __str__(self) -> str:
        found = "exact" if self.exact else f"lower bound {self.lower_bound:.3g}"
        text = f"relative Frobenius error {self.error:.3g} ({found}), by {self.method}"
        target = "the target"
        if self.scale != 1:
            target = f"target / {self.scale:.4g}"
            text += (
                f"\nThe target's norm is {self.scale:.4g} times that of an orthogonal matrix;"
                f" the error against {target} is {self.scaled_error:.3g}"
            )
            if self.exact and self.scaled_error < 1000 * np.finfo(self.rotation.dtype).eps:
                text += f", so the target is {self.scale:.4g} times the fitted matrix"
        if self.permuted is not None:
            text += (
                f"\nWith its {self.permutation}, the network represents {target} exactly:"
                " see the attribute permuted"
            )
        return text


def fit(
    net: Network,
    target: npt.ArrayLike | Rotation,
    *,
    rng: Any = None,
    starts: int = 4,
    sweeps: int = 200,
    tolerance: float = 1e-6,
    start: Sequence[npt.ArrayLike] | None = None,
    special: bool = False,
    progress: bool = True,
) -> Fit:
    """Find blocks with which a network approximates a matrix as closely as possible.

    If the structure of the network allows it, a direct method is used, which is exact up to
    rounding and independent of the family and of the numbering of the wires. Such methods exist
    for:

    - signed permutations, on any network on which `route` finds a routing;
    - matrices of the network itself, if it has one digit per stage (mixed radix, Monarch,
      butterfly, shuffle of b^n wires) or is a block butterfly of any depth, by hierarchical
      singular value decomposition;
    - any orthogonal matrix on the ruler network, by the recursive cosine–sine decomposition, and on
      the brick-wall and triangle meshes, by nulling.

    Otherwise alternating Procrustes is used: each stage in turn is set to its optimum while the
    others are fixed. The error never increases, but may converge to a local minimum. Several starts
    are therefore made, beginning with the hierarchical decomposition if there is one. On small
    networks, the best result is refined by the Levenberg–Marquardt method on all generators.

    After a keyboard interrupt during the sweeps the best result so far is returned; before the
    first sweep is complete, that is the best result of the direct methods, or the first start.
    While a direct method is running, there is no result to return.

    Parameters
    ----------
    net : Network
        Any network; it need not be straight.
    target : (width, width) real or complex, or a Rotation
        The matrix T, not zero and usually orthogonal. The blocks are unitary for a complex target,
        and float32 for a float32 target; all computations are in double precision.
    rng : seed or numpy Generator, optional
        The source of the random starts.
    starts : int
        The number of random starts.
    sweeps : int
        The maximum number of sweeps per start.
    tolerance : float
        A start ends when a sweep lowers the scaled error (see `Fit`) by less than this fraction.
    start : blocks, optional
        The only starting point; direct methods are then not tried. Blocks that are not orthogonal
        are replaced by their polar factors.
    special : bool
        Whether real blocks must be rotations, as in an adapter. Otherwise they may have determinant
        −1, so that a target of determinant −1 can be attained.
    progress : bool
        Whether to show a progress bar, if the fit takes more than a second.

    Returns
    -------
    Fit
        With `rotation`, `error`, `lower_bound`, `exact`, `method`, `history`, `scale` and
        `scaled_error`.
        Its text shows everything except the rotation and the history.

    Raises
    ------
    StructmatError
        If `net` is not a network; if the target has another shape, is zero or not finite, or has
        entries beyond 1e300 or none above 1e-300; or if an option is out of range.
    BlockError
        If `start` does not fit the network, or is complex for a real target.

    References
    ----------
    P. H. Schönemann, A generalized solution of the orthogonal Procrustes problem, 1966. The modules
    of `structmat.fitting` cite the references for each method.

    Examples
    --------
    >>> from structmat.families import butterfly, ruler
    >>> target = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 16)))[0]
    >>> found = fit(ruler(16), target)
    >>> found.method, found.exact, found.error < 1e-14
    ('cosine–sine decomposition', True, True)
    >>> found = fit(butterfly(16), target, rng=0)  # 32 parameters, of 120 required
    >>> found.lower_bound > 0.65, found.error < 1.0
    (True, True)
    >>> from structmat.linalg.transforms import dft
    >>> print(fit(butterfly(8), dft(8).matrix(), rng=0))
    relative Frobenius error 0.765 (lower bound 0.765), by alternating Procrustes
    With its inputs bit-reversed, the network represents the target exactly: see the attribute \
permuted
    >>> print(fit(Network.of(2, [[[0, 1]]]), 3 * np.eye(2)))  # no orthogonal matrix is 3 I
    relative Frobenius error 0.667 (exact), by routing
    The target's norm is 3 times that of an orthogonal matrix; the error against target / 3 is 0, \
so the target is 3 times the fitted matrix
    """
    from structmat.linalg.rotation import Rotation  # deferred: it loads scipy.sparse

    net = checked(net, "fit")
    if isinstance(target, Rotation):
        target = target.matrix()
    count, most, source = (
        checked_integer(starts, "starts", 1),
        checked_integer(sweeps, "sweeps", 1),
        random_source(rng),
    )
    try:
        small = bool(0 <= tolerance < 1)
    except (TypeError, ValueError):
        small = False
    if not small:
        raise StructmatError(
            f"tolerance={abbreviated(tolerance)}: it must be a number from 0 to below 1"
        )
    if not isinstance(special, bool):
        raise StructmatError(f"special={abbreviated(special)}: special must be True or False")
    straight, inputs, outputs = net.straightened()
    given = scaled(target, net.width)
    matrix = np.empty_like(given.matrix)
    matrix[np.ix_(outputs, inputs)] = given.matrix
    goal = replace(given, matrix=matrix)
    rounding = goal.eps * net.width**0.5 * _ulps(straight)
    begins: list[list[Array]] = []
    elsewhere = None
    if start is not None:
        given_blocks = checked_blocks(net, start)
        if matrix.dtype.kind == "f" and any(b.dtype.kind == "c" for b in given_blocks):
            raise BlockError("start has complex blocks: the target must then have a complex dtype")
        begins.append([polar(b.astype(matrix.dtype), special=special) for b in given_blocks])
        count = 0
    else:
        for direct in _directly(straight, goal, rounding, special=special):
            if direct.exact:
                near = direct.distance <= rounding
                least = 0.0 if near else lower_bound(straight, matrix, special=special)
                method = direct.method
                return _result(net, straight, goal, direct.blocks, least, exact=True, method=method)
            begins.append(direct.blocks)
        elsewhere = _with_permutation(net, given, rounding, special=special)
    least = lower_bound(straight, matrix, special=special)
    enough = max(rounding, least * net.width**0.5 * (1 + 1e-9))
    search = Search(straight, matrix, special=special, tolerance=tolerance, enough=enough)
    others = _random(straight, source, matrix.dtype, special=special)
    try:
        with bar("fit", (len(begins) + count) * most, unit="sweep", shown=progress) as steps:
            for begin in itertools.chain(begins, itertools.islice(others, count)):
                search.sweep(begin, most, steps)
                if search.done:
                    break
        search.refine()
    except KeyboardInterrupt:
        search.interrupt(begins or [next(others)])
    found = _result(
        net,
        straight,
        goal,
        search.blocks,
        least,
        exact=False,
        method=search.method,
        distances=search.history[:-1],
    )
    if elsewhere is None or found.scaled_error * net.width**0.5 <= rounding:
        return found
    return replace(found, permuted=elsewhere[0], permutation=elsewhere[1])


def _ulps(net: Network) -> float:
    """Return the error, in ulps of √d, below which a product counts as exact.

    It is three times the error of direct methods, which was measured to be 0.5 √r per stage in
    double precision, and less in single precision, at widths up to 1024.
    """
    return float(10 + net.depth * np.sqrt(max((bank.radix for bank in net.banks), default=1)))


def _result(
    net: Network,
    straight: Network,
    goal: Scaled,
    blocks: Sequence[Array],
    least: float,
    *,
    exact: bool,
    method: str,
    distances: Sequence[float] = (),
) -> Fit:
    """Return the fit in the precision of the target, given distances in double precision."""
    from structmat.linalg.rotation import Rotation

    rotation = Rotation(net, goal.rounded(blocks))
    error = goal.error(straight, rotation.blocks)
    # Rounding errors can move the blocks nearer to the target than any orthogonal blocks.
    slack = goal.eps * _ulps(straight) * (1 + 1 / goal.size)
    below = max(0.0, goal.relative(least * straight.width**0.5) - slack)
    history = (*(max(goal.relative(distance), error) for distance in distances), error)
    return Fit(
        rotation,
        error,
        below,
        exact=exact,
        method=method,
        history=history,
        scale=goal.size,
        scaled_error=goal.scaled_error(straight, rotation.blocks),
    )


class _Direct(NamedTuple):
    """The result of a direct method, and the distance of R from the target."""

    method: str
    blocks: list[Array]
    exact: bool
    distance: float


def _directly(net: Network, goal: Scaled, rounding: float, *, special: bool) -> Iterator[_Direct]:
    """Yield the result of each direct method.

    It is exact if R is the matrix that the method aims at: the target, or the nearest orthogonal
    matrix if the network covers all of them.
    """
    methods: tuple[tuple[str, Any, bool], ...] = (
        ("routing", routed, False),
        ("hierarchical SVD", hierarchical_blocks, False),
        ("cosine–sine decomposition", cosine_sine_blocks, True),
        ("nulling", givens_blocks, True),
    )
    simpler = absorbed(net)
    for name, method, universal in methods:
        aim = polar(goal.matrix, special=special) if universal else goal.matrix
        blocks = method(simpler.network, aim)
        if blocks is None:
            continue
        blocks = rotated(simpler.network, blocks) if special else blocks
        blocks = simpler.restored(net, blocks)
        product = goal.product(net, goal.rounded(blocks))
        exact = _allowed(blocks, special=special) and np.linalg.norm(product - aim) <= rounding
        distance = float(np.linalg.norm(product - goal.matrix))
        yield _Direct(name, blocks, bool(exact), distance)


def _with_permutation(
    net: Network, given: Scaled, rounding: float, *, special: bool
) -> tuple[Rotation, str] | None:
    """Return the target as a rotation on the network with a permutation of its ends, if found."""
    from structmat.linalg.rotation import Rotation
    from structmat.linalg.transforms.assembly import Factored, permuted

    straight, _, places = net.straightened()
    candidates = end_permutations(net, given.matrix, rounding, special=special)
    for name, first, last in itertools.islice(candidates, _MOST_PERMUTED):
        member = np.empty_like(given.matrix)
        member[places[last]] = given.matrix[:, first]
        goal = replace(given, matrix=member)
        for direct in _directly(straight, goal, rounding, special=special):
            if direct.exact and direct.distance <= rounding:
                wired = permuted(Factored(net, direct.blocks), inputs=first, outputs=last)
                return Rotation(wired.network, goal.rounded(direct.blocks)), name
    return None


def _allowed(blocks: Sequence[Array], *, special: bool) -> bool:
    if not special or any(np.iscomplexobj(array) for array in blocks):
        return True
    return all((np.linalg.det(array) > 0).all() for array in blocks)


def _random(
    net: Network, source: np.random.Generator, dtype: np.dtype[Any], *, special: bool
) -> Iterator[list[Array]]:
    while True:
        yield random_blocks(net, source, dtype, special=special)
