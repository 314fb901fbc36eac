"""The conformance suite: checks that a family keeps its contract, and that its claims are true."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.analysis.isomorphism import isomorphism
from structmat.errors import SpecError, StructmatError, WidthError, abbreviated
from structmat.families import Family, Rule, parse
from structmat.families.registry import canonical, entry, nearby
from structmat.families.variants import accepts
from structmat.linalg.blocks import identity_blocks, random_blocks
from structmat.linalg.factors import matrix_of
from structmat.networks.network import Network
from structmat.networks.stage import Stage
from structmat.testing.assertions import assert_orthogonal
from structmat.testing.members import tried

_MOST = 32  # maximum number of combinations of options tried at one width


def check_family(
    family: str, widths: Iterable[int] = range(1, 33), *, max_depth: int = 5
) -> dict[int, int]:
    """Check a registered family, or a composition, at many widths against its contract.

    At an accepted width, the network has this width and is reproducible; it is restored from its
    spec, its JSON and its pickle; its matrix is orthogonal, and equals that of the straightened
    network; a deeper network begins with the stages of a shallower one, an option `repeat` repeats
    the stages, and an option `reverse` reverses them; depth, parameters, density and isomorphism to
    another family are as claimed (`structmat.families.Claims`), each verified without the formulas
    of the family. At a rejected width, the error is a WidthError of one line, which contains the
    call, the nearest valid widths, and, unless the width is 1, a family that accepts this width.

    Parameters
    ----------
    family : str
        A name, with which many options are tried, or any other spec, which is tried as it is.
    widths : iterable of int
    max_depth : int
        The largest value tried for an option named depth.

    Returns
    -------
    dict
        For each width that is accepted with some options, the number of networks checked.

    Raises
    ------
    SpecError
        If `family` is not a string that names a registered family or is a spec.
    StructmatError
        If `widths` is not iterable.
    AssertionError
        If the family violates the contract, or accepts none of the widths; the message states the
        spec, the width, and the violated rule.

    Examples
    --------
    >>> check_family("benes")
    {2: 1, 4: 1, 8: 1, 16: 1, 32: 1}
    """
    _check_named(family)
    sizes = _sizes(widths)
    is_name = family.isidentifier() and canonical(family)[0] == family
    given = None if is_name else parse(family)
    for known in map(entry, {one.name for one in given.families} if given else {family}):
        _check(
            known.summary.endswith("."), f"{known.name}: its docstring must begin with a sentence"
        )
        _check(known.widths, f"{known.name}: it must describe the widths that it accepts")
    checked: dict[int, int] = {}
    for width in sizes:
        rules: list[Rule] = [given] if given else [*tried(entry(family), width, max_depth)]
        for rule in rules[:: -(-len(rules) // _MOST) or 1]:
            takes = accepts(rule, width)
            if takes:
                _check_member(rule, width)
                checked[width] = checked.get(width, 0) + 1
            elif takes is not None:
                _check_refusal(rule, width)
    _check(checked, f"{family}: one of the widths {widths} must be accepted with some options")
    return checked


def _check_named(family: Any) -> None:
    if not isinstance(family, str):
        name = family if isinstance(family, Rule) else getattr(family, "__name__", "benes")
        raise SpecError(
            f"check_family of {abbreviated(family)}: it takes the name of a registered family, or a"
            " spec, as"
            f' in check_family("{name}"); @structmat.family registers a function under its name'
        )


def _sizes(widths: Any) -> Iterable[int]:
    if not isinstance(widths, Iterable):
        raise StructmatError(
            f"widths={abbreviated(widths)}: it must be a list or a range, such as [{widths}]"
        )
    return widths


def _check(holds: Any, rule: str) -> None:
    if not holds:
        raise AssertionError(f"contract violated: {rule}")


# Valid widths ---------------------------------------------------------------------------------


def _check_member(rule: Rule, width: int) -> None:
    who = f"{rule} at width {width}"
    net = _unchecked(rule, width)
    _check(isinstance(net, Network), f"{who} must be a Network")
    _check(net.width == width, f"{who} must have that width, not {net.width}")
    again: Any = np.int64(width)  # a numpy integer instead of an int
    _check(rule(again) == net, f"{who} must be the same network each time")
    _check(parse(str(rule)) == rule, f"{who} must be restored by its spec")
    _check(Network.from_json(net.to_json()) == net, f"{who} must be restored by its JSON")
    _check(pickle.loads(pickle.dumps(net)) == net, f"{who} must be restored by its pickle")  # noqa: S301
    _check_matrix(net, who)
    _check_claims(rule, net, who)
    if isinstance(rule, Family):
        _check_options(rule, net, who)


def _unchecked(rule: Rule, width: int) -> Network:
    """Return what the function of a family returns, which `rule(width)` checks."""
    if isinstance(rule, Family):
        return entry(rule.name).build(width, **dict(rule.options))
    return rule(width)


def _check_options(rule: Family, net: Network, who: str) -> None:
    """Check the options that have the same meaning in every family."""
    options, width = dict(rule.options), net.width
    if rule.has_depth:
        _check(net.depth == options.get("depth", net.depth), f"{who} must have the requested depth")
        for depth in range(1, net.depth):
            shallow = rule.with_options(depth=depth)
            if shallow.accepts(width):
                _check(
                    shallow(width) == net[:depth],
                    f"{who} must begin with the stages of its shallower networks",
                )
    if "repeat" in options:
        once = rule.with_options(repeat=1)(width)
        _check(net == once.repeat(options["repeat"]), f"{who} must repeat its stages")
    if "reverse" in options:
        _check(net == rule.inverse()(width).inverse(), f"{who} must reverse its stages")


def _check_matrix(net: Network, who: str) -> None:
    """Check that the matrix is orthogonal, and equal to that of the straightened network."""
    blocks = random_blocks(net, rng=0)
    matrix = matrix_of(net, blocks)
    assert_orthogonal(matrix, ulps=100 * (net.depth + 1))
    straight, inputs, outputs = net.straightened()
    _check(straight.is_straight, f"{who} must be straight after straightening")
    same = matrix_of(straight, blocks)[outputs][:, np.argsort(inputs)]
    _check(np.array_equal(matrix, same), f"{who} must have the same matrix after straightening")
    one = np.eye(net.width)
    crossing = np.array_equal(
        matrix_of(net, identity_blocks(net)), one[outputs][:, np.argsort(inputs)]
    )
    _check(crossing, f"{who} with identity blocks must equal its end permutations")


def _check_claims(rule: Rule, net: Network, who: str) -> None:
    claims = rule.claims(net.width)
    patterns = [_pattern(stage) for stage in net.stages]
    free = sum(int(p.sum()) - net.width for p in patterns)
    reached = np.eye(net.width, dtype=bool)
    dense_at = 0 if reached.all() else None
    for t, pattern in enumerate(patterns):
        reached = pattern.astype(np.float32) @ reached.astype(np.float32) > 0
        if dense_at is None and reached.all():
            dense_at = t + 1
    _check(2 * net.parameters == free, f"{who} must have {free / 2:g} parameters")
    for what, claimed, found in (
        ("depth", claims.depth, net.depth),
        ("parameters", claims.parameters, net.parameters),
        ("dense", claims.dense, dense_at is not None),
    ):
        _check(
            claimed in (None, found), f"{who} must have {what} {claimed} as claimed, not {found}"
        )
    _check(
        claims.dense_at in (None, dense_at),
        f"{who} must be dense after {claims.dense_at} stages as claimed, not after {dense_at}",
    )
    if claims.like is not None:
        other = parse(claims.like)(net.width)
        alike = isomorphism(net, other, ends=True) is not None
        _check(alike, f"{who} must be isomorphic to {claims.like} as claimed")


def _pattern(stage: Stage) -> npt.NDArray[np.bool_]:
    """Return which entries of a stage's factor may be non-zero, switch by switch."""
    pattern = np.zeros((stage.width, stage.width), dtype=bool)
    for bank in stage.banks:
        for reads, writes in zip(bank.reads, bank.writes, strict=True):
            pattern[np.ix_(writes, reads)] = True
    sources, targets = stage.passing
    pattern[targets, sources] = True
    return pattern


# Invalid widths -------------------------------------------------------------------------------


def _check_refusal(rule: Rule, width: int) -> None:
    who = f"{rule} at width {width}, which it rejects,"
    try:
        rule(width)
    except WidthError as error:
        text = str(error)
    else:
        raise AssertionError(f"contract violated: {who} must raise a WidthError")
    _check("\n" not in text, f"{who} must be rejected in one line, not: {text}")
    family = next(one for one in rule.families if not one.accepts(width))
    outer = "" if rule == family else f"{rule} at width {width}: "
    _check(
        text.startswith(f"{outer}{family.name}(width={width}"),
        f"{who} must be named in the error, not: {text}",
    )
    near = re.search(r"; nearest (?:is|are) (\d+)(?: and (\d+))?", text)
    suggested = {int(w) for w in near.groups() if w is not None} if near else set()
    for wide in suggested:
        _check(family.accepts(wide), f"{who} must suggest valid widths, not {wide}")
    known = entry(family.name)
    options = known.filled(width, dict(family.options))
    for widths in nearby(width):
        nearest = next((w for w in widths if known.refuses(w, **options) is None), None)
        _check(nearest in (None, *suggested), f"{who} must suggest the valid width {nearest}")
        suggested.discard(nearest)
    _check(not suggested, f"{who} must suggest a nearer width than {suggested}")
    remedy = re.search(r"\. (\w+)\((\d+)\) serves any width$", text)
    if width > 1:
        _check(remedy, f"{who} must suggest a family that accepts it")
    if remedy:
        _check(parse(remedy[1]).accepts(int(remedy[2])), f"{who} must suggest one that accepts it")
