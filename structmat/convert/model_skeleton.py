"""A pretrained model without weights, which transformers builds from its configuration.

It provides the layouts of the layers, and the names in memory of the tensors in the files. These
names differ from those in the files if modules were renamed after the first files were published,
as in most vision–language models, or if several tensors in the files form one tensor in memory, as
for experts.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from structmat.adapters.layouts import layout_for
from structmat.convert.common_form import Shape
from structmat.errors import FileError, require


class Skeleton:
    """The layer names and layouts of a transformers model, whose weights are not read.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A model on any device.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._modules: dict[str, nn.Module] = dict(model.named_modules())
        self._state = model.state_dict()

    def kind(self, layer: str) -> str | None:
        """Return the name of a layer's layout."""
        kind = layout_for(self._modules.get(layer))
        return None if kind is None else kind.__name__

    def vocabulary(self) -> frozenset[str]:
        """Return the names of tensors that have a row for each token."""
        found = []
        for get in (self.model.get_input_embeddings, self.model.get_output_embeddings):
            try:
                table = get()
            except NotImplementedError:  # not a text model
                continue
            for name, module in self._modules.items():
                if module is table:
                    parent = name.rpartition(".")[0]
                    found += [f"{name}.weight", f"{name}.bias", f"{parent}.bias".lstrip(".")]
        return frozenset(found)

    def ties(self) -> list[list[str]]:
        """Return the groups of tensors that the model ties, by name."""
        groups: dict[str, list[str]] = {}
        for target, source in self.model.all_tied_weights_keys.items():
            groups.setdefault(source, [source]).append(target)
        return list(groups.values())

    def renamed(self, key: str) -> str:
        """Return the name in memory of a tensor that the files store as one tensor."""
        to, pattern = self._moved([key])[key][1:]
        return key if pattern is not None else to

    def _moved(self, keys: Iterable[str]) -> dict[str, tuple[str, str, str | None]]:
        """Return each key's name before and after conversion, and the matching pattern."""
        mapping = require("transformers.conversion_mapping", "finetune")
        loading = require("transformers.core_model_loading", "finetune")
        changes = mapping.get_model_conversion_mapping(self.model)
        renamings = [c for c in changes if isinstance(c, loading.WeightRenaming)]
        self._converters = [c for c in changes if isinstance(c, loading.WeightConverter)]
        found = {}
        for key in sorted(keys, key=loading.dot_natural_key):  # some renamings require this order
            name, _ = loading.rename_source_key(key, renamings, [])
            to, pattern = loading.rename_source_key(
                name, [], self._converters, self.model.base_model_prefix, self._state
            )
            found[key] = (name, to, pattern)
        return found

    def places(self, shapes: Mapping[str, Shape]) -> tuple[dict[str, str], list[Group]]:
        """Return where the files contain the tensors in memory.

        Parameters
        ----------
        shapes : dict of name in the files → shape

        Returns
        -------
        dict of name in memory → name in the files
            The tensors that are stored as one tensor; names that the model does not know are
            unchanged.
        list of Group
        """
        names: dict[str, str] = {}
        groups: dict[str, Group] = {}
        moved = self._moved(shapes)
        for key, (name, to, pattern) in moved.items():
            if pattern is not None:
                if to not in groups:
                    converter = next(c for c in self._converters if pattern in c.source_patterns)
                    groups[to] = Group(self.model, to, converter)
                groups[to].add(key, name, pattern)
            else:
                names.setdefault(to if to in self._state else key, key)
        complete = []
        for group in groups.values():
            if group.fits(shapes, self._state):
                complete.append(group)
            else:  # not the layout of published files, but for example that in memory
                names |= {key: key for key in group.keys}
        return names, complete


class Group:
    """A group of tensors in the files that are stacked, split or transposed in memory.

    Attributes
    ----------
    keys : dict of name in the files → name before the conversion, and its pattern
    shapes : dict of name in memory → shape
    """

    def __init__(self, model: Any, target: str, converter: Any) -> None:
        self._model, self._target, self._converter = model, target, converter
        self.keys: dict[str, tuple[str, str]] = {}
        self.shapes: dict[str, Shape] = {}

    def add(self, key: str, name: str, pattern: str) -> None:
        """Add a tensor from the files."""
        self.keys[key] = (name, pattern)

    def fits(self, shapes: Mapping[str, Shape], state: Mapping[str, Tensor]) -> bool:
        """Return whether the tensors convert to tensors of the model, and remember their shapes."""
        try:
            made = self.loaded({k: torch.empty(shapes[k], device="meta") for k in self.keys})
        except Exception:
            return False
        self.shapes = {key: tuple(value.shape) for key, value in made.items()}
        return all(key in state and state[key].shape == s for key, s in self.shapes.items())

    def loaded(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert tensors from the files to those in memory."""
        converter = copy.deepcopy(self._converter)
        for key, (_, pattern) in self.keys.items():
            converter.add_tensor(self._target, key, pattern, tensors[key])
        return self._converted(converter, self._target)

    def saved(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert tensors in memory back to those in the files.

        Raises
        ------
        FileError
            If the names of the result differ from those in the original files.
        """
        converter = self._converter.reverse_transform()
        target = None
        for key, value in tensors.items():
            to, pattern = converter.rename_source_key(key)
            target = target or to
            converter.add_tensor(to, key, pattern, value)
        made = self._converted(converter, target)
        prefix = f"{self._model.base_model_prefix}."  # files may omit it
        plain = {name.removeprefix(prefix): value for name, value in made.items()}
        homes = {name.removeprefix(prefix): key for key, (name, _) in self.keys.items()}
        if plain.keys() != homes.keys():
            raise FileError(
                f"{next(iter(self.keys))}: transformers stores it as {next(iter(self.shapes))} in"
                " memory, and cannot convert it back to the layout of the file; load the model, and"
                " call load_adapter and merge(model, unload=True)"
            )
        return {homes[name]: value for name, value in plain.items()}

    def _converted(self, converter: Any, target: str | None) -> dict[str, Tensor]:
        made = converter.convert(target, model=self._model, config=self._model.config)
        return {k: v[0] if isinstance(v, list) else v for k, v in made.items()}


def skeleton_in(folder: Path, settings: Mapping[str, Any]) -> tuple[Skeleton | None, list[str]]:
    """Build the model that a directory configures, if transformers has it; also return notes.

    Code in the directory is not executed.
    """
    architectures = settings.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        return None, []
    name = str(architectures[0])
    unknown = "tensor names and layer kinds are taken from the files"
    if importlib.util.find_spec("transformers") is None:
        return None, [f"transformers, which may define {name}, is not installed; {unknown}"]
    made = getattr(require("transformers", "finetune"), name, None)
    if made is None or not hasattr(made, "config_class"):
        return None, [f"transformers has no {name}; {unknown}"]
    try:
        config = made.config_class.from_pretrained(folder)
        with torch.device("meta"):
            return Skeleton(made(config)), []
    except Exception as error:
        return None, [
            f"transformers cannot build {name} from {folder / 'config.json'} ({error}); {unknown}"
        ]


def skeleton_of(model: nn.Module) -> Skeleton | None:
    """Return the skeleton of a model in memory, or None if it is not a transformers model."""
    if not hasattr(model, "base_model_prefix") or not hasattr(model, "get_input_embeddings"):
        return None
    return Skeleton(model)
