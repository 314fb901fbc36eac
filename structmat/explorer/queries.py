"""Questions about a network: a spec, a drawing, or the JSON of a network."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from structmat.errors import SpecError, StructmatError, abbreviated, checked_integer
from structmat.explorer.python_code import is_grouped
from structmat.families import Composition, Family, Rule, parse
from structmat.families.registry import entry
from structmat.networks.network import Network

WIDEST = 2**16  # maximum width; most questions are answered within a second
FIRST: Mapping[str, Any] = {"spec": "butterfly(block=4)", "width": 16}  # shown first
DRAWN = 128  # maximum width of a legible drawing
_NODES = 2**21  # maximum of width × stages
LONGEST = 2**22  # maximum length of a question in bytes
_READING = threading.Lock()
_LARGEST = 1024  # maximum number in an option; a huge depth would exhaust memory


class Asked(NamedTuple):
    """A network, with its rule (a family or a composition) if the question has a spec."""

    network: Network
    rule: Rule | None


def asked(question: Any) -> Asked:
    """Return the network of a question.

    Parameters
    ----------
    question : mapping
        A width, and a spec, the stages of a drawing (lists of switches, which are lists of wires),
        or, as "network", the JSON object of `Network.to_json`.

    Raises
    ------
    StructmatError
        If the question is invalid or would take too long, or the library rejects the network.

    Examples
    --------
    >>> asked({"spec": "butterfly(block=4)", "width": 16}).network
    Network(width=16, depth=3, parameters=72)
    >>> asked({"width": 3, "stages": [[[0, 1]], [[1, 2]]]})
    Asked(network=Network(width=3, depth=2, parameters=2), rule=None)
    >>> asked({"spec": "butterfly", "width": 2**17})
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: width=131072: the explorer accepts up to 65,536 wires; \
in Python and for `structmat show` there is no such limit
    """
    if not isinstance(question, Mapping):
        raise SpecError(
            f"{abbreviated(question)}: a question is an object with a width, and a spec, stages or"
            " a network"
        )
    width = checked_wires(question.get("width"))
    if "stages" in question:
        return Asked(_drawn(width, question["stages"]), None)
    if "network" in question:
        return Asked(_serialized(width, question["network"]), None)
    rule = named(question.get("spec"))
    depth = rule.claims(width).depth
    check_size(width, depth or 0)
    net = rule(width)
    check_size(width, net.depth)
    return Asked(net, rule)


def named(spec: Any) -> Rule:
    """Return the rule of a spec; random families are given a seed, to make them reproducible.

    Raises
    ------
    SpecError
        As for `parse`.
    StructmatError
        If an option is a number above 1,024.

    Examples
    --------
    >>> print(named("random(block=4, depth=2)"))
    random(block=4, depth=2, rng=0)
    """
    rule = _parsed(spec)
    _check_counts(rule)
    return rule.map(_seeded)


def _seeded(family: Family) -> Family:
    for name, value in family.options:
        _check_option(family, name, value)
    if "rng" in entry(family.name).options and dict(family.options).get("rng") is None:
        return family.with_options(rng=0)
    return family


def _check_counts(rule: Rule) -> None:
    """Check each number of repetitions; their product is limited by `check_size`."""
    if isinstance(rule, Composition):
        if rule.count > _LARGEST:
            raise StructmatError(
                f"{rule}: the explorer accepts numbers up to {_LARGEST:,}; in Python there is no"
                " such limit"
            )
        for part in rule.rules:
            _check_counts(part)


def _parsed(spec: Any) -> Rule:
    """Parse a spec, one at a time across threads.

    In Python 3.11, the parser can fail if several threads use it (SystemError, recursion depth).
    """
    with _READING:
        return parse(spec)


def question_of(net: Network) -> dict[str, Any]:
    """Return a question about a network that was built in Python or read from a file.

    Raises
    ------
    StructmatError
        If the network is too wide or too large for the explorer.

    Examples
    --------
    >>> question_of(Network.of(3, [[[0, 1]], [[1, 2]]]))
    {'width': 3, 'stages': [[[0, 1]], [[1, 2]]]}
    >>> net = asked({"spec": "benes", "width": 4}).network
    >>> asked(question_of(net)).network == net
    True
    """
    checked_wires(net.width)
    check_size(net.width, net.depth)
    if net.width <= DRAWN and net.labels is None and is_grouped(net):
        stages = [[row for bank in s.banks for row in bank.reads.tolist()] for s in net.stages]
        return {"width": net.width, "stages": stages}
    text = net.to_json()
    if len(text) > LONGEST:
        raise StructmatError(
            f"{net}: its JSON has {len(text):,} characters, and the page receives up to"
            f" {LONGEST:,}; give the spec of a family instead"
        )
    return {"width": net.width, "network": json.loads(text)}


def checked_wires(value: Any) -> int:
    """Return a width as an integer, which may be given as text.

    Raises
    ------
    StructmatError
        If it is not an integer from 1 to 65,536.

    Examples
    --------
    >>> checked_wires("16")
    16
    """
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            raise StructmatError(f"width={abbreviated(value)}: width must be an integer") from None
    width = checked_integer(value, "width", 1)
    if width > WIDEST:
        raise StructmatError(
            f"width={abbreviated(width)}: the explorer accepts up to {WIDEST:,} wires; in Python"
            " and for `structmat show` there is no such limit"
        )
    return width


def _check_option(family: Family, name: str, value: Any) -> None:
    if name == "rng":
        return
    if isinstance(value, tuple):
        for part in value:
            _check_option(family, name, part)
    elif isinstance(value, int | float) and abs(value) > _LARGEST:
        raise StructmatError(
            f"{family.name}({name}={abbreviated(value)}): the explorer accepts numbers up to"
            f" {_LARGEST:,};"
            " in Python there is no such limit"
        )


def check_size(width: int, depth: int) -> None:
    """Raise an error for a network that is too large to be examined within seconds.

    Raises
    ------
    StructmatError
        If width × stages exceeds 2^21.

    Examples
    --------
    >>> check_size(2**16, 64)
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: 64 stages of 65,536 wires: the explorer accepts width × \
stages up to 2,097,152; use fewer stages or wires
    """
    if width * depth > _NODES:
        raise StructmatError(
            f"{depth:,} stages of {width:,} wires: the explorer accepts width × stages up to"
            f" {_NODES:,}; use fewer stages or wires"
        )


def _serialized(width: int, network: Any) -> Network:
    """Return the network of a JSON object; its size is checked before it is built."""
    if not isinstance(network, Mapping):
        raise SpecError(
            f"network={abbreviated(network)}: give the JSON object that Network.to_json writes"
        )
    if network.get("width") != width:
        raise StructmatError(
            f"width={width}: the network has width {abbreviated(network.get('width'))}; give the"
            " same width"
        )
    stages = network.get("stages")
    check_size(width, len(stages) if isinstance(stages, list) else 0)
    return Network.from_json(json.dumps(network))


def _drawn(width: int, stages: Any) -> Network:
    if width > DRAWN:
        raise StructmatError(f"width={width}: up to {DRAWN} wires can be drawn by hand")
    if not isinstance(stages, list) or not all(isinstance(stage, list) for stage in stages):
        raise SpecError(
            f"stages={abbreviated(stages)}: give a list of stages, each a list of switches"
        )
    check_size(width, len(stages))
    return Network.of(width, stages)
