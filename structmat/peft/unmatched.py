"""Warnings about names in a configuration that match nothing in the model."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from structmat.errors import suggest
from structmat.peft.config import StructmatConfig


def unmatched(config: StructmatConfig, names: Iterable[str], heads: Iterable[str]) -> list[str]:
    """Return a message for each name in the lists of a configuration that matches no module.

    Parameters
    ----------
    config : StructmatConfig
    names : iterable of str
        The names of all modules of the model.
    heads : iterable of str
        Names that PEFT adds to `modules_to_save`; a model has only one of them.
    """
    known = [name for name in names if name]
    tails = {tail for name in known if not (tail := name.rpartition(".")[2]).isdigit()}
    said = [
        f"{option}: {name!r} matches no module of this model"
        f"{suggest(name, tails, fallback='model.named_modules() lists them')}"
        for option in ("target_modules", "exclude_modules", "modules_to_save")
        for name in sorted(_listed(getattr(config, option)))
        if not any(_fits(module, name, option) for module in known)
        and not (option == "modules_to_save" and name in heads)
    ]
    if not config.layer_numbers:
        return said
    given = config.layers_pattern
    patterns = [given] if isinstance(given, str) else list(given or ())
    lists = {part for name in known for part, _ in re.findall(r"([^.]+)\.(\d+)(?=\.|$)", name)}
    return said + [
        f"layers_pattern: {pattern!r} matches no list of layers in this model"
        f"{suggest(pattern, lists)}"
        for pattern in patterns
        # A name unlike all of these may be meant for another architecture.
        if difflib.get_close_matches(pattern, lists)
        and not any(re.search(rf"(?:^|\.)(?:{pattern})\.\d+(?:\.|$)", name) for name in known)
    ]


def numbers_unmatched(
    config: StructmatConfig, names: Iterable[str], index: Callable[[str, Any], int | None]
) -> list[str]:
    """Return a message for each index in `layers_to_transform` that no layer has."""
    found = {index(name, config.layers_pattern) for name in names}
    there = sorted(number for number in found if number is not None)
    span = f"numbers go from {there[0]} to {there[-1]}" if there else "its layers have no numbers"
    return [
        f"layers_to_transform: no layer of this model has the number {number}; {span}"
        for number in config.layer_numbers
        if number not in found
    ]


def warn(lines: Iterable[str]) -> None:
    """Issue each message as a warning, since PEFT ignores the names."""
    for line in lines:
        warnings.warn(f"{line}; it is ignored", stacklevel=2)


def _listed(names: Any) -> list[str]:
    return [] if names is None or isinstance(names, str) else [str(name) for name in names]


def _fits(name: str, wanted: str, option: str) -> bool:
    if option == "modules_to_save":  # PEFT accepts any suffix, even of part of a word
        return name.endswith(wanted)
    return name == wanted or name.endswith(f".{wanted}")
