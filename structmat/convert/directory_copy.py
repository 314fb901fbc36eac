"""Copying of the other files in a model's directory, to accompany its new weights.

Files that contain the old weights in other formats are listed instead of copied.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from structmat._util.files import read_json
from structmat._util.text_table import listed
from structmat.adapters.checkpoint import PEFT_SETTINGS, SETTINGS, TENSORS
from structmat.convert.tensor_files import FileWeights, keys_of

# Suffixes of weights in the formats of other libraries and programs.
_SUFFIXES = (
    *(".h5", ".msgpack", ".onnx", ".onnx_data", ".gguf", ".ggml", ".tflite", ".ot", ".mlmodel"),
    *(".mlpackage", ".ckpt", ".pdparams", ".engine", ".nemo"),
)
# Usual names of pickled weights and training states; tokenizers and processors may have files with
# the same suffixes.
_PICKLES = re.compile(
    r"(pytorch_model|model|diffusion_pytorch_model|adapter_model|consolidated|openvino_|tf_model"
    r"|flax_model|optimizer|scheduler|scaler|rng_state|training_args|weights|ggml)"
    r".*\.(bin|pt|pth|npz|xml|pkl)(\.index\.json)?"
)
# The same weights split into parts, in another dtype, or under the original release's names.
_TENSORS = re.compile(
    r"(model|pytorch_model|diffusion_pytorch_model|consolidated|adapter_model).*\.safetensors"
)
_INDEX = re.compile(r".*\.(bin|h5|msgpack|safetensors)\.index\.json")
_FOLDERS = re.compile(
    r"onnx|openvino|gguf|coreml|tflite|mlx|original|checkpoint-\d+|global_step\d+|\.git|\.cache"
)
_OF_ADAPTERS = (SETTINGS, TENSORS, PEFT_SETTINGS)


def copy_other_files(weights: FileWeights, target: Path, *, leave: Path) -> list[str]:
    """Copy a model's directory except for its old weights; return notes.

    Symbolic links are followed, except those that form a cycle. The directories of modules that
    sentence-transformers runs after the model are copied with their weights.

    Parameters
    ----------
    weights : FileWeights
        The weights of a directory.
    target : Path
        A directory, which may lie within the model's.
    leave : Path
        The final path of `target`; neither path is copied.
    """
    copier = _Copier(weights, target, leave)
    copier.folder(weights.source, target, kept=False)
    return copier.notes()


class _Copier:
    def __init__(self, weights: FileWeights, target: Path, leave: Path) -> None:
        self._root = weights.source
        written = [*weights.files, *([] if weights.index is None else [weights.index])]
        self._written = set(map(os.path.realpath, written))
        self._keys = frozenset(weights.homes)
        self._skipped = {os.path.realpath(target), os.path.realpath(leave)}
        self._modules = set(_modules(weights.source))
        self._around: list[str] = []  # real paths of enclosing directories, to detect cyclic links
        self._stale: list[str] = []
        self._odd: list[str] = []

    def folder(self, source: Path, target: Path, *, kept: bool) -> None:
        """Copy a directory; if `kept`, including weights."""
        self._around.append(os.path.realpath(source))
        for path in sorted(source.iterdir()):
            name = path.relative_to(self._root).as_posix()
            if os.path.realpath(path) in self._skipped:
                continue
            if path.is_dir():
                self._subfolder(path, target / path.name, name, kept=kept)
            elif not path.is_file():  # a dangling link, a pipe or a socket
                self._odd.append(name)
            elif os.path.realpath(path) in self._written:
                continue
            elif not kept and self._is_stale(path):
                self._stale.append(name)
            elif not (target / path.name).exists():  # may have been written with the weights
                shutil.copyfile(path, target / path.name)
        self._around.pop()

    def _subfolder(self, path: Path, target: Path, name: str, *, kept: bool) -> None:
        if os.path.realpath(path) in self._around:
            self._odd.append(name)
            return
        kept = kept or name in self._modules
        is_adapter = any((path / found).exists() for found in (SETTINGS, PEFT_SETTINGS))
        if not kept and (is_adapter or _FOLDERS.fullmatch(path.name)):
            self._stale.append(f"{name}/")
            return
        target.mkdir(exist_ok=True)
        self.folder(path, target, kept=kept)

    def _is_stale(self, path: Path) -> bool:
        name = path.name
        if name in _OF_ADAPTERS or path.suffix in _SUFFIXES:
            return True
        if path.parent == self._root and (_TENSORS.fullmatch(name) or _INDEX.fullmatch(name)):
            return True
        if path.suffix == ".safetensors":
            return not self._keys.isdisjoint(keys_of(path))
        return _PICKLES.fullmatch(name) is not None

    def notes(self) -> list[str]:
        """Return notes about the files that were not copied."""
        found = []
        if self._stale:
            found.append(
                "not copied, because they contain the old weights, training state or an adapter:"
                f" {listed(self._stale)}"
            )
        if self._odd:
            found.append(
                "not copied, because they are dangling or cyclic links, or not regular files:"
                f" {listed(self._odd)}"
            )
        return found


def _modules(folder: Path) -> Iterator[str]:
    """Yield the subdirectories of modules from sentence-transformers."""
    listed = read_json(folder / "modules.json")
    for module in listed if isinstance(listed, list) else []:
        name = module.get("path") if isinstance(module, dict) else None
        if isinstance(name, str) and name:
            yield os.path.normpath(name)
