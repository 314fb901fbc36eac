"""Opening the explorer in a notebook."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from structmat.errors import StructmatError, require
from structmat.explorer.queries import FIRST, question_of
from structmat.families import Rule
from structmat.families.resolution import Fixed, rule

if TYPE_CHECKING:
    from structmat.explorer.widget import Explorer


def explore(topology: Any = None, width: int | None = None) -> Explorer:
    """Open the explorer in a notebook: the page of `structmat explore` as a widget.

    The network that is selected or drawn there is the attribute `network` of the result, which can
    also be set and observed.

    Parameters
    ----------
    topology : optional
        The topology shown first: anything that `network` accepts, such as a spec, a network or a
        graph. By default a butterfly.
    width : int, optional
        The width of a spec or a family; by default 16.

    Returns
    -------
    Explorer
        An anywidget widget, which notebooks display.

    Raises
    ------
    MissingExtraError
        If anywidget is not installed.
    StructmatError
        If the topology cannot be resolved, or its network is too large for the explorer.

    Examples
    --------
    >>> explorer = explore("benes", 8)                          # doctest: +SKIP
    >>> explorer.network                                        # doctest: +SKIP
    Network(width=8, depth=5, parameters=20)
    """
    require("anywidget", "explore")
    widget = import_module("structmat.explorer.widget")
    made: Explorer = widget.Explorer(question=opening(topology, width))
    return made


def opening(topology: Any = None, width: int | None = None) -> dict[str, Any]:
    """Return the question about the network that is shown first.

    Raises
    ------
    StructmatError
        As for `explore`.

    Examples
    --------
    >>> opening(), opening("benes")
    ({'spec': 'butterfly(block=4)', 'width': 16}, {'spec': 'benes', 'width': 16})
    """
    if topology is None:
        return dict(FIRST) | ({} if width is None else {"width": width})
    found = rule(topology)
    if isinstance(found, Fixed):
        return question_of(found.network if width is None else found(width))
    if isinstance(found, Rule):
        return {"spec": str(found), "width": FIRST["width"] if width is None else width}
    if width is None:
        raise StructmatError(
            f"{topology!r}: a function has a network for each width; give the width"
        )
    net = found(width)
    return question_of(net)
