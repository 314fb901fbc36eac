"""Checks shared by the writers of rotation formats, and the parameters that they write."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from structmat.adapters.shared_weights import names_of_layers
from structmat.convert.common_form import CONVOLUTION, LINEAR, LayerRotation
from structmat.convert.inverse_parametrization import coordinates
from structmat.convert.subnetworks import place, placed, without_identities
from structmat.errors import BlockError, FileError
from structmat.networks.network import Network


def parameters(
    name: str, rotation: LayerRotation, inside: Network, *, nearest: bool
) -> tuple[list[Tensor], float]:
    """Return Q for each bank of a format's network, and the largest error of a block entry.

    Raises
    ------
    FileError
        If a block is not a Cayley transform.
    """
    if place(rotation.network, inside) is None:
        rotation = without_identities(rotation)
    try:
        found = [
            coordinates(block, rotation.dtype, nearest=nearest)
            for block in placed(rotation.network, rotation.blocks(), inside)
        ]
    except BlockError as error:
        raise FileError(f"{name}: {error}") from None
    return [part.q for part in found], max((part.error for part in found), default=0.0)


def refuse_base(rotations: Mapping[str, LayerRotation], target: str) -> None:
    """Raise an error if the file contains a layer's own weight, which the target cannot store.

    Raises
    ------
    FileError
        If there is such a layer.
    """
    for name, rotation in rotations.items():
        if rotation.base is not None:
            raise FileError(
                f"{name}: the file contains a weight of shape {tuple(rotation.base.shape)} for this"
                f" layer, which differs from the pretrained model's, and {target} cannot store it;"
                " convert to a merged model, or to structmat's or PEFT's files"
            )


def refuse_shared(model: nn.Module | None, layers: Mapping[str, str], target: str) -> None:
    """Raise an error for a layer with several names, since the target adapts modules separately.

    A layer inside a single module with several names is allowed, since it is replaced under all of
    them.

    Parameters
    ----------
    model : nn.Module, optional
    layers : mapping from the name of an adapted layer to its name in the model

    Raises
    ------
    FileError
        If there is such a layer.
    """
    if model is None:
        return
    modules = dict(model.named_modules(remove_duplicate=False))
    shared: dict[str, list[str]] = {}
    for names in names_of_layers(model):
        slots: dict[tuple[int, str], str] = {}
        for name in names:
            parent, _, child = name.rpartition(".")
            slots.setdefault((id(modules[parent]), child), name)
        if len(slots) > 1:
            shared |= {name: list(slots.values()) for name in names}
    for name, layer in layers.items():
        if layer in shared:
            others = ", ".join(other for other in shared[layer] if other != layer)
            raise FileError(
                f"{name}: the model also has this layer under other names, {others}, and {target}"
                " would adapt only this one; convert to a merged model, or to structmat's or PEFT's"
                " files"
            )


def check_inputs(name: str, rotation: LayerRotation, target: str) -> None:
    """Raise an error if outputs are rotated.

    Raises
    ------
    FileError
        If outputs are rotated.
    """
    if rotation.side != "inputs":
        raise FileError(
            f"{name}: its outputs are rotated, but {target} rotates inputs; convert to LyCORIS,"
            " LoRA or a merged model"
        )


def check_unscaled(name: str, rotation: LayerRotation, target: str) -> None:
    """Raise an error if outputs are scaled.

    Raises
    ------
    FileError
        If any scale is not 1.
    """
    if rotation.is_scaled:
        raise FileError(
            f"{name}: its outputs are scaled, but {target} has no scales; convert to LoRA or a"
            " merged model"
        )


def check_peft_layer(name: str, rotation: LayerRotation, method: str) -> None:
    """Raise an error for a layer that PEFT's rotation methods do not support.

    Raises
    ------
    FileError
        If there is such a layer.
    """
    if rotation.kind not in (LINEAR, CONVOLUTION) or len(rotation.weight or (1, 1)) not in (2, 4):
        layer = (rotation.kind or "layer").removesuffix("Layout")
        raise FileError(
            f"{name}: PEFT's {method} supports only linear layers and receptive fields of Conv2d,"
            f" not {layer} with a weight of shape {rotation.weight}; convert to LoRA or a merged"
            " model"
        )
    if rotation.kind == CONVOLUTION and rotation.weight is not None:
        if rotation.groups > 1:
            raise FileError(f"{name}: PEFT's {method} does not support convolutions with groups")
        if rotation.weight[2] != rotation.weight[3]:
            raise FileError(f"{name}: PEFT's {method} supports only square kernels")
