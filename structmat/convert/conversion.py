"""The function `convert`, which converts any detected format to a given one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from structmat._util.files import new_directory
from structmat._util.progress import bar
from structmat._util.text_table import Printed, Table
from structmat.convert import gsoft, lora, merged, structmat_format
from structmat.convert.base_model import compared, recalled
from structmat.convert.common_form import LayerRotation
from structmat.convert.detection import CONVENTIONS, Opened, Pretrained, is_adapter, opened
from structmat.convert.image_programs import kohya, lycoris
from structmat.convert.image_programs.adapter_file import checked_component
from structmat.convert.image_programs.flat_names import flat_names
from structmat.convert.peft_methods import peft_boft, peft_files, peft_oft, peft_structmat
from structmat.convert.tensor_files import FileWeights
from structmat.convert.writer_checks import refuse_shared
from structmat.errors import (
    BaseModelWarning,
    FileError,
    StructmatError,
    abbreviated,
    checked_integer,
    suggest,
)

TARGETS = {
    "structmat": "structmat's adapter files",
    "peft": "structmat's method in PEFT",
    "peft-boft": "PEFT's BOFT",
    "peft-oft": "PEFT's OFT",
    "kohya": "kohya's sd-scripts: OFT or BOFT",
    "comfyui": "ComfyUI: OFT or BOFT",
    "lycoris": "LyCORIS: diag-OFT or BOFT",
    "gsoft": "GSOFT",
    "lora": "LoRA",
    "merged": "the model with rotated weights",
}
_ROTATIONS: dict[str, Callable[..., tuple[dict[str, float], list[str]]]] = {
    "peft": peft_structmat.write,
    "peft-boft": peft_boft.write,
    "peft-oft": peft_oft.write,
    "gsoft": gsoft.write,
}
_PIPELINES: dict[str, Callable[..., tuple[dict[str, float], list[str]]]] = {
    "kohya": kohya.write,
    "comfyui": lycoris.write_comfyui,
    "lycoris": lycoris.write,
}  # formats for models of a pipeline, whose names they change
_HIGHEST = 2**16  # the highest rank of LoRA, more than layers have inputs or outputs
_SINGLE = (*_PIPELINES, "gsoft")  # formats that consist of one file


@dataclass(frozen=True)
class Conversion(Printed):
    """The result of a conversion, with the errors that it introduced.

    Attributes
    ----------
    source, target : Path
    format : str
        The detected format of the source.
    to : str
        One of `TARGETS`.
    layers : dict of layer name → dict
        The "network" as text, the "side", and, except for merged models, the conversion error: for
        rotations "error", the largest error of a block entry; for LoRA "of_change" and "of_weight",
        the Frobenius norm of the error relative to W' − W and to W, and the "rank", which is 0 for
        a layer that the adapter does not change.
    notes : list of str
    metadata : dict of str → str
        The metadata of the source, if it is a file of another program.
    """

    source: Path
    target: Path
    format: str
    to: str
    layers: dict[str, dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON-serialisable dict."""
        return {
            "source": str(self.source),
            "format": self.format,
            "target": str(self.target),
            "to": self.to,
            "layers": self.layers,
            "notes": self.notes,
            "metadata": self.metadata,
        }

    def _parts(self) -> list[object]:
        head = f"{self.source}: {self.format} → {TARGETS[self.to]}, {self.target}"
        columns = {
            "rank": ("rank", "d"),
            "error": ("error", ".1e"),
            "of_change": ("relative to change", ".1e"),
            "of_weight": ("relative to weight", ".1e"),
        }
        first: dict[str, Any] = next(iter(self.layers.values()), {})
        shown = {key: form for key, (_, form) in columns.items() if key in first}
        rows = [
            (name, row["network"], row["side"], *(f"{row[k]:{form}}" for k, form in shown.items()))
            for name, row in self.layers.items()
        ]
        header = ("layer", "network", "side", *(columns[key][0] for key in shown))
        table = Table(header, rows, left=(0, 1, 2))
        return [head, "", table, *(f"note: {note}" for note in self.notes)]


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str = "structmat",
    model: Pretrained | None = None,
    rank: int | None = None,
    tolerance: float | None = None,
    svd: str = "exact",
    prefix: str | None = None,
    component: str | None = None,
    convention: str | None = None,
    nearest: bool = False,
    replace: bool = False,
    progress: bool = False,
) -> Conversion:
    """Convert an adapter between the file formats of structmat and other libraries.

    Parameters
    ----------
    source : path
        A directory written by structmat, or by PEFT with structmat's method, BOFT, OFT, HRA, PSOFT
        or RoAd, or by diffusers with one of these; or a safetensors file from LyCORIS, kohya's
        sd-scripts, OneTrainer, ComfyUI, diffusers or GSOFT. The format is detected.
    target : path
        A safetensors file for sd-scripts, ComfyUI, LyCORIS, GSOFT, LoRA with a prefix, and merging
        into a pretrained model that is one file; otherwise a directory. It must not exist yet,
        unless it is an empty directory or `replace` is True, and is written completely or not at
        all.
    to : str
        "structmat", "peft", "peft-boft", "peft-oft", "kohya", "comfyui", "lycoris", "gsoft", "lora"
        or "merged".
    model : path or nn.Module, optional
        The pretrained model: a directory of safetensors files, a single file, or a diffusers
        pipeline that contains the model. LoRA and merging need its weights (merging needs them as
        files); other formats need its shapes and layer names if the source does not specify them.
    rank : int, optional
        The rank of LoRA.
    tolerance : float, optional
        For LoRA, instead of or in addition to the rank: each layer has the smallest rank with which
        the relative Frobenius error of its change, W' − W, is at most this number between 0 and 1.
        If both are given, `rank` is the largest rank of a layer, and a note lists the layers that
        exceed the tolerance.
    svd : {"exact", "randomised"}
        For LoRA: how singular vectors are computed. Randomised subspace iteration takes much less
        time for wide layers and low ranks; its error may be slightly larger than that of the best
        approximation, and the rank slightly larger than the smallest. The reported errors are those
        of the result in either case.
    prefix : str, optional
        For LoRA: write a single file, in which layer names begin with this prefix, instead of
        PEFT's files. Diffusers expects "unet" or "transformer", and ComfyUI also accepts
        "diffusion_model".
    component : str, optional
        The model of an image pipeline: "unet" or "transformer", "text_encoder", "text_encoder_2" or
        "text_encoder_3". It selects one model if the source adapts several, and determines the
        names of layers in files for sd-scripts, ComfyUI and LyCORIS. By default, the component is
        determined from the layer names, except for LyCORIS, whose general prefix is used.
    convention : str, optional
        The program whose formula applies, if the file does not specify it: "kohya", "lycoris",
        "comfyui", "onetrainer" or "peft".
    nearest : bool
        Whether to replace blocks that are not orthogonal, such as truncated Neumann series, with
        the nearest rotations.
    replace : bool
        Whether to replace an existing target: a safetensors file, or a directory that contains an
        adapter or a model, other than the source and the pretrained model.
    progress : bool
        Whether to show a progress bar over the layers, for LoRA and merging.

    Returns
    -------
    Conversion
        The detected format and the conversion errors; `print` shows a summary.

    Raises
    ------
    FileError
        If the source cannot be read, does not fit the model, is already in the format "structmat"
        to which it is to be converted, or contains something that the target cannot represent; or
        if the target exists, has the wrong suffix or cannot be written.
    StructmatError
        If an option is invalid, missing or superfluous.
    MissingExtraError
        Without safetensors (extra `adapters`), or PEFT (extra `peft`) for structmat's PEFT method.

    Warns
    -----
    BaseModelWarning
        If the source contains fingerprints of the weights that it was trained on, and the weights
        of the model do not match them; see `load_adapter`.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from structmat.adapters import adapt, save_adapter
    >>> folder = Path(tempfile.mkdtemp())
    >>> model = nn.Sequential(nn.Linear(16, 4))
    >>> _ = save_adapter(adapt(model, "butterfly(block=4, depth=2)"), folder / "ours")
    >>> done = convert(folder / "ours", folder / "theirs", to="peft-boft")
    >>> sorted(path.name for path in (folder / "theirs").iterdir())
    ['adapter_config.json', 'adapter_model.safetensors']
    """
    start, end = _path(source), _path(target)
    if model is not None and not isinstance(model, nn.Module):
        model = _path(model)
    if to not in tuple(TARGETS):  # a tuple, because an invalid value may not be hashable
        raise StructmatError(f"to={abbreviated(to)}: no such format{suggest(str(to), TARGETS)}")
    limits = _limits(to, rank, tolerance, svd)
    _check(to, end, model, prefix)
    for option, flag in (("nearest", nearest), ("replace", replace)):
        if not isinstance(flag, bool):
            raise StructmatError(f"{option}={abbreviated(flag)}: {option} must be True or False")
    if is_present(end):
        if not replace:
            raise FileError(f"{end} already exists; remove it first, or choose another name")
        _check_replaceable(end, [start, model], single=_is_file(to, model, prefix))
    if convention is not None and convention not in CONVENTIONS:
        raise StructmatError(
            f"convention={abbreviated(convention)}: no such program"
            f"{suggest(str(convention), CONVENTIONS)}"
        )
    component = checked_component(component)
    opening = opened(start, model, component=component, convention=convention)
    found, warning = _compared(start, opening)
    rotations = found.adaptation.rotations
    if to == "structmat" and found.adaptation.source == "structmat":
        raise FileError(f"{start} is already in structmat's format; choose another format")
    rows: dict[str, dict[str, Any]] = {
        name: {"network": _shown(rotation), "side": rotation.side}
        for name, rotation in rotations.items()
    }
    notes = list(found.adaptation.notes)
    if warning is not None:
        warnings.warn(warning, BaseModelWarning, stacklevel=2)
        notes.append(warning)
    try:
        with _new(end, to, model, prefix, replace=replace) as place:
            notes += _write(
                found,
                place,
                end,
                to,
                rows,
                limits=limits,
                prefix=prefix,
                component=component,
                nearest=nearest,
                progress=progress,
            )
    except OSError as error:
        raise FileError(f"{end}: cannot be written ({error.strerror or error})") from None
    metadata = dict(found.adaptation.metadata)
    return Conversion(start, end, found.adaptation.source, to, rows, notes, metadata)


def _path(given: str | os.PathLike[str]) -> Path:
    """Return a path after checking that the file system can represent its name."""
    path = Path(given)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # whoever uses the path reports it
    except (OSError, ValueError) as error:  # a name is too long, or has a null character
        why = getattr(error, "strerror", None) or error
        raise FileError(f"{abbreviated(str(path))}: {why}; choose another name") from None
    return path


def _compared(source: Path, found: Opened) -> tuple[Opened, str | None]:
    """Return the adapter with fingerprints, and a warning if it belongs to another model."""
    path = source / peft_files.TENSORS if source.is_dir() else source
    rotations, warning = recalled(path, found.adaptation.rotations), None
    if found.weights is not None and found.names is not None:
        rotations, warning = compared(rotations, found.weights, found.names.of)
    return replace(found, adaptation=replace(found.adaptation, rotations=rotations)), warning


def _write(
    opened: Opened,
    place: Path,
    target: Path,
    to: str,
    rows: dict[str, dict[str, Any]],
    *,
    limits: lora.Limits,
    prefix: str | None,
    component: str | None,
    nearest: bool,
    progress: bool,
) -> list[str]:
    """Write the target, record the conversion errors in the rows, and return notes."""
    found, weights, names = opened.adaptation, opened.weights, opened.names
    rotations: dict[str, LayerRotation] = dict(found.rotations)
    if to not in ("structmat", "peft", "merged") and weights is not None and names is not None:
        refuse_shared(weights.module, names.of, TARGETS[to])
    if to == "structmat":
        _note(rows, "error", structmat_format.write(found, rotations, place, nearest=nearest))
        return []
    if to in _ROTATIONS:
        errors, notes = _ROTATIONS[to](found, rotations, place, nearest=nearest)
        _note(rows, "error", errors)
        return notes
    if to in _PIPELINES:
        inside = flat_names(
            to,
            rotations if names is None else names.of.values(),
            weights=weights,
            component=component or found.component,
            outputs=any(rotation.side == "outputs" for rotation in rotations.values()),
        )
        if names is not None:
            inside = replace(inside, of={key: inside.of[name] for key, name in names.of.items()})
        errors, notes = _PIPELINES[to](found, rotations, place, nearest=nearest, names=inside)
        _note(rows, "error", errors)
        return notes
    assert weights is not None
    assert names is not None
    if to == "merged":
        assert isinstance(weights, FileWeights)
        return merged.write(
            found, rotations, place, weights=weights, names=names, called=target, progress=progress
        )
    layers = _each(rotations, "LoRA", shown=progress)
    done, notes = lora.write(
        found, layers, place, limits=limits, weights=weights, keys=names.of, prefix=prefix
    )
    for name, row in done.items():
        rows[name] |= row._asdict()
    return notes


def _note(rows: dict[str, dict[str, Any]], column: str, values: dict[str, float]) -> None:
    for name, value in values.items():
        rows[name][column] = value


def _each(
    rotations: dict[str, LayerRotation], what: str, *, shown: bool
) -> Iterator[tuple[str, LayerRotation]]:
    """Yield the rotations, with a progress bar if requested."""
    with bar(what, len(rotations), unit="layer", shown=shown) as steps:
        for item in rotations.items():
            yield item
            steps.update()


def _limits(to: str, rank: int | None, tolerance: float | None, svd: str) -> lora.Limits:
    """Check the rank and the tolerance of LoRA, and how singular vectors are computed."""
    if svd not in lora.SVDS or (svd != lora.SVDS[0] and to != "lora"):
        raise StructmatError(
            f"svd={abbreviated(svd)}: it must be 'exact' or, for lora only, 'randomised'"
        )
    if (to == "lora") != (rank is not None or tolerance is not None):
        raise StructmatError(
            "lora needs a rank or a tolerance, and no other format takes one: --to lora --rank 16,"
            " or --to lora --tolerance 0.01"
        )
    if rank is not None:
        checked_integer(rank, "rank", 1)
        if rank > _HIGHEST:
            raise StructmatError(f"rank={rank}: it must be at most {_HIGHEST}")
    if tolerance is None:
        return lora.Limits(rank, svd=svd)
    given: Any = tolerance
    is_number = isinstance(given, float | int) and not isinstance(given, bool)
    if not is_number or not 0 < given < 1:
        raise StructmatError(
            f"tolerance={abbreviated(tolerance)}: it must be a number between 0 and 1, such as 0.01"
        )
    return lora.Limits(rank, float(tolerance), svd)


def _check(to: str, target: Path, model: Pretrained | None, prefix: str | None) -> None:
    """Check the combination of options before any work starts."""
    if to in ("lora", "merged") and model is None:
        raise StructmatError(
            f"to={abbreviated(to)} needs the weights; give the pretrained model (model=, --model)"
        )
    if to == "merged" and isinstance(model, nn.Module):
        raise StructmatError(
            "to merge into a model in memory, call load_adapter and then merge instead"
        )
    if prefix is not None and (
        to != "lora" or str(prefix).endswith(".") or not isinstance(prefix, str)
    ):
        raise StructmatError(
            f"prefix={abbreviated(prefix)}: it must be text that does not end with a dot, and only"
            " lora supports it"
        )
    if _is_file(to, model, prefix) and target.suffix != ".safetensors":
        what = "the merged model, like the pretrained one," if to == "merged" else TARGETS[to]
        raise FileError(f"{target}: {what} is one file; its name must end in .safetensors")
    if to == "lora" and prefix is None and target.suffix == ".safetensors":
        raise FileError(f"{target}: a single LoRA file needs a prefix, as in --prefix transformer")
    if not target.parent.is_dir():
        raise FileError(f"{target}: there is no directory {target.parent}; create it first")


def is_present(target: Path) -> bool:
    """Return whether a target exists, and is not merely an empty directory.

    Examples
    --------
    >>> is_present(Path("/")), is_present(Path("no such file"))
    (True, False)
    """
    return target.exists() and not (target.is_dir() and not any(target.iterdir()))


def _check_replaceable(target: Path, used: Sequence[Any], *, single: bool) -> None:
    """Raise an error unless a target is an adapter or a model that the conversion does not use."""
    if not (target.is_file() if single else target.is_dir()):
        kind = "a file" if single else "a directory"
        raise FileError(f"{target} is not {kind}, unlike the result; choose another name")
    whole = target.resolve()
    for path in used:
        if isinstance(path, Path) and path.resolve().is_relative_to(whole):
            raise FileError(
                f"{target}: it contains {path}, which is converted; choose another name"
            )
    if not single and (
        any(path.name.startswith(".") for path in target.iterdir())
        or not (is_adapter(target) or any(target.rglob("*.safetensors")))
    ):
        raise FileError(
            f"{target}: only a directory with an adapter or a model, and without hidden files, is"
            " replaced; remove it first, or choose another name"
        )


def _new(
    target: Path, to: str, model: Pretrained | None, prefix: str | None, *, replace: bool
) -> AbstractContextManager[Path]:
    """Return a context manager for the path to write: a temporary directory or the file."""
    single = _is_file(to, model, prefix)
    if single:
        return nullcontext(target)
    return new_directory(target.resolve(), replace=replace)  # a link is kept, as for files


def _is_file(to: str, model: Pretrained | None, prefix: str | None) -> bool:
    """Return whether the result is a single file rather than a directory."""
    if to == "merged" and not isinstance(model, nn.Module) and model is not None:
        return Path(model).is_file()
    return to in _SINGLE or prefix is not None


def _shown(rotation: LayerRotation) -> str:
    net = rotation.network
    radices = sorted({bank.radix for bank in net.banks})
    blocks = "–".join(map(str, dict.fromkeys([radices[0], radices[-1]]))) if radices else "0"
    return f"width {net.width}, depth {net.depth}, blocks of {blocks}"
