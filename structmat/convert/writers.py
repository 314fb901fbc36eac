"""Helpers shared by the writers of all formats of rotations."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from structmat.adapters.shared_weights import names_of_layers
from structmat.convert.adaptation import CONVOLUTION, LINEAR, LayerRotation
from structmat.convert.inverse_parametrization import coordinates
from structmat.convert.subnetworks import placed
from structmat.errors import BlockError, FileError
from structmat.networks.network import Network


def parameters(
    name: str, rotation: LayerRotation, inside: Network, *, nearest: bool
) -> tuple[list[Tensor], float]:
    """Return Q of each bank of a format's network, and the largest error of an entry of a block.

    Raises
    ------
    FileError
        For a block that is not a Cayley transform.
    """
    try:
        found = [
            coordinates(block, rotation.dtype, nearest=nearest)
            for block in placed(rotation.network, rotation.blocks(), inside)
        ]
    except BlockError as error:
        raise FileError(f"{name}: {error}") from None
    return [part.q for part in found], max((part.error for part in found), default=0.0)


def refuse_base(rotations: Mapping[str, LayerRotation], target: str) -> None:
    """Raise an error for layers whose own weight is in the file, if a format cannot store it.

    Raises
    ------
    FileError
        For such a layer.
    """
    for name, rotation in rotations.items():
        if rotation.base is not None:
            raise FileError(
                f"{name}: the file contains a weight of the layer, {tuple(rotation.base.shape)},"
                " which"
                f" differs from the pretrained model's, and {target} cannot store it; convert to a"
                " merged model, or to structmat's or PEFT's files"
            )


def refuse_shared(model: nn.Module | None, layers: Mapping[str, str], target: str) -> None:
    """Raise an error for layers with several names, if a format adapts each module separately.

    A layer within one module of several names is allowed, as it is replaced under all of them.

    Parameters
    ----------
    model : nn.Module, optional
    layers : mapping from the name of an adapted layer to that in the model

    Raises
    ------
    FileError
        For such a layer.
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
    """Raise an error for rotated outputs.

    Raises
    ------
    FileError
        For a rotation of outputs.
    """
    if rotation.side != "inputs":
        raise FileError(
            f"{name}: its outputs are rotated, but {target} rotates inputs; convert to LyCORIS,"
            " LoRA or a merged model"
        )


def check_unscaled(name: str, rotation: LayerRotation, target: str) -> None:
    """Raise an error for scaled outputs.

    Raises
    ------
    FileError
        If some scale is not 1.
    """
    if rotation.is_scaled:
        raise FileError(
            f"{name}: its outputs are scaled, but {target} has no scales; convert to LoRA or a"
            " merged model"
        )


def check_peft_layer(name: str, rotation: LayerRotation, method: str) -> None:
    """Raise an error for a layer that PEFT's rotations do not support.

    Raises
    ------
    FileError
        For such a layer.
    """
    if rotation.kind not in (LINEAR, CONVOLUTION) or len(rotation.weight or (1, 1)) not in (2, 4):
        layer = (rotation.kind or "layer").removesuffix("Layout")
        raise FileError(
            f"{name}: {layer} with weight {rotation.weight}; PEFT's {method} supports only linear"
            " layers and receptive fields of Conv2d; convert to LoRA or a merged model"
        )
    if rotation.kind == CONVOLUTION and rotation.weight is not None:
        if rotation.groups > 1:
            raise FileError(f"{name}: PEFT's {method} does not support convolutions with groups")
        if rotation.weight[2] != rotation.weight[3]:
            raise FileError(f"{name}: PEFT's {method} supports only square kernels")
