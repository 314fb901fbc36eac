"""The common representation of all formats: layers with a network and its blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TypeAlias

import torch
from torch import Tensor

from structmat.adapters.base_fingerprint import Fingerprint
from structmat.adapters.layouts import (
    ChannelsLayout,
    Conv1DLayout,
    ConvolutionLayout,
    EmbeddingLayout,
    Layer,
    Layout,
    LinearLayout,
    QuantisedLinearLayout,
    layout_named,
)
from structmat.errors import FileError
from structmat.networks.network import Network

Blocks: TypeAlias = list[Tensor]  # float64, one (n, r, r) for each bank
Shape: TypeAlias = tuple[int, ...]

ONE_SWITCH = "one switch"  # the blocks of a network that consists of one switch of all wires
LINEAR, CONV1D = LinearLayout.__name__, Conv1DLayout.__name__
QUANTISED = QuantisedLinearLayout.__name__
EMBEDDING = EmbeddingLayout.__name__
CONVOLUTION = ConvolutionLayout.__name__
BY_AXES = {2: LINEAR, 3: CONVOLUTION, 4: CONVOLUTION, 5: CONVOLUTION}


@dataclass(frozen=True)
class LayerRotation:
    """The rotation of one layer's weight: s ⊙ W·Rᵀ for inputs, s ⊙ R·W for outputs.

    Attributes
    ----------
    network : Network
        A straight network.
    blocks : function that returns the blocks
        Blocks are computed on demand, because those of a single layer may be large.
    side : {"inputs", "outputs"}
    scale : (outputs,) tensor, optional
    bias : (outputs,) tensor, optional
        The layer's own bias, if it was trained.
    kind : str, optional
        The name of the layer's layout; None if the file does not specify it.
    weight : tuple of int, optional
        The shape of the layer's weight; None if the file does not specify the shape.
    dtype : torch dtype
        The dtype of the tensors in the file, at least float32.
    parametrization : str
        The parametrization of the blocks in the file.
    layer : nn.Module, optional
        The layer itself, if available.
    field : {"receptive", "channels"}
        What is rotated in a convolution whose layout the file does not specify.
    base : tensor, optional
        The layer's unrotated weight, if the file contains one to replace the pretrained weight, as
        PEFT's files do for an embedding with added rows.
    series : (n, r, r) tensor, optional
        The matrices Q, if all blocks have the form I + 2Q + 2Q² + 2Q³ + Q⁴.
    fingerprint : Fingerprint, optional
        The fingerprint of the weight on which the rotation was trained.
    """

    network: Network
    blocks: Callable[[], Blocks]
    side: str = "inputs"
    scale: Tensor | None = None
    bias: Tensor | None = None
    kind: str | None = None
    weight: Shape | None = None
    dtype: torch.dtype = torch.float32
    parametrization: str = "cayley"
    series: Tensor | None = None
    layer: Layer | None = None
    field: str = "receptive"
    base: Tensor | None = None
    fingerprint: Fingerprint | None = None

    @property
    def is_scaled(self) -> bool:
        """Whether any output is scaled by a factor other than 1."""
        return self.scale is not None and not bool((self.scale == 1).all())

    @property
    def groups(self) -> int:
        """The number of channel groups of the layer, each of which has its own rotation."""
        return 1 if self.kind is None or self.weight is None else _copies(self)


def layout(rotation: LayerRotation) -> tuple[type[Layout], Layer]:
    """Return the layout of a layer, and the layer or a stand-in with its sizes.

    A layout needs nothing but these sizes.
    """
    assert rotation.kind is not None
    kind = layout_named(rotation.kind)
    assert kind is not None, rotation.kind
    if rotation.layer is not None:
        return kind, rotation.layer
    assert rotation.weight is not None
    shape = rotation.weight
    groups = (
        max(1, rotation.network.width // _unit(kind, shape)) if rotation.side == "inputs" else 1
    )
    return kind, SimpleNamespace(
        weight=torch.empty(shape, device="meta"),
        in_features=shape[1],
        out_features=shape[0],
        embedding_dim=shape[1],
        groups=groups,
        in_channels=groups * shape[1],
        out_channels=shape[0],
        kernel_size=shape[2:],
    )


def _copies(rotation: LayerRotation) -> int:
    kind, layer = layout(rotation)
    return kind.copies(layer)


def _unit(kind: type[Layout], shape: Shape) -> int:
    """Return the number of rotated inputs in each group of a convolution."""
    return shape[1] if kind.field == "channels" else math.prod(shape[1:])


@dataclass(frozen=True)
class Adaptation:
    """The contents of an adapter's files.

    Attributes
    ----------
    source : str
        The name of the format.
    rotations : dict of layer name → LayerRotation
    other_tensors : dict of name → Tensor
        Other trained tensors, by their names in the model.
    trained : list of str
        The fully trained modules to which some of these tensors belong.
    statistics : list of str
        The modules whose running statistics are among these tensors.
    notes : list of str
        Notes made while reading the files.
    names : dict of layer name → list of str
        All names of each layer that has several, if the file specifies them.
    is_flat : bool
        Whether names contain underscores instead of dots, as in LyCORIS.
    pretrained, task : str, optional
        The pretrained model and the task, as specified in the file.
    metadata : dict of str → str
        The metadata of a file in another program's format.
    component : str, optional
        The component of an image pipeline that the adapter belongs to, if the file specifies it.
    """

    source: str
    rotations: Mapping[str, LayerRotation]
    other_tensors: Mapping[str, Tensor] = field(default_factory=dict)
    trained: list[str] = field(default_factory=list)
    statistics: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: Mapping[str, list[str]] = field(default_factory=dict)
    is_flat: bool = False
    pretrained: str | None = None
    task: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    component: str | None = None

    def refuse_other_tensors(self, target: str) -> None:
        """Raise an error if there are tensors other than rotations, which the target cannot store.

        Raises
        ------
        FileError
            If there are such tensors.
        """
        if self.other_tensors:
            name = next(iter(self.other_tensors))
            raise FileError(
                f"{name} was trained in addition to the rotations, and {target} cannot store it;"
                " convert to a merged model instead"
            )


def known(
    name: str, rotation: LayerRotation, shape: Shape | None, kind: str | None
) -> LayerRotation:
    """Complete a rotation with the shape and layout of its layer, from the file or the model.

    Raises
    ------
    FileError
        If neither specifies the shape, the two disagree, the weight is quantised, or the rotation
        does not fit the layer.
    """
    weight = rotation.weight if shape is None else tuple(shape)
    if weight is None:
        raise FileError(
            f"{name}: the file does not specify the shape of this layer's weight; give the"
            " pretrained model (model=, --model)"
        )
    if rotation.weight not in (None, weight):
        raise FileError(
            f"{name}: the file expects a weight of shape {rotation.weight}, but the model has one"
            f" of shape {weight}"
        )
    rotation = replace(rotation, weight=weight, kind=_agreed(name, rotation, weight, kind))
    found, layer = layout(rotation)
    width, outputs = rotation.network.width, found.output_width(layer)
    if width != found.rotated_width(layer, rotation.side) or outputs % rotation.groups:
        raise FileError(
            f"{name}: the file rotates {width} {rotation.side}, which a weight of shape {weight}"
            " does not have"
        )
    if rotation.scale is not None and len(rotation.scale) != outputs:
        raise FileError(
            f"{name}: the file has {len(rotation.scale)} scales, but the layer {outputs} outputs"
        )
    return rotation


def _agreed(name: str, rotation: LayerRotation, weight: Shape, kind: str | None) -> str:
    """Return the name of the layout on which the file, the model and the shape agree."""
    if kind == QUANTISED:
        raise FileError(f"{name}: the weight is quantised; give the model before quantisation")
    agreed = rotation.kind or kind or BY_AXES.get(len(weight))
    if rotation.kind is None:
        agreed = _in_field(agreed, rotation.field)
    one, other = (layout_named(k or "") for k in (agreed, kind or agreed))
    if one is None or other is None or one.layer_classes != other.layer_classes:
        fits = False
    else:
        fits = issubclass(one, ConvolutionLayout) == (BY_AXES.get(len(weight)) == CONVOLUTION)
    if one is None or not fits:
        raise FileError(
            f"{name}: a weight of shape {weight} does not fit {rotation.kind or 'a layer'}"
        )
    return one.__name__


def _in_field(name: str | None, field: str) -> str | None:
    """Return the layout of the same layers that rotates the given field of a convolution."""
    return ChannelsLayout.__name__ if (name, field) == (CONVOLUTION, "channels") else name


def rotated(net: Network, blocks: Blocks, columns: Tensor) -> Tensor:
    """Return R X for columns X (width, k) and a straight network.

    Examples
    --------
    >>> net = Network.of(3, [[[0, 1]], [[1, 2]]])
    >>> quarter = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])
    >>> rotated(net, [quarter, quarter], torch.eye(3))
    tensor([[ 0., -1.,  0.],
            [ 0.,  0., -1.],
            [ 1.,  0.,  0.]])
    """
    rest = iter(blocks)
    for stage in net.stages:
        after = columns.clone()
        for bank in stage.banks:
            after[torch.tensor(bank.writes)] = next(rest) @ columns[torch.tensor(bank.reads)]
        columns = after
    return columns


def rotate(rotation: LayerRotation, weight: Tensor) -> Tensor:
    """Return the weight s ⊙ W·Rᵀ or s ⊙ R·W in float64, in the layer's layout."""
    kind, layer = layout(rotation)
    neurons = kind.neurons(layer, weight.to(torch.float64))
    if rotation.side == "inputs":
        neurons = kind.from_rows(layer, _rotated_rows(rotation, kind.rows(layer, neurons)))
    outputs = kind.by_outputs(layer, neurons)
    if rotation.side == "outputs":
        outputs = _rotated_rows(rotation, outputs)
    if rotation.scale is not None:
        outputs = outputs * rotation.scale.to(outputs)
    return kind.from_neurons(layer, kind.from_outputs(layer, outputs))


def unrotate(rotation: LayerRotation, weight: Tensor) -> Tensor:
    """Return the weight in float64 that `rotate` maps to the given one."""
    net = rotation.network
    inverse = LayerRotation(
        Network(net.width, net.stages[::-1]),
        lambda: _inverses(net, rotation.blocks()),
        rotation.side,
        kind=rotation.kind,
        weight=rotation.weight,
        layer=rotation.layer,
    )
    if rotation.scale is not None:
        kind, layer = layout(rotation)
        outputs = kind.by_outputs(layer, kind.neurons(layer, weight.to(torch.float64)))
        outputs = outputs / rotation.scale.to(outputs)
        weight = kind.from_neurons(layer, kind.from_outputs(layer, outputs))
    return rotate(inverse, weight)


def _inverses(net: Network, blocks: Blocks) -> Blocks:
    """Return the inverse blocks, in the order of the network with its stages reversed."""
    rest = iter(blocks)
    by_stage = [[torch.linalg.inv(next(rest)) for _ in stage.banks] for stage in net.stages]
    return [block for stage in reversed(by_stage) for block in stage]


def _rotated_rows(rotation: LayerRotation, rows: Tensor) -> Tensor:
    columns = rows.reshape(-1, rotation.network.width).T.contiguous()
    return rotated(rotation.network, rotation.blocks(), columns).T.reshape(rows.shape)
