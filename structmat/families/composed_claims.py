"""The claims about a composition that follow from the claims about its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from structmat.families.registry import Claims


@dataclass(frozen=True)
class Known:
    """What is known about a network that has not been built.

    Attributes
    ----------
    claims : Claims
    leading : function from a number of stages to Claims
        The claims about a number of leading stages, fewer than all, except those that follow from
        the claims about all stages (see `first`).
    """

    claims: Claims
    leading: Callable[[int], Claims]

    def first(self, stages: int) -> Claims:
        """Return the claims about the leading stages, or about all if there are fewer.

        Examples
        --------
        >>> Known(Claims(5, 20, dense_at=3), lambda stages: Claims(stages, 4 * stages)).first(3)
        Claims(depth=3, parameters=12, dense=True, dense_at=3, like=None)
        """
        whole = self.claims
        if whole.depth is not None and whole.depth <= stages:
            return whole
        if stages == 0:
            return Claims(0, 0)
        found = self.leading(stages)
        if whole.depth is not None:
            found = replace(found, depth=stages)
        if whole.dense_at is not None and whole.dense_at <= stages:
            return replace(found, dense_at=whole.dense_at)
        never = whole.dense is False or whole.dense_at is not None
        return replace(found, dense=False) if never else found


Combined: TypeAlias = Callable[[Sequence[Known], int], Known]


def _then(parts: Sequence[Known], _: int) -> Known:
    acting = [part.claims for part in reversed(parts)]

    def leading(stages: int) -> Claims:
        parameters: int | None = 0
        for part in reversed(parts):
            found = part.first(stages)
            parameters = _sum([parameters, found.parameters])
            if part.claims.depth is None:
                return Claims()
            stages -= part.claims.depth
            if stages <= 0:
                break
        return Claims(parameters=parameters)

    claims = Claims(
        depth=_sum([each.depth for each in acting]),
        parameters=_sum([each.parameters for each in acting]),
        dense=True if any(each.dense for each in acting) else None,
        dense_at=acting[0].dense_at,
    )
    return Known(claims, leading)


def _repeat(parts: Sequence[Known], count: int) -> Known:
    once = parts[0].claims

    def leading(stages: int) -> Claims:
        if not once.depth:
            return Claims()
        copies, rest = divmod(stages, once.depth)
        last = parts[0].first(rest).parameters
        return Claims(parameters=_sum([_times(once.parameters, copies), last]))

    claims = Claims(
        depth=_times(once.depth, count),
        parameters=_times(once.parameters, count),
        dense=once.dense or None,
        dense_at=once.dense_at,
    )
    return Known(claims, leading)


def _reverse(parts: Sequence[Known], _: int) -> Known:
    whole = parts[0].claims

    def leading(stages: int) -> Claims:
        if whole.depth is None:
            return Claims()
        last = parts[0].first(whole.depth - stages).parameters
        return Claims(parameters=_minus(whole.parameters, last))

    return Known(replace(whole, dense_at=None, like=None), leading)


def _mirror(parts: Sequence[Known], _: int) -> Known:
    half = parts[0].claims
    if half.depth is None:
        return Known(Claims(dense=half.dense or None, dense_at=half.dense_at), lambda _: Claims())
    depth = max(2 * half.depth - 1, 0)
    entering = parts[0].first(max(half.depth - 1, 0)).parameters
    parameters = _sum([half.parameters, entering])

    def leading(stages: int) -> Claims:
        if stages <= depth - stages:
            return Claims(parameters=parts[0].first(stages).parameters)
        return Claims(parameters=_minus(parameters, parts[0].first(depth - stages).parameters))

    claims = Claims(depth, parameters, dense=half.dense or None, dense_at=half.dense_at)
    return Known(claims, leading)


def _leading(parts: Sequence[Known], count: int) -> Known:
    return Known(parts[0].first(count), lambda stages: parts[0].first(min(stages, count)))


COMBINED: dict[str, Combined] = {
    "then": _then,
    "repeat": _repeat,
    "reverse": _reverse,
    "mirror": _mirror,
    "leading": _leading,
}


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _times(value: int | None, count: int) -> int | None:
    return None if value is None else value * count


def _minus(whole: int | None, part: int | None) -> int | None:
    return None if whole is None or part is None else whole - part
