"""Checks of the values in a configuration, which may come from a file that was edited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from structmat.adapters.base_fingerprint import read_fingerprints
from structmat.errors import StructmatError, abbreviated, checked_integer

_SAVED = "the field is set when layers are adapted; omit it, or save the adapter again"


def checked_bool(name: str, value: Any) -> bool:
    """Return a value after checking that it is True or False.

    Raises
    ------
    StructmatError
        If it is not.
    """
    if not isinstance(value, bool):
        raise StructmatError(f"{name}={abbreviated(value)}: it must be True or False")
    return value


def checked_names(name: str, value: Any, *, pattern: bool = True) -> str | list[str] | None:
    """Return None, a regular expression, or the names in a collection as a list.

    Parameters
    ----------
    name : str
        The field, for messages.
    value : None, str or iterable of str
    pattern : bool
        Whether a str is allowed.

    Raises
    ------
    StructmatError
        If the value is of another form.

    Examples
    --------
    >>> checked_names("target_modules", ("query", "value"))
    ['query', 'value']
    """
    if value is None or (pattern and isinstance(value, str)):
        return value
    listed = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    names: list[Any] = list(value) if listed else [None]
    if not all(isinstance(one, str) for one in names):
        example = abbreviated([value if isinstance(value, str) else "query"])
        form = "a regular expression or a list of names" if pattern else "a list of names"
        raise StructmatError(f"{name}={abbreviated(value)}: it must be {form}, such as {example}")
    return names


def checked_layer_numbers(value: Any) -> Any:
    """Return None, an integer, or a list of integers.

    Raises
    ------
    StructmatError
        If the value is of another form, or an integer is negative.
    """
    if isinstance(value, list | tuple | set | range):
        return [checked_integer(one, "layers_to_transform") for one in value]
    return None if value is None else checked_integer(value, "layers_to_transform")


def checked_patterns(pairs: Any) -> dict[str, Any]:
    """Return topologies by regular expression, from a mapping or a list of pairs.

    Raises
    ------
    StructmatError
        If the value is of another form.
    """
    found = list(pairs.items()) if isinstance(pairs, Mapping) else pairs
    if found is None:
        return {}
    if not isinstance(found, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in found
    ):
        raise StructmatError(
            f"topology_pattern={abbreviated(pairs)}: it must be a mapping from regular expressions"
            ' to topologies, such as {"query": "monarch"}'
        )
    return dict(found)


def recorded_networks(value: Any) -> dict[str, str]:
    """Return the fingerprints of networks by topology and width.

    Raises
    ------
    StructmatError
        If the value is not a mapping from str to str.
    """
    found = _mapping("networks", value)
    for key, mark in found.items():
        if not isinstance(mark, str):
            raise StructmatError(
                f"networks={{{key!r}: {abbreviated(mark)}}}: it must contain the fingerprint of"
                f" each network as text; {_SAVED}"
            )
    return found


def recorded_factors(value: Any) -> dict[str, float]:
    """Return the factors of generators by the fingerprint of the network.

    Raises
    ------
    StructmatError
        If the value is not a mapping from str to positive numbers.
    """
    found = _mapping("generator_scales", value)
    for key, factor in found.items():
        number = isinstance(factor, int | float) and not isinstance(factor, bool)
        if not number or not 1e-30 <= factor <= 1e30:  # this also rejects NaN
            raise StructmatError(
                f"generator_scales={{{key!r}: {abbreviated(factor)}}}: a factor must be a number"
                f" from 1e-30 to 1e30; {_SAVED}"
            )
    return {key: float(factor) for key, factor in found.items()}


def recorded_fingerprints(value: Any) -> dict[str, Any]:
    """Return the fingerprints of base weights by the name of the layer.

    Raises
    ------
    FileError
        If a fingerprint is invalid.
    StructmatError
        If the value is not a mapping whose keys are str.
    """
    found = _mapping("fingerprints", value)
    read_fingerprints(found)
    return found


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise StructmatError(f"{name}={abbreviated(value)}: it must be a mapping; {_SAVED}")
    return dict(value)
