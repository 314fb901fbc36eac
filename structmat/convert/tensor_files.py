"""Reading and writing of other libraries' safetensors and JSON files, with clear errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from structmat._util.files import parse_json, read_bytes, replacing
from structmat.adapters.layouts import EmbeddingLayout, is_rotated, layout_for
from structmat.convert.common_form import Shape
from structmat.convert.model_skeleton import Group, Skeleton, skeleton_in, skeleton_of
from structmat.errors import FileError, StructmatError, abbreviated, require

INDEX = ".safetensors.index.json"
_NAMES = ("model", "diffusion_pytorch_model")  # the files of transformers and diffusers
_EIGHT_BITS = (  # dtypes whose values need no separate scale
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    FileError
        If the file cannot be read or does not contain a JSON object.
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
        If the file cannot be read or is truncated.
    """
    safetensors = require("safetensors.torch", "adapters")
    try:
        found: dict[str, Tensor] = safetensors.load_file(path)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # safetensors has its own exception type, defined in Rust
        raise FileError(f"{path} is truncated or not a safetensors file ({error})") from None
    return found


def read_numbers(path: Path) -> dict[str, Tensor]:
    """Return the tensors in an adapter's file, with 8-bit floats converted to float32.

    Raises
    ------
    FileError
        If the file cannot be read, or a dtype needs separate scales.
    """
    return {key: wide(f"{path}: {key}", value) for key, value in read_tensors(path).items()}


def wide(what: str, value: Tensor) -> Tensor:
    """Return a tensor of 8-bit floats as float32, and any other tensor unchanged.

    Raises
    ------
    FileError
        If the dtype needs separate scales.
    """
    if not value.is_floating_point() or is_rotated(value.dtype):
        return value
    if value.dtype not in _EIGHT_BITS:
        raise FileError(
            f"{what} has dtype {value.dtype}, which needs separate scales; save it in float32"
        )
    return value.to(torch.float32)


def floating(name: str, value: Tensor) -> Tensor:
    """Return a tensor of a rotation after checking that it is real, floating point and finite.

    Raises
    ------
    FileError
        If the dtype is not a real floating-point dtype, or an entry is NaN or infinite.
    """
    if not is_rotated(value.dtype):
        raise FileError(
            f"{name} has dtype {value.dtype}; the tensors of a rotation must have a real"
            " floating-point dtype"
        )
    if not bool(torch.isfinite(value).all()):
        raise FileError(f"{name} contains NaN or infinity: the adapter diverged in training")
    return value


def weight_of(name: str, value: Tensor) -> Tensor:
    """Return a pretrained weight after checking that its dtype can be rotated.

    Raises
    ------
    FileError
        If the weight is quantised, complex or of 8-bit floats.
    """
    if not is_rotated(value.dtype):
        raise FileError(
            f"{name}: a weight of dtype {value.dtype} cannot be rotated; merge before the model is"
            " quantised, or give the model in float16, bfloat16 or wider"
        )
    return value


class Weights(Protocol):
    """The weights of a pretrained model, by their names in the model."""

    @property
    def module(self) -> nn.Module | None:
        """The model if known, possibly without values."""
        ...

    @property
    def keys(self) -> frozenset[str]:
        """The names of the tensors."""
        ...

    def shape(self, key: str) -> Shape:
        """Return the shape of a tensor."""
        ...

    def tensor(self, key: str) -> Tensor:
        """Return a tensor."""
        ...

    def rows(self, key: str, indices: Sequence[int]) -> Tensor:
        """Return the entries of a tensor at the given indices of its first axis."""
        ...

    def kind(self, layer: str) -> str | None:
        """Return the name of a layer's layout, or None if unknown."""
        ...

    def renamed(self, key: str) -> str:
        """Return the model's name for a tensor, given its name in files or in an older model."""
        ...


class ModelWeights:
    """The weights of a model in memory."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._state = dict(model.state_dict())
        self._layers = dict(model.named_modules())
        self._keys = frozenset(self._state)

    @property
    def module(self) -> nn.Module:
        """The model."""
        return self._model

    @property
    def keys(self) -> frozenset[str]:
        """The names of the tensors."""
        return self._keys

    def shape(self, key: str) -> Shape:
        """Return the shape of a tensor."""
        return tuple(self._state[key].shape)

    def tensor(self, key: str) -> Tensor:
        """Return a tensor."""
        return self._state[key].detach()

    def rows(self, key: str, indices: Sequence[int]) -> Tensor:
        """Return the entries of a tensor at the given indices of its first axis."""
        return self.tensor(key)[list(indices)]

    def kind(self, layer: str) -> str | None:
        """Return the name of a layer's layout."""
        layout = layout_for(self._layers.get(layer))
        if layout is not None and issubclass(layout, EmbeddingLayout):
            try:
                layout.check_weight(self._layers[layer], scale=False)
            except StructmatError as error:
                raise FileError(f"{layer}: {error}") from None
        return None if layout is None else layout.__name__

    def renamed(self, key: str) -> str:
        """Return the model's name for a tensor, given its name in the files."""
        return key if self._skeleton is None else self._skeleton.renamed(key)

    @cached_property
    def _skeleton(self) -> Skeleton | None:
        return skeleton_of(self._model)


class FileWeights:
    """The weights in a directory of safetensors files, or in one file; tensors are read on demand.

    Names are those of the model in memory, if transformers can build it from its configuration.

    Parameters
    ----------
    source : Path

    Attributes
    ----------
    files : list of Path
    index : Path, optional
        The index file that assigns tensors to files, if there are several.
    homes : dict of name in the files → Path
    settings : dict
        The contents of config.json; empty if it does not exist.
    notes : list of str
        Notes about missing information about the model.

    Raises
    ------
    FileError
        If there are no weights, a tensor is in several files, or a file cannot be read.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.index: Path | None = None
        if source.is_dir():
            self.index, self.files = _of_model(source)
        else:
            self.files = [source] if source.is_file() else []
        if not self.files:
            pickles = [*source.glob("*.bin"), *source.glob("*.pt")] if source.is_dir() else []
            found = f"; {pickles[0].name} is a pickle; save it as safetensors" if pickles else ""
            raise FileError(
                f"{source} contains no *.safetensors file with the weights of a model{found}"
            )
        self.homes: dict[str, Path] = {}
        for path in self.files:
            keys = keys_of(path)
            twice = next((key for key in keys if key in self.homes), None)
            if twice is not None:
                raise FileError(
                    f"{twice} is in {self.homes[twice].name} and in {path.name}; give one of them"
                    " instead of the directory"
                )
            self.homes |= dict.fromkeys(keys, path)
        folder = source if source.is_dir() else source.parent
        config = folder / "config.json"
        self.settings = read_json(config) if config.is_file() else {}
        self.notes: list[str] = []

    @cached_property
    def skeleton(self) -> Skeleton | None:
        """The model of these files, if transformers can build it."""
        folder = self.source if self.source.is_dir() else self.source.parent
        found, notes = skeleton_in(folder, self.settings)
        self.notes += notes
        return found

    @property
    def module(self) -> nn.Module | None:
        """The model without values, if transformers can build it."""
        return None if self.skeleton is None else self.skeleton.model

    @cached_property
    def _places(self) -> tuple[dict[str, str], dict[str, Group]]:
        """The names in the files of the model's tensors, and groups of tensors."""
        if self.skeleton is None:
            return {key: key for key in self.homes}, {}
        shapes: dict[str, Shape] = {}
        for path in self.files:
            keys = keys_of(path)
            with _opened(path) as file:
                shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in keys}
        names, groups = self.skeleton.places(shapes)
        return names, {key: group for group in groups for key in group.shapes}

    @cached_property
    def aliases(self) -> dict[str, str]:
        """The tensors of the model that are not in the files, with those to which they are tied."""
        if self.skeleton is None:
            return {}
        names, groups = self._places
        present = names.keys() | groups.keys()
        sources = ((tied, next(filter(present.__contains__, tied), None)) for tied in self.ties)
        return {
            key: source
            for tied, source in sources
            if source is not None
            for key in tied
            if key not in present
        }

    @property
    def ties(self) -> list[list[str]]:
        """The groups of tensors that the model ties, by their names in the model."""
        return [] if self.skeleton is None else self.skeleton.ties()

    @cached_property
    def keys(self) -> frozenset[str]:
        """The names of the tensors in the model."""
        names, groups = self._places
        return frozenset(names) | groups.keys() | self.aliases.keys()

    def shape(self, key: str) -> Shape:
        """Return the shape of a tensor, read from the header of the file."""
        key = self.aliases.get(key, key)
        names, groups = self._places
        if key in groups:
            return groups[key].shapes[key]
        with _opened(self.homes[names[key]]) as file:
            return tuple(file.get_slice(names[key]).get_shape())

    def tensor(self, key: str) -> Tensor:
        """Return a tensor."""
        key = self.aliases.get(key, key)
        names, groups = self._places
        return self._loaded(groups[key])[key] if key in groups else self._read(names[key])

    def rows(self, key: str, indices: Sequence[int]) -> Tensor:
        """Return the entries of a tensor at the given indices of its first axis.

        Only these are read, unless the tensor is stored in another form.
        """
        key = self.aliases.get(key, key)
        names, groups = self._places
        if key in groups:
            return self.tensor(key)[list(indices)]
        with _opened(self.homes[names[key]]) as file:
            whole = file.get_slice(names[key])
            return torch.cat([whole[k : k + 1] for k in indices])

    def kind(self, layer: str) -> str | None:
        """Return the name of a layer's layout, or None if transformers cannot build the model."""
        return None if self.skeleton is None else self.skeleton.kind(layer)

    def renamed(self, key: str) -> str:
        """Return the model's name for a tensor, given its name in the files."""
        return key if self.skeleton is None else self.skeleton.renamed(key)

    def in_files(
        self, new: Mapping[str, Callable[[Tensor], Tensor]]
    ) -> dict[str, Callable[[Tensor], Tensor]]:
        """Translate changes to the model's tensors into changes to the tensors in its files.

        Parameters
        ----------
        new : dict of name in the model → function of the old tensor that returns the new one

        Raises
        ------
        FileError
            If transformers cannot convert a tensor back to the layout of the files.
        """
        names, groups = self._places
        found = {names[key]: change for key, change in new.items() if key in names}
        touched = {id(groups[key]): groups[key] for key in new if key in groups}
        for group in touched.values():
            before = self._loaded(group)
            again = group.saved(before)
            if not all(torch.equal(again[key], self._read(key)) for key in group.keys):
                raise FileError(
                    f"{next(iter(group.keys))}: transformers does not convert it back to the same"
                    " tensor; load the model, and call load_adapter and merge(model, unload=True)"
                )
            after = group.saved({k: new[k](v) if k in new else v for k, v in before.items()})
            found |= {key: _constant(value) for key, value in after.items()}
        return found

    def _loaded(self, group: Group) -> dict[str, Tensor]:
        return group.loaded({key: self._read(key) for key in group.keys})

    def _read(self, key: str) -> Tensor:
        with _opened(self.homes[key]) as file:
            value: Tensor = file.get_tensor(key)
            return value


def _constant(value: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda _: value


def keys_of(path: Path) -> list[str]:
    """Return the names of the tensors in a safetensors file.

    Raises
    ------
    FileError
        If the file cannot be read or is truncated.
    """
    with _opened(path) as file:
        return list(file.keys())


def metadata_of(path: Path) -> dict[str, str]:
    """Return the metadata in the header of a safetensors file.

    Raises
    ------
    FileError
        If the file cannot be read or is truncated.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file from tensors that share no memory, without copying them all.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    safetensors = require("safetensors.torch", "adapters")
    with replacing(path) as new:
        try:
            safetensors.save_file(dict(tensors), new, {"format": "pt", **metadata})
        except OSError:
            raise
        except Exception as error:  # safetensors has its own exception type, defined in Rust
            raise OSError(f"{path.name}: {error}") from None


def _of_model(folder: Path) -> tuple[Path | None, list[Path]]:
    """Return a model's index, if any, and the files with its weights, but not adapters."""
    indices = sorted(folder.glob(f"*{INDEX}"))
    own = [folder / f"{name}{INDEX}" for name in _NAMES]  # others may be for another dtype
    chosen = [index for index in own if index in indices] or indices
    if len(chosen) == 1:
        index = chosen[0]
        listed = read_json(index).get("weight_map")
        if not isinstance(listed, dict):
            raise FileError(f'{index} has no "weight_map"; download the model again')
        names = sorted({str(name) for name in listed.values()})
        for name in names:
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or PurePosixPath(name).is_absolute():
                raise FileError(f"{index}: {abbreviated(name)} must be a file in this directory")
        return index, [folder / name for name in names]
    found = sorted(p for p in folder.glob("*.safetensors") if not p.name.startswith("adapter"))
    single = [folder / f"{name}.safetensors" for name in _NAMES]  # there may be other files
    return None, [path for path in single if path in found] or found


def _opened(path: Path) -> Any:
    safetensors = require("safetensors", "adapters")
    try:
        return safetensors.safe_open(path, framework="pt")
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # safetensors has its own exception type, defined in Rust
        raise FileError(f"{path} is truncated or not a safetensors file ({error})") from None
