"""Python code that reconstructs a network."""

from __future__ import annotations

from collections.abc import Sequence

import structmat
from structmat.families import Family, Rule
from structmat.families.registry import Entry, entry
from structmat.networks.network import Network

_LINE = 88
_WRITTEN = 20_000  # maximum number of wires of all switches that a program lists


def code(net: Network, rule: Rule | None = None) -> str:
    """Return a program that constructs this network as `net`.

    Parameters
    ----------
    net : Network
        If it was not made by a rule and is large, the program reads it from network.json.
    rule : Rule, optional
        The family or composition of the network.

    Examples
    --------
    >>> from structmat.families import parse
    >>> family = parse("butterfly(block=4)")
    >>> print(code(family(16), family))
    import structmat as sm
    <BLANKLINE>
    net = sm.butterfly(16, block=4)
    >>> print(code(Network.of(3, [[[0, 1]], [[1, 2]]])))
    import structmat as sm
    <BLANKLINE>
    net = sm.Network.of(3, [
        [[0, 1]],
        [[1, 2]],
    ])
    """
    imports = ["import structmat as sm"]
    if rule is None:
        return "\n".join([*imports, "", *_drawn(net)])
    known = {family.name: entry(family.name) for family in rule.families}
    if isinstance(rule, Family) and is_ours(known[rule.name]):
        options = "".join(f", {name}={value!r}" for name, value in rule.options)
        home = "sm" if rule.name in structmat.__all__ else "sm.families"
        return "\n".join([*imports, "", f"net = {home}.{rule.name}({net.width}{options})"])
    imports += [
        f"import {one.build.__module__}  # registers {one.name}"
        for one in known.values()
        if not is_ours(one)
    ]
    return "\n".join([*imports, "", f"net = sm.parse({str(rule)!r})({net.width})"])


def is_ours(known: Entry) -> bool:
    """Return whether a family is built in, rather than provided by the user or another package.

    Examples
    --------
    >>> from structmat.families import catalogue
    >>> all(map(is_ours, catalogue()))
    True
    """
    return getattr(structmat.families, known.name, None) is known.build


def _drawn(net: Network) -> list[str]:
    if net.depth == 0:
        return [f"net = sm.Network({net.width})"]
    if sum(bank.reads.size for bank in net.banks) > _WRITTEN:
        return ["net = sm.network('network.json')  # the network exported as JSON"]
    if not is_grouped(net):
        return ["net = sm.Network(", f"    {net.width},", "    [", *_wired(net), "    ],", ")"]
    lines = [f"net = sm.Network.of({net.width}, ["]
    for stage in net.stages:
        switches = [row for bank in stage.banks for row in bank.reads.tolist()]
        lines += _wrapped(switches)
    return [*lines, "])"]


def is_grouped(net: Network) -> bool:
    """Return whether `Network.of` makes this network from its lists of switches.

    Examples
    --------
    >>> from structmat.families import benes, butterfly
    >>> is_grouped(butterfly(8)), is_grouped(benes(8))
    (True, False)
    """
    return net.is_straight and all(
        [bank.radix for bank in stage.banks]
        == sorted({bank.radix for bank in stage.banks}, reverse=True)
        for stage in net.stages
    )


def _wired(net: Network) -> list[str]:
    """Return the stages of a network, with the wires that each switch reads and writes."""
    lines = []
    for stage in net.stages:
        banks = [", ".join(f"{wires.tolist()}" for wires in bank._parts()) for bank in stage.banks]
        moves = f", {stage.moves.tolist()}" if len(stage.moves) else ""
        made = ", ".join(f"sm.Bank({bank})" for bank in banks)
        lines.append(f"        sm.Stage({net.width}, [{made}]{moves}),")
    return lines


def _wrapped(switches: Sequence[list[int]]) -> list[str]:
    """Format a stage, on several lines if it is long."""
    line = f"    {list(switches)},"
    if len(line) <= _LINE:
        return [line]
    lines = ["    ["]
    for switch in switches:
        text = f" {switch},"
        if len(lines[-1]) == 5 or len(lines[-1]) + len(text) > _LINE:
            lines.append("       ")
        lines[-1] += text
    return [*lines, "    ],"]
