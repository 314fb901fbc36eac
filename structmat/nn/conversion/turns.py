"""What all formats have in common: layers, each with a network and its blocks as matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor

from structmat.errors import FileError
from structmat.network import Network

Blocks: TypeAlias = list[Tensor]  # float64, one (n, r, r) for each bank
Shape: TypeAlias = tuple[int, ...]

REFLECTIONS = "reflections"
LINEAR, CONV1D, CONV2D = "LinearAdapter", "Conv1DAdapter", "Conv2dAdapter"


@dataclass(frozen=True)
class Turn:
    """How the weight of one layer is turned: s ⊙ W·Rᵀ for its inputs, s ⊙ R·W for its outputs.

    Attributes
    ----------
    network : Network
        A straight one.
    blocks : function that returns the blocks
        They are made when they are needed: those of one layer may be large.
    side : {"inputs", "outputs"}
    scale : (outputs,) tensor, optional
    bias : (outputs,) tensor, optional
        The layer's own bias, where it was trained.
    kind : str, optional
        The kind of layer, by the name of its adapter; None where the file does not say.
    weight : tuple of int, optional
        The shape of the layer's weight; None where the file does not say.
    dtype : torch dtype
        Of the numbers in the file, at least float32.
    transform : str
        The kind of blocks that the parameters in the file are of.
    series : (n, r, r) tensor, optional
        The Q of blocks I + 2Q + 2Q² + 2Q³ + Q⁴, where they are that and nothing else.
    """

    network: Network
    blocks: Callable[[], Blocks]
    side: str = "inputs"
    scale: Tensor | None = None
    bias: Tensor | None = None
    kind: str | None = None
    weight: Shape | None = None
    dtype: torch.dtype = torch.float32
    transform: str = "cayley"
    series: Tensor | None = None

    @property
    def is_scaled(self) -> bool:
        """Whether outputs are scaled by anything but 1."""
        return self.scale is not None and not bool((self.scale == 1).all())

    @property
    def groups(self) -> int:
        """How many groups of channels the layer has, each with a rotation of its own."""
        if self.kind != CONV2D or self.weight is None or self.side == "outputs":
            return 1
        return self.network.width // math.prod(self.weight[1:])


@dataclass(frozen=True)
class Adaptation:
    """What a file says about a model.

    Attributes
    ----------
    source : str
        The format, in words.
    turns : dict of layer name → Turn
    whole : dict of name → Tensor
        Other tensors that were trained, by their name in the model.
    trained : list of str
        The modules that these belong to, where they were trained whole.
    statistics : list of str
        The modules whose running statistics these are.
    notes : list of str
        What the reader of the file has to say.
    is_flat : bool
        Whether names have underscores for dots, as those of LyCORIS do.
    pretrained, task : str, optional
        What the file names as the model it is of, and as its task.
    """

    source: str
    turns: Mapping[str, Turn]
    whole: Mapping[str, Tensor] = field(default_factory=dict)
    trained: list[str] = field(default_factory=list)
    statistics: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_flat: bool = False
    pretrained: str | None = None
    task: str | None = None

    def refuse_whole(self, target: str) -> None:
        """Refuse tensors beside the rotations, which some formats have no place for.

        Raises
        ------
        FileError
            When there are some.
        """
        if self.whole:
            raise FileError(
                f"{next(iter(self.whole))} was trained beside the rotations, and {target} has no"
                " place for it; convert to a merged model instead"
            )


def known(name: str, turn: Turn, shape: Shape | None, kind: str | None) -> Turn:
    """Return a turn that knows its layer's weight, from the file or from the pretrained model.

    Raises
    ------
    FileError
        When neither says the shape, or they do not agree.
    """
    weight = turn.weight if shape is None else tuple(shape)
    if weight is None:
        raise FileError(
            f"{name}: the file does not say the shape of this layer's weight; name the pretrained"
            " model (model=, --model)"
        )
    if turn.weight not in (None, weight):
        raise FileError(f"{name}: the file is of a weight {turn.weight}, the model has {weight}")
    kind = kind or turn.kind or {2: LINEAR, 4: CONV2D}.get(len(weight))
    if turn.kind not in (None, kind) or kind is None:
        raise FileError(f"{name}: a weight of shape {weight} is none of a {turn.kind or 'layer'}")
    turn = replace(turn, weight=weight, kind=kind)
    width, outputs = turn.network.width, weight[1] if kind == CONV1D else weight[0]
    field_size = weight[0] if kind == CONV1D else math.prod(weight[1:])
    fits = width == outputs if turn.side == "outputs" else width == field_size
    if kind == CONV2D and turn.side == "inputs":
        fits = width % field_size == 0 and outputs % (width // field_size) == 0
    if not fits:
        raise FileError(
            f"{name}: the file rotates {width} {turn.side}, which a weight of shape {weight} does"
            " not have"
        )
    if turn.scale is not None and len(turn.scale) != outputs:
        raise FileError(f"{name}: {len(turn.scale)} scales for {outputs} outputs")
    return turn


def rotated(net: Network, blocks: Blocks, columns: Tensor) -> Tensor:
    """Return R X for X (width, k), of a straight network.

    Examples
    --------
    >>> net = Network.of(3, [[[0, 1]], [[1, 2]]])
    >>> turn = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])
    >>> rotated(net, [turn, turn], torch.eye(3))
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


def turned(turn: Turn, weight: Tensor) -> Tensor:
    """Return the weight s ⊙ W·Rᵀ or s ⊙ R·W in float64, in the layout of the layer's."""
    w = weight.to(torch.float64)
    w = w.T if turn.kind == CONV1D else w
    flat, groups = w.flatten(1), turn.groups
    if turn.side == "inputs":  # each group has inputs of its own: groups beside each other
        rows = flat.reshape(groups, -1, flat.shape[1]).transpose(0, 1)
        rows = rotated(turn.network, turn.blocks(), rows.flatten(1).T.contiguous()).T
        flat = rows.reshape(-1, groups, flat.shape[1]).transpose(0, 1).reshape(flat.shape)
    else:
        flat = rotated(turn.network, turn.blocks(), flat)
    if turn.scale is not None:
        flat = flat * turn.scale.to(flat)[:, None]
    w = flat.reshape(w.shape)
    return w.T if turn.kind == CONV1D else w
