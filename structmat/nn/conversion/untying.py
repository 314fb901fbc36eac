"""Tied weights in the files of a model: one tensor, of which an adapter may rotate one use."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from structmat.errors import FileError, MissingExtraError, require
from structmat.nn.conversion.tensorfiles import FileWeights, read_json
from structmat.nn.conversion.turns import EMBEDDING, Turn
from structmat.nn.sharing import FLAG, clear_flags, is_kept, names_of_layers

CONFIG = "config.json"


@dataclass(frozen=True)
class Untied:
    """What the files of a merged model hold beside what those of the pretrained one do.

    Attributes
    ----------
    tensors : dict of key → (key, name of a layer or None)
        Of which tensor of the pretrained model it is the value, and with which layer's rotation.
    settings : dict, optional
        The configuration, where it no longer declares a tie.
    """

    tensors: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    settings: dict[str, Any] | None = None


def untied(
    weights: FileWeights,
    turns: Mapping[str, Turn],
    keys: Mapping[str, str],
    whole: Collection[str],
) -> Untied:
    """Return what has to be written so that each use of a tied weight has its own values.

    Parameters
    ----------
    weights : FileWeights
    turns : mapping from the name of a layer to its rotation
    keys : mapping from the name of a layer to that in the files
    whole : names in the files of tensors that were trained

    Raises
    ------
    FileError
        When a weight may be tied, and transformers does not say to what.
    """
    model = skeleton(weights.source)
    if model is None:
        _check_not_tied(weights, turns, keys)
        return Untied()
    by_key = {f"{key}.weight": name for name, key in keys.items()}
    groups = [Group(weights, model, names, by_key) for names in _tied(model)]
    groups = [group for group in groups if group.source is not None]
    if not any(group.differs(whole) for group in groups):
        return Untied()
    if not weights.source.is_dir():
        raise FileError(
            f"{weights.source}: {CONFIG} beside it declares tied weights, of which only one use is"
            " rotated; name the directory of the model"
        )
    kept = is_kept(model.config)
    made = Untied(settings=None if kept else _without_ties(weights.source, model.config))
    for group in groups:
        if group.differs(whole) or not kept:  # the flag speaks for all of them
            assert group.source is not None
            for key, layer in group.members.items():
                if key not in whole:
                    made.tensors[key] = (group.source, layer)
    return made


class Group:
    """The uses of one tied weight, by their names in the files.

    Attributes
    ----------
    members : dict of key → name of a layer or None
        Which adapted layer each of them is.
    source : str, optional
        The one that is in the files.
    """

    def __init__(
        self, weights: FileWeights, model: Any, names: list[str], adapted: Mapping[str, str]
    ) -> None:
        prefix = f"{model.base_model_prefix}."
        add, drop = _rule(weights, names, prefix)
        moved = {name: add + name.removeprefix(drop) for name in names}
        self.source = next((key for key in moved.values() if key in weights.homes), None)
        self.members: dict[str, str | None] = {}
        layers = names_of_layers(model)
        for name, key in moved.items():
            place, _, part = name.rpartition(".")
            same = next((group for group in layers if place in group), [place])
            others = [add + f"{other}.{part}".removeprefix(drop) for other in same]
            found = [adapted[other] for other in (key, *others) if other in adapted]
            self.members[key] = found[0] if found else None

    def differs(self, whole: Collection[str]) -> bool:
        """Return whether its uses will have values of their own."""
        trained = [key for key in self.members if key in whole]
        return len(set(self.members.values())) > 1 or 0 < len(trained) < len(self.members)


def _rule(weights: FileWeights, names: list[str], prefix: str) -> tuple[str, str]:
    """Return what to put before, and what to take from, names of the model to have the files'."""
    rules = (("", ""), ("", prefix), (prefix, ""))
    for add, drop in rules:
        if any(add + name.removeprefix(drop) in weights.homes for name in names):
            return add, drop
    return rules[0]


def aliases(weights: FileWeights) -> dict[str, str]:
    """Return the names of tied tensors that are not in the files, each with the one that is."""
    model = skeleton(weights.source)
    if model is None:
        return {}
    groups = [Group(weights, model, names, {}) for names in _tied(model)]
    return {
        key: group.source
        for group in groups
        if group.source is not None
        for key in group.members
        if key not in weights.homes
    }


def skeleton(source: Path) -> Any:
    """Return the model of a directory, on the meta device, if transformers knows it, or None."""
    folder = source if source.is_dir() else source.parent
    names = _settings(folder).get("architectures") or []
    if not names:
        return None
    try:
        transformers = require("transformers", "peft")
        kind: Any = getattr(transformers, str(names[0]))
        config = transformers.AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model: nn.Module = kind(config)
    except MissingExtraError:
        return None
    except Exception:
        return None
    return model


def _tied(model: Any) -> list[list[str]]:
    """Return the groups of tensors that a model ties, by name."""
    groups: dict[str, list[str]] = {}
    for target, source in model.all_tied_weights_keys.items():
        groups.setdefault(source, [source]).append(target)
    return list(groups.values())


def _check_not_tied(
    weights: FileWeights, turns: Mapping[str, Turn], keys: Mapping[str, str]
) -> None:
    folder = weights.source if weights.source.is_dir() else weights.source.parent
    parts = list(_dicts(_settings(folder)))
    if not any("architectures" in part for part in parts) or any(
        part.get(FLAG) is False for part in parts[:1]
    ):
        return
    sizes = {part["vocab_size"] for part in parts if "vocab_size" in part}
    for name, turn in turns.items():
        if turn.kind == EMBEDDING or weights.shape(f"{keys[name]}.weight")[0] in sizes:
            raise FileError(
                f"{name}: {folder / CONFIG} may tie this weight to another, such as an output head,"
                " and transformers, which would say so, is missing or does not know the model;"
                f" install it, set {FLAG} to false if nothing is tied, or load_adapter and"
                " merge(model, unload=True)"
            )


def _settings(folder: Path) -> dict[str, Any]:
    return read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}


def _dicts(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield settings
    for value in settings.values():
        if isinstance(value, dict):
            yield from _dicts(value)


def _without_ties(folder: Path, config: Any) -> dict[str, Any]:
    """Return the configuration of a directory with flags set to false."""
    settings = _settings(folder)
    clear_flags(config)
    _put_flags(settings, config)
    return settings


def _put_flags(settings: dict[str, Any], config: Any) -> None:
    if hasattr(config, FLAG):
        settings[FLAG] = getattr(config, FLAG)
    for name, value in settings.items():
        if isinstance(value, dict) and hasattr(getattr(config, name, None), "to_dict"):
            _put_flags(value, getattr(config, name))
