"""Resolution of a topology to a network: a spec, a family, a network, a graph, or a file."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from structmat._util.files import read_bytes
from structmat._util.text_location import quoted, undecodable
from structmat.errors import FileError, StructmatError, WidthError, abbreviated
from structmat.families import Rule, parse
from structmat.graph import from_graph, from_layers
from structmat.networks.network import Network

Builder: TypeAlias = Callable[[int], Network]

_GRAPHML = ".graphml"
_ENDINGS = (".json", _GRAPHML)
_LONGEST = 2**26  # maximum file size in bytes; parsing GraphML takes 50 times that in memory
_OPTIONS = re.compile(r"\(.*\)", re.DOTALL)  # in a spec, which may contain paths as strings
_EXPECTED = "; expected a network written by Network.to_json, or a graph as GraphML"


@dataclass(frozen=True)
class Fixed:
    """A rule that returns one given network, and accepts only its width.

    Parameters
    ----------
    network : Network
    source : str
        The file from which the network was read, if any.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> rule = Fixed(butterfly(8), "net.json")
    >>> rule(8)
    Network(width=8, depth=3, parameters=12)
    >>> rule(16)
    Traceback (most recent call last):
    ...
    structmat.errors.WidthError: net.json: the network has width 8, not 16
    """

    network: Network
    source: str = ""

    def __call__(self, width: int) -> Network:
        """Return the network.

        Raises
        ------
        WidthError
            If the width is not that of the network.
        """
        if width != self.network.width:
            where = f"{self.source}: " if self.source else ""
            raise WidthError(
                f"{where}the network has width {self.network.width}, not {abbreviated(width)}"
            )
        return self.network

    def __str__(self) -> str:
        digest = hashlib.sha256(self.network.to_json().encode()).hexdigest()
        # The file may be overwritten by another network.
        return f"{self.source or self.network} ({digest[:8]})"


def rule(topology: Any) -> Builder:
    """Return the function from a width to a network that a topology represents.

    Parameters
    ----------
    topology : str, path, Family, Composition, Network, networkx graph, or callable width → Network
        A string is a spec, such as ``"butterfly(block=8) * 2"``, or, if it ends in .json or
        .graphml or contains a folder, the path of a file: a network written by `Network.to_json`,
        or an undirected graph in GraphML. A digraph is converted by `from_layers`, any other graph
        by `from_graph`.

    Raises
    ------
    SpecError
        If a spec is invalid.
    FileError
        If a file is missing or truncated, or does not contain a network.
    GraphError
        If a graph cannot be converted to a network.
    StructmatError
        For any other value.

    Examples
    --------
    >>> rule("shuffle(block=4)")(16)
    Network(width=16, depth=2, parameters=48)
    """
    if isinstance(topology, os.PathLike) or (isinstance(topology, str) and is_path(topology)):
        path = Path(topology)
        return Fixed(_read(path), str(topology))
    if isinstance(topology, str):
        return parse(topology)
    if isinstance(topology, Network):
        return Fixed(topology)
    if not isinstance(topology, Fixed) and (held := _attribute(topology)):
        raise StructmatError(
            f"topology={abbreviated(topology)}: it has a network; use its attribute {held}"
        )
    if callable(topology) and not isinstance(topology, type):
        made: Builder = topology
        return made
    if is_graph(topology):
        net = from_layers(topology) if topology.is_directed() else from_graph(topology)
        return Fixed(net)
    raise StructmatError(
        f"topology={abbreviated(topology)}: it must be a spec string, a Family, a Network, a"
        " networkx graph, the path of a file, or a function width → Network"
    )


def network(topology: Any, width: int | None = None) -> Network:
    """Return the network that a topology represents, at the given width if it has more than one.

    Parameters
    ----------
    topology
        Any topology that `rule` accepts.
    width : int, optional
        Required for specs, families and functions; otherwise it must be the network's width.

    Raises
    ------
    StructmatError
        As for `rule`, and if a required width is missing.
    WidthError
        If the topology has no network of this width.

    Examples
    --------
    >>> network("benes", 8)
    Network(width=8, depth=5, parameters=20)
    >>> network("benes")
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: benes: a family has a network for each width; give the width
    """
    found = rule(topology)
    if width is not None:
        net: Any = found(width)
        if not isinstance(net, Network):
            raise StructmatError(
                f"{abbreviated(topology)} returned {abbreviated(net)}: it must return a Network"
            )
        return net
    if isinstance(found, Fixed):
        return found.network
    kind = "family" if isinstance(found, Rule) else "function"
    named = found if isinstance(found, Rule) else abbreviated(topology)
    raise StructmatError(f"{named}: a {kind} has a network for each width; give the width")


def checked(topology: Any, caller: str) -> Network:
    """Return the network of a topology that has only one: a Network, a networkx graph, or a file.

    Parameters
    ----------
    topology : Network, networkx graph, or path
    caller : str
        The name of the function that needs a network, for messages.

    Raises
    ------
    StructmatError
        For a spec, a family or a function, which would need a width, and for any other value; for
        graphs and files, as for `rule`.

    Examples
    --------
    >>> checked("butterfly(8)", "mixing")
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: mixing of 'butterfly(8)': it takes a network; build one with \
butterfly(8), network(spec, width), from_graph(graph) or Network.of
    """
    if isinstance(topology, Network):
        return topology
    named = isinstance(topology, os.PathLike) or (isinstance(topology, str) and is_path(topology))
    if named or is_graph(topology):
        return network(topology)
    if held := _attribute(topology):
        raise StructmatError(
            f"{caller} of {abbreviated(topology)}: it takes a network; use its attribute {held}"
        )
    raise StructmatError(
        f"{caller} of {abbreviated(topology)}: it takes a network; build one with butterfly(8),"
        " network(spec, width), from_graph(graph) or Network.of"
    )


def _attribute(value: Any) -> str | None:
    """Return the attribute that holds the network, of a Rotation or the result of a search."""
    if isinstance(getattr(value, "network", None), Network):
        return "network"
    best = getattr(value, "best", None)
    return "best.network" if isinstance(getattr(best, "network", None), Network) else None


def is_graph(topology: Any) -> bool:
    """Return whether a topology is a networkx graph, without importing networkx.

    Examples
    --------
    >>> is_graph("benes")
    False
    """
    return hasattr(topology, "is_directed") and hasattr(topology, "edges")


def is_path(text: str) -> bool:
    """Return whether a string is the path of a file rather than a spec.

    Examples
    --------
    >>> is_path("net.json"), is_path("folder/net"), is_path("own(name='a/b') * 2"), is_path("benes")
    (True, True, False, False)
    """
    bare = text.strip()
    if bare.lower().endswith(_ENDINGS):
        return True
    bare = _OPTIONS.sub("", bare)
    return any(mark in bare for mark in (os.sep, os.altsep) if mark)


def _read(path: Path) -> Network:
    data = read_bytes(path, _EXPECTED, most=_LONGEST)
    try:
        if path.suffix.lower() == _GRAPHML:
            return _graph(data)
        return Network.from_json(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise FileError(f"{path}: not in UTF-8 in {undecodable(data)}{_EXPECTED}") from None
    except StructmatError as error:
        raise FileError(f"{path}: {error}") from None


def _graph(data: bytes) -> Network:
    from xml.parsers.expat import ErrorString, ExpatError

    import networkx as nx

    try:
        _check_entities(data)
        graph = nx.read_graphml(io.BytesIO(data))
    except StructmatError:
        raise
    except Exception as error:  # from the XML parser, networkx, or conversions of values
        why = " ".join(str(error).split())
        if isinstance(error, ExpatError):
            where = quoted(data.decode("utf-8", "replace"), error.lineno, error.offset + 1)
            why = f"{ErrorString(error.code)} in {where}"
        raise FileError(f"not GraphML ({why})") from None
    if all(name.isascii() and name.isdecimal() and len(name) < 16 for name in graph):
        graph = nx.relabel_nodes(graph, int)  # GraphML stores all node names as text
    return from_graph(graph)


def _check_entities(data: bytes) -> None:
    """Reject XML that defines entities, because a few of them can expand to a huge text.

    The parser detects entity definitions in every encoding that it reads.
    """
    from xml.parsers import expat

    def refuse(*_: Any) -> None:
        raise FileError("GraphML must not define entities; write it with networkx")

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    parser.Parse(data, True)  # noqa: FBT003 (the parser's signature)
