"""Safetensors and JSON files that others wrote, read with clear errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from structmat.errors import FileError, StructmatError, require
from structmat.nn.adapters import EmbeddingAdapter, kind_for
from structmat.nn.conversion.turns import Shape
from structmat.writing import parse_json, read_bytes

INDEX = ".safetensors.index.json"


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    FileError
        When it cannot be read, or holds something else.
    """
    value = parse_json(read_bytes(path), path)
    if not isinstance(value, dict):
        raise FileError(f"{path}: expected a JSON object")
    return value


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises
    ------
    FileError
        When it cannot be read, or is cut.
    """
    safetensors = require("safetensors.torch", "adapters")
    try:
        found: dict[str, Tensor] = safetensors.load_file(path)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # safetensors has an exception type of its own, in Rust
        raise FileError(f"{path} is cut or no safetensors file ({error})") from None
    return found


class Weights(Protocol):
    """The weights of a pretrained model, by their names in the model."""

    keys: frozenset[str]

    def shape(self, key: str) -> Shape:
        """Return the shape of a tensor."""
        ...

    def tensor(self, key: str) -> Tensor:
        """Return a tensor."""
        ...

    def kind(self, layer: str) -> str | None:
        """Return the kind of a layer where it is known, by the name of its adapter."""
        ...


class ModelWeights:
    """The weights of a model in memory."""

    def __init__(self, model: nn.Module) -> None:
        self._state = dict(model.state_dict())
        self._layers = dict(model.named_modules())
        self.keys = frozenset(self._state)

    def shape(self, key: str) -> Shape:
        """Return the shape of a tensor."""
        return tuple(self._state[key].shape)

    def tensor(self, key: str) -> Tensor:
        """Return a tensor."""
        return self._state[key].detach()

    def kind(self, layer: str) -> str | None:
        """Return the kind of a layer, by the name of its adapter."""
        kind = kind_for(self._layers.get(layer))
        if kind is not None and issubclass(kind, EmbeddingAdapter):
            try:
                kind.check_weight(self._layers[layer], products=False)
            except StructmatError as error:
                raise FileError(f"{layer}: {error}") from None
        return None if kind is None else kind.__name__


class FileWeights:
    """The weights in a directory of safetensors files, or in one file; read one at a time.

    Parameters
    ----------
    source : Path

    Raises
    ------
    FileError
        When there are none.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        if source.is_dir():
            self.files = _of_model(source)
        else:
            self.files = [source] if source.is_file() else []
        if not self.files:
            pickles = [*source.glob("*.bin"), *source.glob("*.pt")] if source.is_dir() else []
            found = f"; {pickles[0].name} is a pickle, save as safetensors" if pickles else ""
            raise FileError(f"{source}: no *.safetensors with the weights of a model{found}")
        self.homes: dict[str, Path] = {}
        for path in self.files:
            with _opened(path) as file:
                keys = file.keys()
            twice = next((key for key in keys if key in self.homes), None)
            if twice is not None:
                raise FileError(
                    f"{twice} is in {self.homes[twice].name} and in {path.name}; give one of them"
                    " instead of the directory"
                )
            self.homes |= dict.fromkeys(keys, path)
        self.keys = frozenset(self.homes)
        self._aliases: dict[str, str] = {}

    def add_aliases(self, aliases: Mapping[str, str]) -> None:
        """Let tensors go by other names as well, such as those of weights tied to them."""
        self._aliases |= aliases
        self.keys |= aliases.keys()

    def shape(self, key: str) -> Shape:
        """Return the shape of a tensor, which the head of the file says."""
        key = self._aliases.get(key, key)
        with _opened(self.homes[key]) as file:
            return tuple(file.get_slice(key).get_shape())

    def tensor(self, key: str) -> Tensor:
        """Return a tensor."""
        key = self._aliases.get(key, key)
        with _opened(self.homes[key]) as file:
            value: Tensor = file.get_tensor(key)
            return value

    def kind(self, layer: str) -> str | None:  # noqa: ARG002 (files do not say)
        """Return None: files do not say of what kind a layer is."""
        return None


def _of_model(folder: Path) -> list[Path]:
    """Return the files with the weights of a model: those in its index, or all but adapters."""
    indices = sorted(folder.glob(f"*{INDEX}"))
    if len(indices) == 1:
        listed = read_json(indices[0]).get("weight_map")
        if not isinstance(listed, dict):
            raise FileError(f'{indices[0]} has no "weight_map"')
        return [folder / name for name in sorted({str(name) for name in listed.values()})]
    found = sorted(p for p in folder.glob("*.safetensors") if not p.name.startswith("adapter"))
    single = folder / "model.safetensors"  # as transformers calls it; others may lie beside it
    return [single] if single in found else found


def _opened(path: Path) -> Any:
    safetensors = require("safetensors", "adapters")
    try:
        return safetensors.safe_open(path, framework="pt")
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # safetensors has an exception type of its own, in Rust
        raise FileError(f"{path} is cut or no safetensors file ({error})") from None
