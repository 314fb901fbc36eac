"""The conformance suite: what every family promises, and what its claims say of it."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.blocks import identity_blocks, random_blocks
from structmat.errors import SpecError, StructmatError, WidthError
from structmat.families import Family, parse
from structmat.families.options import taken
from structmat.families.registry import entry, nearby
from structmat.network import Network
from structmat.relabelling import isomorphism
from structmat.sparse import dense
from structmat.stage import Stage
from structmat.testing.assertions import assert_orthogonal
from structmat.testing.members import tried

_MOST = 32  # combinations of options tried at one width


def check_family(
    family: str, widths: Iterable[int] = range(1, 33), *, max_depth: int = 5
) -> dict[int, int]:
    """Check a registered family at many widths, with many options, against all that it promises.

    Where a width is taken: the network has it, and asking again gives the same one; its spec, its
    JSON and its pickle give it back; blocks are orthogonal, and the straightened network is the
    same matrix; a deeper member begins with the shallower, and `repeat` repeats; depth,
    parameters, density and likeness to another family are as claimed (`structmat.Claims`), each
    computed without the formulas. Where a width is refused: the error is a WidthError of one line
    that names the call, the nearest widths that are taken, and a family that takes this one.

    Parameters
    ----------
    family : str
        A bare name, to try many options; or a spec with options, to try those.
    widths : iterable of int
    max_depth : int
        The largest value that is tried of an option named depth.

    Returns
    -------
    dict
        How many members were checked at each width that some options take.

    Raises
    ------
    SpecError
        For anything but a string that names a registered family.
    AssertionError
        Naming the spec, the width, and the promise that is broken; also when no width is taken.

    Examples
    --------
    >>> check_family("benes")
    {2: 1, 4: 1, 8: 1, 16: 1, 32: 1}
    """
    _check_named(family)
    sizes = _sizes(widths)
    given = parse(family) if "(" in family else None
    known = entry(given.name if given else family)
    _check(known.summary.endswith("."), f"{known.name}: its docstring begins with a sentence")
    _check(known.widths, f"{known.name}: it says in words which widths it takes")
    checked: dict[int, int] = {}
    for width in sizes:
        rules = [given] if given else list(tried(known, width, max_depth))
        for rule in rules[:: -(-len(rules) // _MOST) or 1]:
            takes = taken(rule, width)
            if takes:
                _check_member(rule, width)
                checked[width] = checked.get(width, 0) + 1
            elif takes is not None:
                _check_refusal(rule, width)
    _check(checked, f"{family}: one of the widths {widths} is taken with some options")
    return checked


def _check_named(family: Any) -> None:
    if not isinstance(family, str):
        name = family if isinstance(family, Family) else getattr(family, "__name__", "benes")
        raise SpecError(
            f"check_family of {family!r}: it takes the name of a registered family, or a spec, as"
            f' in check_family("{name}"); @structmat.family registers a function under its name'
        )


def _sizes(widths: Any) -> Iterable[int]:
    if not isinstance(widths, Iterable):
        raise StructmatError(f"widths={widths!r}: they are a list or a range, such as [{widths}]")
    return widths


def _check(holds: Any, promise: str) -> None:
    if not holds:
        raise AssertionError(f"broken promise: {promise}")


# A width that is taken ------------------------------------------------------------------------


def _check_member(rule: Family, width: int) -> None:
    who = f"{rule} at width {width}"
    net = entry(rule.name).build(width, **dict(rule.options))
    _check(isinstance(net, Network), f"{who} is a Network")
    _check(net.width == width, f"{who} has that width, not {net.width}")
    again: Any = np.int64(width)  # an integer too, though no int
    _check(rule(again) == net, f"{who} is the same network each time")
    _check(parse(str(rule)) == rule, f"{who} has a spec that reads back")
    _check(Network.from_json(net.to_json()) == net, f"{who} is what its JSON says")
    _check(pickle.loads(pickle.dumps(net)) == net, f"{who} is what its pickle says")  # noqa: S301
    _check_matrix(net, who)
    _check_claims(rule, net, who)
    options = dict(rule.options)
    if "depth" in entry(rule.name).options:
        _check(net.depth == options.get("depth", net.depth), f"{who} has the depth asked for")
        for depth in range(1, net.depth):
            shallow = rule.having(depth=depth)
            if shallow.takes(width):
                _check(shallow(width) == net[:depth], f"{who} begins with its members less deep")
    if "repeat" in options:
        once = rule.having(repeat=1)(width)
        _check(net == once.repeat(options["repeat"]), f"{who} repeats its stages")


def _check_matrix(net: Network, who: str) -> None:
    """Check the blocks' product, and that of the straightened network, which is the same."""
    blocks = random_blocks(net, rng=0)
    matrix = dense(net, blocks)
    assert_orthogonal(matrix, ulps=100 * (net.depth + 1))
    straight, inputs, outputs = net.straightened()
    _check(straight.is_straight, f"{who} straightened is straight")
    same = dense(straight, blocks)[outputs][:, np.argsort(inputs)]
    _check(np.array_equal(matrix, same), f"{who} straightened is the same matrix")
    one = np.eye(net.width)
    crossing = np.array_equal(dense(net, identity_blocks(net)), one[outputs][:, np.argsort(inputs)])
    _check(crossing, f"{who} with identity blocks is its end permutations")


def _check_claims(rule: Family, net: Network, who: str) -> None:
    claims = rule.promised(net.width)
    patterns = [_pattern(stage) for stage in net.stages]
    free = sum(int(p.sum()) - net.width for p in patterns)
    heard = np.eye(net.width, dtype=bool)
    dense_at = 0 if heard.all() else None
    for t, pattern in enumerate(patterns):
        heard = pattern.astype(np.float32) @ heard.astype(np.float32) > 0
        if dense_at is None and heard.all():
            dense_at = t + 1
    _check(2 * net.parameters == free, f"{who} has {free / 2:g} parameters")
    for what, claimed, found in (
        ("depth", claims.depth, net.depth),
        ("parameters", claims.parameters, net.parameters),
        ("dense", claims.dense, dense_at is not None),
    ):
        _check(claimed in (None, found), f"{who} has {what} {claimed} as claimed, not {found}")
    _check(
        claims.dense_at in (None, dense_at),
        f"{who} is dense after {claims.dense_at} stages as claimed, not after {dense_at}",
    )
    if claims.like is not None:
        other = parse(claims.like)(net.width)
        alike = isomorphism(net, other, ends=True) is not None
        _check(alike, f"{who} is like {claims.like} as claimed")


def _pattern(stage: Stage) -> npt.NDArray[np.bool_]:
    """Return which entries of a stage's factor may be non-zero, switch by switch."""
    pattern = np.zeros((stage.width, stage.width), dtype=bool)
    for bank in stage.banks:
        for reads, writes in zip(bank.reads, bank.writes, strict=True):
            pattern[np.ix_(writes, reads)] = True
    sources, targets = stage.passing
    pattern[targets, sources] = True
    return pattern


# A width that is refused ----------------------------------------------------------------------


def _check_refusal(rule: Family, width: int) -> None:
    who = f"{rule} at width {width}, which it does not take,"
    try:
        rule(width)
    except WidthError as error:
        text = str(error)
    else:
        raise AssertionError(f"broken promise: {who} is refused by a WidthError")
    _check("\n" not in text, f"{who} is refused in one line, not: {text}")
    _check(text.startswith(f"{rule.name}(width={width}"), f"{who} is named, not: {text}")
    near = re.search(r"; nearest (?:is|are) (\d+)(?: and (\d+))?", text)
    told = {int(w) for w in near.groups() if w is not None} if near else set()
    for wide in told:
        _check(rule.takes(wide), f"{who} is told widths that are taken, not {wide}")
    known = entry(rule.name)
    options = known.filled(width, dict(rule.options))
    for widths in nearby(width):
        nearest = next((w for w in widths if known.refuses(w, **options) is None), None)
        _check(nearest in (None, *told), f"{who} is told that {nearest} is taken")
        told.discard(nearest)
    _check(not told, f"{who} is told a nearer width than {told}")
    remedy = re.search(r"\. (\w+)\((\d+)\) serves any width$", text)
    if width > 1:
        _check(remedy, f"{who} is told of a family that takes it")
    if remedy:
        _check(parse(remedy[1]).takes(int(remedy[2])), f"{who} is told of one that takes it")
