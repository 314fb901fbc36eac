"""Separation of tied weights in a model's files, if an adapter rotates only some of their uses."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from structmat.adapters.shared_weights import FLAG, clear_flags, is_kept, names_of_layers
from structmat.convert.common_form import EMBEDDING, LayerRotation
from structmat.convert.tensor_files import FileWeights
from structmat.errors import FileError

CONFIG = "config.json"


@dataclass(frozen=True)
class Untied:
    """The additions to a merged model's files.

    Attributes
    ----------
    tensors : dict of key → (key, name of a layer or None)
        The tensor of the pretrained model from which each is computed, and the layer whose rotation
        is applied.
    settings : dict, optional
        The configuration, if it no longer declares a tie.
    """

    tensors: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    settings: dict[str, Any] | None = None


def untied(
    weights: FileWeights,
    rotations: Mapping[str, LayerRotation],
    layers: Mapping[str, str],
    trained_names: Collection[str],
) -> Untied:
    """Return the additions needed to give each use of a tied weight its own values.

    Parameters
    ----------
    weights : FileWeights
    rotations : mapping from the name of a layer to its rotation
    layers : mapping from the name of a layer to its name in the model
    trained_names : names in the model of tensors that were trained

    Raises
    ------
    FileError
        If a weight may be tied, but transformers cannot determine this; or if tied weights must be
        separated, but only a single file was given.
    """
    if weights.skeleton is None:
        _check_not_tied(weights, rotations, layers)
        return Untied()
    model = weights.skeleton.model
    adapted = {f"{layer}.weight": name for name, layer in layers.items()}
    groups = [Group(weights, model, names, adapted) for names in weights.ties]
    groups = [group for group in groups if group.source is not None]
    if not any(group.differs(trained_names) for group in groups):
        return Untied()
    if not weights.source.is_dir():
        raise FileError(
            f"{weights.source}: {CONFIG} in the same directory declares tied weights, and their"
            " uses are rotated differently; give the directory of the model instead of the file"
        )
    kept = is_kept(model.config)
    made = Untied(settings=None if kept else _without_ties(weights.settings, model.config))
    for group in groups:
        if group.differs(trained_names) or not kept:  # the flag applies to all groups
            assert group.source is not None
            for key, layer in group.members.items():
                if key not in trained_names:
                    made.tensors[key] = (group.source, layer)
    return made


class Group:
    """The uses of one tied weight, by their names in the model.

    Attributes
    ----------
    members : dict of key → name of a layer or None
        The adapted layer of each use.
    source : str, optional
        The use that is stored in the files.
    """

    def __init__(
        self, weights: FileWeights, model: Any, names: list[str], adapted: Mapping[str, str]
    ) -> None:
        present = weights.keys - weights.aliases.keys()
        self.source = next((key for key in names if key in present), None)
        self.members: dict[str, str | None] = {}
        layers = names_of_layers(model)
        for key in names:
            place, _, part = key.rpartition(".")
            same = next((group for group in layers if place in group), [place])
            others = [f"{other}.{part}" for other in same]
            found = [adapted[other] for other in (key, *others) if other in adapted]
            self.members[key] = found[0] if found else None

    def differs(self, trained_names: Collection[str]) -> bool:
        """Return whether the uses will have different values."""
        trained = [key for key in self.members if key in trained_names]
        return len(set(self.members.values())) > 1 or 0 < len(trained) < len(self.members)


def _check_not_tied(
    weights: FileWeights, rotations: Mapping[str, LayerRotation], layers: Mapping[str, str]
) -> None:
    folder = weights.source if weights.source.is_dir() else weights.source.parent
    parts = list(_dicts(weights.settings))
    if not any("architectures" in part for part in parts) or any(
        part.get(FLAG) is False for part in parts[:1]
    ):
        return
    sizes = {part["vocab_size"] for part in parts if "vocab_size" in part}
    for name, rotation in rotations.items():
        if rotation.kind == EMBEDDING or weights.shape(f"{layers[name]}.weight")[0] in sizes:
            raise FileError(
                f"{name}: {folder / CONFIG} may tie this weight to another, such as an output head;"
                " transformers, which could determine this, is missing or does not know the model;"
                f" install it, set {FLAG} to false if nothing is tied, or call load_adapter and"
                " merge(model, unload=True) in Python"
            )


def _dicts(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield settings
    for value in settings.values():
        if isinstance(value, dict):
            yield from _dicts(value)


def _without_ties(settings: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Return the configuration of a directory, with the tying flags set to false."""
    found, config = copy.deepcopy(dict(settings)), copy.deepcopy(config)
    clear_flags(config)
    _put_flags(found, config)
    return found


def _put_flags(settings: dict[str, Any], config: Any) -> None:
    if hasattr(config, FLAG):
        settings[FLAG] = getattr(config, FLAG)
    for name, value in settings.items():
        if isinstance(value, dict) and hasattr(getattr(config, name, None), "to_dict"):
            _put_flags(value, getattr(config, name))
