"""The settings of a search, which all its processes share, and their checks."""

from __future__ import annotations

import hashlib
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from structmat.errors import ObjectiveError, StructmatError, abbreviated, suggest
from structmat.families import Rule, parse
from structmat.families.resolution import is_graph
from structmat.linalg.blocks import generators_per_block
from structmat.search.objectives import Objective, Requirement
from structmat.search.study import storage as storages
from structmat.search.study.proposals import Space, check_sources, limits
from structmat.search.study.stored_trials import SETTINGS, VERSION, checked_settings

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "nsga2", "random")


def checked_space(
    width: int, needs: Iterable[Requirement], proposals: Any, families: Any, start: Any
) -> Space:
    """Return the networks that a search may propose.

    Raises
    ------
    StructmatError
        If a source, a family or a starting network is invalid, or no family has this width.
    """
    sources = check_sources(proposals)
    largest, deepest = limits(width, map(str, needs))
    listed = None if families is None else tuple(_spec(one) for one in several(families))
    if listed == ():
        sources = tuple(source for source in sources if source != "families")
    space = Space(width, listed, tuple(several(start)), sources, largest, deepest)
    if not sources or ("families" in sources and not space.variants):
        raise StructmatError(
            f"families={abbreviated(listed)}: none has a network of width {width}; give others, or"
            ' proposals=["free", "edits"]'
        )
    _ = space.started  # raises an error now if a given network is invalid
    return space


def _spec(family: Any) -> str:
    if not isinstance(family, str | Rule):
        raise StructmatError(
            f'families={abbreviated(family)}: give names or specs, such as "butterfly"'
        )
    return str(family)


def settings_of(
    space: Space,
    goals: Sequence[Objective],
    needs: Sequence[Requirement],
    options: dict[str, Any],
    sampler: str,
) -> dict[str, Any]:
    """Return what all processes of a search must agree on, as values for JSON."""
    families = sorted(space.variants) if "families" in space.sources else []
    return {
        "version": VERSION,
        "width": space.width,
        "objectives": [[goal.name, goal.direction] for goal in goals],
        "requirements": [str(need) for need in needs],
        "field": options["field"],
        "target": _digest(_matrices(options["target"], space.width)),
        "proposals": [getattr(source, "__name__", str(source)) for source in space.sources],
        "families": families,
        "start": [made.spec or _digest(made.topology) for made in space.started],
        "sampler": sampler,
        "rng": options["rng"],
    }


def _digest(value: Any) -> str | None:
    if value is None:
        return None
    data = value.encode() if isinstance(value, str) else value.tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def _matrices(target: Any, width: int) -> np.ndarray[Any, Any] | None:
    """Return a target as an array, or raise an error if no network of this width can fit it."""
    if target is None:
        return None
    try:
        found = np.ascontiguousarray(target.matrix() if hasattr(target, "matrix") else target)
    except ValueError:  # rows of different lengths
        found = np.empty(0)
    if found.ndim not in (2, 3) or found.shape[-2:] != (width, width) or not found.size:
        raise StructmatError(
            f"target={abbreviated(target)}: it must have the shape ({width}, {width}), or"
            f" (k, {width}, {width}) for k ≥ 1 matrices"
        )
    return found


def joined(
    storage: optuna.storages.BaseStorage, name: Any, given: Any, settings: dict[str, Any]
) -> optuna.Study:
    """Create the study, or join that of this name; check that its settings are the same."""
    import optuna

    if not isinstance(name, str) or not name:
        raise StructmatError(f"name={abbreviated(name)}: it must be a text that is not empty")
    directions = [direction for _, direction in settings["objectives"]]
    study = optuna.create_study(
        storage=storage, study_name=name, directions=directions, load_if_exists=True
    )
    found = checked_settings(study, storages.named(given))
    if found is None:
        if study.get_trials(deepcopy=False):
            raise StructmatError(
                f"{storages.named(given)}: the study {name!r} was not made by structmat search;"
                " give another name"
            )
        study.set_user_attr(SETTINGS, settings)
        found = study.user_attrs[SETTINGS]
    for setting, value in settings.items():
        if found.get(setting) != value:
            raise StructmatError(
                f"{storages.named(given)}: the search {name!r} was started with"
                f" {setting}={abbreviated(found.get(setting))}, not {abbreviated(value)}; give the"
                " same options, or another storage or name"
            )
    return study


def check_options(goals: Sequence[Objective], sampler: str | None, timeout: Any) -> None:
    """Raise an error for no objectives or two of one name, an unknown sampler, or a bad timeout."""
    names = [goal.name for goal in goals]
    if not names:
        raise ObjectiveError('objectives is empty: give at least one, such as "parameters"')
    if len(set(names)) < len(names):
        raise ObjectiveError(
            f"objectives {', '.join(names)}: each must have its own name; define functions with def"
        )
    if sampler is not None and sampler not in SAMPLERS:
        raise StructmatError(f"sampler={abbreviated(sampler)}{suggest(str(sampler), SAMPLERS)}")
    if timeout is not None and not (isinstance(timeout, numbers.Real) and float(timeout) >= 0):
        raise StructmatError(f"timeout={abbreviated(timeout)}: it must be a number of seconds ≥ 0")


def check_budget(width: int, needs: Iterable[Requirement], field: str) -> None:
    """Raise an error if the parameters allowed are fewer than the other requirements need."""
    names = [str(need) for need in needs]
    least: dict[str, tuple[int, str]] = {}
    if "dense" in names and field == "real":
        attained = parse("gossip").claims(width).parameters
        least["dense"] = attained or 0, ", attained by gossip"
    if "universal" in names:
        fewest = generators_per_block(width, field=field)
        least["universal"] = fewest, ", the dimension of the group"
    for name in names:
        subject, _, limit = name.partition("<=")
        for need, (fewest, why) in least.items():
            if subject == "parameters" and limit and float(limit) < fewest:
                raise StructmatError(
                    f"{name}: a {need} network of width {width:,} has at least {fewest:,}"
                    f" parameters{why}; allow at least as many"
                )


def several(given: Any) -> list[Any]:
    """Return the elements of a list or iterator, or a single value as a list.

    Raises
    ------
    StructmatError
        For a mapping, whose values would be ignored.
    """
    if isinstance(given, Mapping):
        raise StructmatError(
            f'{abbreviated(given)}: give a list, such as ["parameters", "mixing<=0.01"]; an'
            " objective of another direction is objective(name, direction=…)"
        )
    single = isinstance(given, str | os.PathLike) or hasattr(given, "width") or is_graph(given)
    return list(given) if isinstance(given, Iterable) and not single else [given]
