"""A survey of the families at a width: a row of numbers for each, and for some variants."""

from __future__ import annotations

import statistics
import time
from contextlib import suppress
from typing import Any

import numpy as np

from structmat.errors import StructmatError
from structmat.explorer.families_offered import COMPOSED, COMPOSITIONS, example, kin, ordered
from structmat.explorer.numbers import connected, density, dimension_value, mixing_value
from structmat.explorer.queries import asked, check_size, named
from structmat.families import Entry, Rule
from structmat.families.registry import entry
from structmat.families.variants import accepts, combinations
from structmat.linalg.blocks import identity_blocks
from structmat.linalg.factors import product
from structmat.linalg.schedule import schedule
from structmat.networks.network import Network

_BLOCKS = (2, 4, 8, 16, 32)
_MOST = 6  # variants of a family
_RANK = 600  # argument `largest` of `dimension`, which then takes a fraction of a second
_GATES = 2000  # maximum number of switches whose gauge redundancy is computed
_BLOCK_NUMBERS = 2**22  # maximum number of entries of the blocks that are multiplied
_NUMBERS = 2**19  # maximum number of entries of more than 8 vectors that are multiplied
_RUNS = 5

JSON = dict[str, Any]


def candidates(width: int) -> tuple[list[str], list[JSON]]:
    """Return the specs of the networks in a survey, and why other families are left out.

    Returns
    -------
    (specs, refused)
        For each family, the example that the page offers, if it accepts this width, and some of
        the variants that do; then some compositions. `refused` lists the other families, as
        ``{"family", "reason"}``.

    Examples
    --------
    >>> specs, refused = candidates(12)
    >>> [spec for spec in specs if spec.startswith("monarch")], refused[0]["family"]
    (['monarch'], 'butterfly')
    """
    specs: list[str] = []
    refused: list[JSON] = []
    for known in ordered():
        found = _variants(known, width)
        fitting = [str(rule) for rule in found if _oversize(rule, width) is None]
        specs += fitting
        if not fitting:
            reason = _oversize(found[0], width) if found else _refusal(known, width)
            refused.append({"family": known.name, "reason": reason})
    composed = [named(spec) for spec in COMPOSITIONS]
    specs += [
        str(rule) for rule in composed if accepts(rule, width) and _oversize(rule, width) is None
    ]
    return list(dict.fromkeys(specs)), refused


def _variants(known: Entry, width: int) -> list[Rule]:
    values = {"block": _BLOCKS, "degree": (3, 4), "rng": (0,), "depth": (), "reverse": ()}
    offer = example(known)
    first = [named(offer["spec"])] if offer else []
    tried: list[Rule] = [*first]
    for rule in combinations(known, width, values):
        with suppress(StructmatError):  # an option is larger than the explorer accepts
            tried.append(named(str(rule)))
    found = [rule for rule in dict.fromkeys(tried) if accepts(rule, width)]
    return found[:: max(1, -(-len(found) // _MOST))]


def _oversize(rule: Rule, width: int) -> str | None:
    """Return why a network is too large to be built, judging by the depth that its rule claims."""
    try:
        check_size(width, rule.claims(width).depth or 0)
    except StructmatError as error:
        return str(error)
    return None


def _refusal(known: Entry, width: int) -> str:
    """Return why a family has no network of a width, without a search for valid widths."""
    offer = example(known)
    if offer is None:
        needed = [n for n, option in known.options.items() if option.default is option.empty]
        return f"{known.name} needs a value for {' and '.join(needed)}" if needed else known.widths
    rule = named(offer["spec"])
    [family] = rule.families
    try:
        why = known.refuses(width, **known.filled(width, dict(family.options)))
    except StructmatError as error:
        why = str(error)
    return f"{rule}: {why or known.widths}"


def row(question: Any) -> JSON:
    """Return the numbers of a network in a survey.

    Parameters
    ----------
    question : mapping
        As for `asked`; with the network of a user's family, also its spec, family and kin.

    Returns
    -------
    dict
        spec, family (None for a composition), kin, parameters, depth, dense (None if unknown),
        flops (of one vector), dimension (lower, upper, and value or None), mixing (None if it would
        take too long), and seconds: the median time per vector of applying the network to a block
        of float32 vectors in numpy (None for large blocks).

    Raises
    ------
    StructmatError
        As for `asked`.

    Examples
    --------
    >>> found = row({"spec": "butterfly", "width": 16})
    >>> found["kin"], found["parameters"], found["dimension"]["value"], found["mixing"]
    ('butterflies', 32, 32, 0.0)
    """
    net, rule = asked(question)
    numbers, _ = density(net, rule)
    mixing = mixing_value(net, separate=connected(net)["count"] > 1)
    gates = sum(bank.count for bank in net.banks)
    largest = _RANK if gates <= _GATES else None
    found = dimension_value(net, largest=largest)
    return {
        **origin(question, rule),
        "parameters": net.parameters,
        "depth": net.depth,
        "dense": numbers["dense"],
        "flops": schedule(net).cost(1).flops,
        "dimension": {key: found[key] for key in ("lower", "upper", "value")},
        "mixing": None if mixing is None else mixing["value"],
        "seconds": seconds(net),
    }


def origin(question: Any, rule: Rule | None) -> JSON:
    """Return the spec of a question, its family, and the heading of the family's group.

    Examples
    --------
    >>> rule = named("butterfly * 2")
    >>> origin({"spec": "butterfly * 2"}, rule)
    {'spec': 'butterfly * 2', 'family': None, 'kin': 'compositions'}
    """
    if rule is None:
        return {key: question.get(key) for key in ("spec", "family", "kin")}
    if str(rule) in COMPOSITIONS:
        return {"spec": str(rule), "family": None, "kin": COMPOSED}
    [name] = {family.name for family in rule.families}
    return {"spec": str(rule), "family": name, "kin": kin(entry(name))}


def seconds(net: Network) -> float | None:
    """Return the median time per vector of applying a network to a block of vectors in numpy.

    The block consists of 64 float32 vectors, or of fewer, but at least 8, above a width of 8,192.
    The values in the network's blocks do not affect the time. The result is None if they have too
    many entries.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> 0 < seconds(butterfly(16)) < 1
    True
    """
    if sum(bank.reads.size * bank.radix for bank in net.banks) > _BLOCK_NUMBERS:
        return None
    count = min(max(_NUMBERS // net.width, 8), 64)
    blocks = identity_blocks(net, np.float32)
    x = np.random.default_rng(0).standard_normal((net.width, count), dtype=np.float32)
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        product(net, blocks, x)
        times.append(time.perf_counter() - start)
    return statistics.median(times) / count
