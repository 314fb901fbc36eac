"""Properties of networks versus their number of parameters, and the Pareto frontier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from structmat.analysis.dimension import dimension
from structmat.analysis.mixing import mixing
from structmat.analysis.reachability import reach
from structmat.errors import StructmatError, abbreviated, is_sequence, suggest
from structmat.families.resolution import checked
from structmat.networks.network import Network
from structmat.viz.charts import Points, Series, look, points
from structmat.viz.palette import BARE, INK
from structmat.viz.style import axes, labelled, legend, ruled, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class _Quantity(NamedTuple):
    of: Callable[[Network], float]
    name: str
    best: str


QUANTITIES: Mapping[str, _Quantity] = {
    "density": _Quantity(
        lambda n: 100 * reach(n).mean(), "entries that can be non-zero, %", "high"
    ),
    "dimension": _Quantity(lambda n: dimension(n).value, "dimensions of SO(d)", "high"),
    "mixing": _Quantity(mixing, "distance from perfect mixing", "low"),
    "depth": _Quantity(lambda n: n.depth, "stages", "low"),
}


def frontier(given: Mapping[str, Series], *, best: str = "high") -> list[tuple[float, float]]:
    """Return the Pareto frontier: the points for which no other has as small an x and a better y.

    Parameters
    ----------
    given : mapping from label to a sequence of (x, y) pairs
    best : "high" or "low"
        Which y is better; smaller x is always better.

    Returns
    -------
    list of (x, y)
        The points in order of increasing x, each with a better y than the one before.

    Raises
    ------
    StructmatError
        If a series does not consist of pairs of numbers, or `best` is invalid.

    References
    ----------
    V. Pareto, Manuale di economia politica, 1906.

    Examples
    --------
    >>> frontier({"a": [(1, 5), (3, 7)], "b": [(2, 4), (2, 6)]})
    [(1.0, 5.0), (2.0, 6.0), (3.0, 7.0)]
    """
    if best not in ("high", "low"):
        raise StructmatError(f'best={abbreviated(best)}: it must be "high" or "low"')
    labelled(given, "given", '{"a": [(1, 5), (3, 7)]}')
    sign = 1 if best == "high" else -1
    found: list[tuple[float, float]] = []
    every = np.concatenate([np.zeros((0, 2)), *(points(k, pairs) for k, pairs in given.items())])
    for x, y in sorted(every.tolist(), key=lambda point: (point[0], -sign * point[1])):
        if not found or sign * y > sign * found[-1][1]:
            found.append((x, y))
    return found


def pareto(
    given: Mapping[str, Series],
    *,
    x: str,
    y: str,
    best: str = "high",
    log: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw series of points, and their Pareto frontier as a grey step line.

    The points of a series are connected; those on the frontier are filled, the others hollow.

    Parameters
    ----------
    given : mapping from label to a sequence of (x, y) pairs
    x, y : str
        The labels of the axes, with units.
    best : "high" or "low"
        Which y is better; smaller x is always better.
    log : "", "x", "y" or "xy"
        Which axes are logarithmic.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        Axes with the line "frontier", followed by one line for each series.

    Raises
    ------
    StructmatError
        If there are no points, or an argument is invalid (see `frontier`).

    Examples
    --------
    >>> ax = pareto({"a": [(1, 5), (3, 7)], "b": [(2, 4)]}, x="parameters", y="dimension")
    >>> [line.get_label() for line in ax.lines]
    ['frontier', 'a', 'b']
    """
    if log not in ("", "x", "y", "xy"):
        raise StructmatError(f'log={abbreviated(log)}: it must be "", "x", "y" or "xy"')
    ahead = frontier(given, best=best)
    if not ahead:
        raise StructmatError("no points: there must be at least one to draw")
    drawn = {label: points(label, pairs) for label, pairs in given.items()}
    ax = axes(ax, 6.4, 4.4)
    end = max(float(pairs[:, 0].max()) for pairs in drawn.values() if len(pairs))
    steps = np.array([*ahead, (end, ahead[-1][1])])
    ax.step(*steps.T, where="post", color=BARE, linewidth=4, alpha=0.35, label="frontier", zorder=1)
    for k, (label, pairs) in enumerate(drawn.items()):
        _series(ax, k, label, pairs, set(ahead))
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    thousands(ax.xaxis)
    thousands(ax.yaxis)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ruled(ax)
    legend(ax)
    return ax


def _series(ax: Any, k: int, label: str, pairs: Points, ahead: set[tuple[float, float]]) -> None:
    """Draw one series with hollow markers, filled on the frontier."""
    style = look(k)
    ax.plot(*pairs.T, label=label, **style | {"linewidth": 0.8, "markersize": 6})
    beaten = np.array([tuple(pair) not in ahead for pair in pairs.tolist()], dtype=bool)
    hollow = {"facecolors": "white", "edgecolors": style["color"], "linewidths": 1, "zorder": 3}
    ax.scatter(*pairs[beaten].T, marker=style["marker"], s=36, **hollow)


def _several(some: Any) -> list[Any]:
    """Return the elements of a list or iterator, or a single value as a list."""
    if isinstance(some, Iterator) or (is_sequence(some) and not isinstance(some, str)):
        return list(some)
    return [some]


def tradeoff(
    networks: Mapping[str, Network | Sequence[Network]],
    *,
    y: str = "density",
    log: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Plot a property of networks against their parameters, with the Pareto frontier.

    Parameters
    ----------
    networks : mapping from label to a Network or several
        The points of several networks, such as a family at increasing depth, are connected.
    y : "density", "dimension", "mixing" or "depth"
        The fraction of entries that can be non-zero; `structmat.dimension`, whose computation takes
        seconds for 2,000 dimensions; `structmat.mixing`, where smaller is better; or the number of
        stages.
    log : "", "x", "y" or "xy"
        Which axes are logarithmic.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        Axes as returned by `pareto`. For "dimension", a dashed line marks where the dimension
        equals the number of parameters.

    Raises
    ------
    StructmatError
        If there is no network, the widths differ, or `y` is unknown.

    Examples
    --------
    >>> from structmat.families import butterfly, gossip
    >>> deeper = [butterfly(16, depth=k) for k in range(1, 5)]
    >>> ax = tradeoff({"butterfly": deeper, "gossip": gossip(16)}, y="dimension")
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('parameters', 'dimensions of SO(16)')
    """
    if y not in QUANTITIES:
        raise StructmatError(f"y={abbreviated(y)}: no such quantity{suggest(y, QUANTITIES)}")
    example = '{"butterfly": butterfly(8)}'
    several = {
        label: [checked(net, "tradeoff") for net in _several(some)]
        for label, some in labelled(networks, "networks", example).items()
    }
    widths = {net.width for nets in several.values() for net in nets}
    if len(widths) != 1:
        raise StructmatError(
            f"networks of widths {sorted(widths)}: compare networks of one width, at least one"
        )
    quantity = QUANTITIES[y]
    ax = pareto(
        {
            label: [(net.parameters, quantity.of(net)) for net in nets]
            for label, nets in several.items()
        },
        x="parameters",
        y=quantity.name.replace("SO(d)", f"SO({widths.pop()})"),
        best=quantity.best,
        log=log,
        ax=ax,
    )
    if y == "dimension":
        most = max(net.parameters for nets in several.values() for net in nets)
        ax.plot([0, most], [0, most], color=INK, linewidth=0.8, linestyle=":", zorder=0)
    return ax
