"""Networks proposed for the trials of a search: from families, free networks, and edits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from structmat.errors import ObjectiveError, StructmatError, abbreviated
from structmat.families import Family, catalogue, parse, resolution
from structmat.families.number_theory import ceil_log, divisors
from structmat.families.registry import entry
from structmat.families.resolution import network
from structmat.families.variants import accepts, combinations
from structmat.networks.network import Network
from structmat.search.dense_networks import option_values
from structmat.search.edits import edited, random_edit, random_network

if TYPE_CHECKING:
    from optuna.trial import Trial

Proposer: TypeAlias = Callable[[int, np.random.Generator, Sequence[Network]], Any]
Source: TypeAlias = str | Proposer

SOURCES = ("families", "free", "edits")
_LARGEST = 16  # the largest radix of free networks, unless a requirement allows another
_WIRES = 2**20  # the maximum of width × stages of a proposal
_DRAWS = 16  # edited networks drawn for one proposal; the first suitable one is taken
_SEED = 2**31


class Proposal(NamedTuple):
    """A network for a trial.

    Attributes
    ----------
    network : Network
    spec : str or None
        Its spec, if it belongs to a family.
    source : str
        "start", "family", "free", "edit", or the name of the user's function.
    parent : int or None
        The number of the trial whose network was edited.
    """

    network: Network
    spec: str | None
    source: str
    parent: int | None = None

    @property
    def topology(self) -> str:
        """The spec if there is one, otherwise the JSON text of the network."""
        return self.spec or self.network.to_json()


class Elite(NamedTuple):
    """A good network among those of the earlier trials, and the number of its trial."""

    number: int
    topology: str


@dataclass(frozen=True)
class Space:
    """The networks that a search may propose.

    Attributes
    ----------
    width : int
    families : tuple of str or None
        Names of families, with all their options, and specs; None for all families.
    starts : tuple of topologies
        The networks of the first trials.
    sources : tuple
        "families", "free" and "edits", or user functions.
    largest, deepest : int
        The maximum radix and number of stages of free networks.
    """

    width: int
    families: tuple[str, ...] | None
    starts: tuple[Any, ...]
    sources: tuple[Source, ...]
    largest: int
    deepest: int

    @cached_property
    def variants(self) -> Mapping[str, tuple[str, ...]]:
        """The specs that have a network of this width, by the name of their family.

        Depths and seeds are not among their options; they are chosen for each proposal.
        """
        asked = [known.name for known in catalogue()] if self.families is None else self.families
        found = {str(one): tuple(_variants(str(one), self.width)) for one in asked}
        return {name: specs for name, specs in found.items() if specs}

    @cached_property
    def started(self) -> tuple[Proposal, ...]:
        """The proposals of the first trials."""
        return tuple(_resolved(start, self.width, "start") for start in self.starts)

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """The radices of the switches of free networks."""
        most = min(self.largest, self.width)
        powers = {1 << k for k in range(1, most.bit_length())}
        return tuple(sorted(size for size in {*powers, *divisors(self.width)} if 2 <= size <= most))


def proposal(
    space: Space,
    trial: Trial,
    number: int,
    rng: np.random.Generator,
    elites: Sequence[Elite],
    suits: Callable[[Network], float],
) -> Proposal:
    """Return the network of a trial.

    Parameters
    ----------
    space : Space
    trial : optuna.trial.Trial
        Suggests the source, and the options of families and free networks.
    number : int
        The number of the proposal.
    rng : Generator
        The source of all other random choices.
    elites : sequence of Elite
        Good networks of earlier trials, the best first; empty if the proposals must not depend on
        the earlier trials.
    suits : Network → number
        0 if a network is new and satisfies the cheap requirements, otherwise its violation.

    Raises
    ------
    StructmatError
        If a user function fails or does not return a network of this width.
    """
    if number < len(space.started):
        return space.started[number]
    named = {_name(source): source for source in space.sources}
    if len(named) == 1:
        [chosen] = named
    else:
        chosen = trial.suggest_categorical("source", tuple(named))
    source = named[chosen]
    if not isinstance(source, str):
        return _proposed(source, space.width, rng, elites)
    if source == "families":
        return _family(space, trial, rng)
    if source == "free":
        return _free(space, trial, rng)
    return _edit(space, rng, elites, suits)


def _family(space: Space, trial: Trial, rng: np.random.Generator) -> Proposal:
    name = _suggested(trial, "family", tuple(space.variants))
    spec = _suggested(trial, name, space.variants[name])
    rule: Any = parse(spec)
    if not isinstance(rule, Family):
        return Proposal(rule(space.width), spec, "family")
    given, options = dict(rule.options), entry(rule.name).options
    if "rng" in options and (name == rule.name or given.get("rng") is None):
        rule = rule.with_options(rng=int(rng.integers(_SEED)))
    for option, most in (("depth", space.deepest), ("repeat", max(1, space.deepest // 2))):
        if option in options and (name == rule.name or option not in given):
            value = trial.suggest_int(f"{name}.{option}", 1, most)
            longer = rule.with_options(**{option: value})
            rule = longer if accepts(longer, space.width) else rule
    return Proposal(rule(space.width), str(rule), "family")


def _free(space: Space, trial: Trial, rng: np.random.Generator) -> Proposal:
    depth = trial.suggest_int("free.depth", 1, space.deepest)
    block = _suggested(trial, "free.block", space.blocks)
    fill = trial.suggest_float("free.fill", 0.25, 1.0)
    places = depth * (space.width // block)
    switches = None if fill > 0.9 else max(1, round(places * fill / 0.9))
    net = random_network(space.width, rng, depth=depth, block=block, switches=switches)
    return Proposal(net, None, "free")


def _edit(
    space: Space,
    rng: np.random.Generator,
    elites: Sequence[Elite],
    suits: Callable[[Network], float],
) -> Proposal:
    """Return the most suitable of some random edits of an elite, or of a start or free network."""
    parent: int | None = None
    if elites:
        elite = elites[int(len(elites) * rng.random() ** 2)]  # favours the best
        parent, net = elite.number, network_of(elite.topology, space.width)
    elif space.started:
        net = space.started[rng.integers(len(space.started))].network
    else:
        block = space.blocks[0]
        net = random_network(space.width, rng, depth=space.deepest, block=block)
    net = net.straightened().network
    best, least = net, float("inf")
    for _ in range(_DRAWS):
        changed = net
        for _ in range(int(rng.geometric(0.6))):
            deepest = max(space.deepest, changed.depth)
            edit = random_edit(changed, rng, largest=space.largest, deepest=deepest)
            changed = edited(changed, edit)
        failing = suits(changed)
        if failing < least:
            best, least = changed, failing
        if least == 0:
            break
    return Proposal(best, None, "edit", parent)


def _proposed(
    source: Proposer, width: int, rng: np.random.Generator, elites: Sequence[Elite]
) -> Proposal:
    """Return the proposal of a user function; name the function in its errors."""
    name = _name(source)
    best = [network_of(elite.topology, width) for elite in elites]
    try:
        return _resolved(source(width, rng, best), width, name)
    except StructmatError as error:
        raise ObjectiveError(f"proposal {name}: {error}") from error
    except Exception as error:
        text = " ".join(str(error).split())
        raise ObjectiveError(f"proposal {name}: {type(error).__name__}: {text}") from error


def network_of(topology: str, width: int) -> Network:
    """Return the network of a spec or of JSON text.

    Examples
    --------
    >>> network_of("benes", 8) == network_of(parse("benes")(8).to_json(), 8)
    True
    """
    if topology.startswith("{"):
        return Network.from_json(topology)
    return network(topology, width)


def check_sources(sources: Iterable[Any]) -> tuple[Source, ...]:
    """Return the sources, or raise an error for one that is unknown.

    Raises
    ------
    StructmatError
        If there is no source, or one is neither the name of one nor a function.

    Examples
    --------
    >>> check_sources(["edit"])
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: proposals='edit': each must be "families", "free", "edits", \
or a function (width, rng, best) → network
    """
    found = (sources,) if isinstance(sources, str) or callable(sources) else tuple(sources)
    for source in found:
        if not callable(source) and source not in SOURCES:
            raise StructmatError(
                f'proposals={abbreviated(source)}: each must be "families", "free", "edits", or a'
                " function (width, rng, best) → network"
            )
    if not found:
        raise StructmatError('proposals is empty: give at least one, such as "edits"')
    return found


def limits(width: int, requirements: Iterable[str]) -> tuple[int, int]:
    """Return the maximum radix and depth that the requirements allow for free networks.

    Examples
    --------
    >>> limits(16, ["radix<=2", "depth<=4"]), limits(64, ["dense"])
    ((2, 4), (16, 14))
    """
    deep = 2 * ceil_log(width, 2) + 2
    most = {"radix": min(_LARGEST, width), "depth": max(1, min(deep, _WIRES // width))}
    for text in requirements:
        name, sign, limit = text.partition("<=")
        if sign and name in most:
            most[name] = max(1, int(float(limit)))
    return max(2, min(most["radix"], width)), most["depth"]


def _variants(name: str, width: int) -> Iterable[str]:
    """Yield the specs of a family with every choice of options other than depths and seeds."""
    if name not in {known.name for known in catalogue()}:
        rule = parse(name)
        if rule.accepts(width):
            yield str(rule)
        return
    known = entry(name)
    for one in combinations(known, width, option_values(known, width)):
        if accepts(one, width):
            yield str(one)


def _resolved(topology: Any, width: int, source: str) -> Proposal:
    """Return the proposal of any topology, with its spec if it has one."""
    rule = resolution.rule(topology)
    net = network(topology, width)
    if net.width != width:
        raise StructmatError(f"{source}: a network of width {net.width}, not {width}")
    is_reproducible = hasattr(rule, "accepts") and rule(width) == net
    return Proposal(net, str(rule) if is_reproducible else None, source)


def _name(source: Source) -> str:
    return source if isinstance(source, str) else str(getattr(source, "__name__", "proposal"))


def _suggested(trial: Trial, name: str, choices: tuple[Any, ...]) -> Any:
    return choices[0] if len(choices) == 1 else trial.suggest_categorical(name, choices)
