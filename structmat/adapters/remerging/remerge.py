"""Training by rotations that are merged into the weights at regular intervals, as in POET."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from structmat.adapters.adapted_layer import ONLY, AdaptedLayer
from structmat.adapters.checkpoint import read_adapter, save_adapter
from structmat.adapters.distributed import check_whole, unwrapped
from structmat.adapters.layouts import Stack
from structmat.adapters.model import adapters
from structmat.adapters.recipes import builder, side_by_side
from structmat.adapters.remerging.optimizer_state import forget, plain_optimizer, replace, trains
from structmat.adapters.remerging.remerge_files import (
    Networks,
    read_remerge,
    saved_networks,
    tensors_with,
    write_remerge,
)
from structmat.adapters.remerging.topology_rounds import Schedule, checked_schedule
from structmat.adapters.remerging.trainer_callback import trainer_callback
from structmat.adapters.saved_tensors import mismatches, parameters_of, trained_tensors
from structmat.adapters.shared_weights import Slot, shared_slots
from structmat.errors import FileError, StructmatError, abbreviated, checked_integer
from structmat.networks.network import Network
from structmat.nn.offloading import is_empty
from structmat.nn.orthogonal_layer import Orthogonal, shapes_of
from structmat.nn.parametrizations import at_least_float32


class Remerge:
    """Merge the rotations of a model into its weights every k steps, and restart the rotations.

    At each merge, the frozen weight W of every adapted layer becomes P·W·Rᵀ, and its rotations P
    and R become the identity again, possibly with another topology. POET trains models from scratch
    in this way. Merging does not change the function that the model computes, except for rounding.
    The singular values of each weight stay the same, unless the adapter has an output scale. The
    steps from one merge to the next are called a round.

    Parameters
    ----------
    model : nn.Module
        A model adapted by `adapt`, with the rotations on any side.
    schedule : function, list or None
        The topology of each round: a function from the number of the round, which counts from 0, to
        a topology; a list of topologies, which is repeated; or None to keep each layer's own
        network. `random_rounds`, `pair_rounds`, `butterfly_rounds` and `stage_rounds` return such
        functions. A topology is anything that `adapt` accepts. Creating the object starts round 0.
    every : int
        The number of optimiser steps in a round.
    optimizer : torch.optim.Optimizer, optional
        The optimiser of the model's parameters. Required for `step`; a Trainer's callback sets it.
    moments : {"reset", "keep"}
        What happens to the optimiser state of the generators, such as Adam's moments, after each
        merge. The state refers to the coordinates of the round that ends. "reset" removes it.
        "keep" keeps it for rotations whose network stays the same, which is a good approximation if
        the rotations are small.
    accumulate : bool
        Whether to keep a float32 copy of each adapted 16-bit weight, so that the rounding errors of
        merges do not accumulate.

    Attributes
    ----------
    round : int
        The number of merges so far.
    steps : int
        The number of steps so far.

    Raises
    ------
    StructmatError
        If the model has no adapters, PEFT added them, or an argument is invalid; if an adapted
        weight is quantised, offloaded, sharded or merged; or if the schedule yields a topology that
        does not fit a layer.

    Notes
    -----
    A generator tensor stays the same parameter as long as its shape does. Otherwise, the new
    parameters take the places of the old ones in the optimiser's parameter groups, which is not
    possible after a model has been wrapped by `DDP`. Weight decay of the generators acts on the
    rotation of the current round only. Adapted layers no longer share their weights with others.

    From the first merge on, the rotations alone do not determine the model. `save_adapter`
    therefore saves the weights of all adapted layers, too, and `load_adapter` restores them. To
    resume training, use `save` and `load`, which also restore the round.

    References
    ----------
    Z. Qiu et al., Reparameterized LLM Training via Orthogonal Equivalence Transformation, 2025,
    arXiv 2506.08001.

    Examples
    --------
    >>> from structmat.adapters import adapt, random_rounds
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4))
    >>> schedule = random_rounds(block=4)
    >>> model = adapt(model, schedule(0), side="both")
    >>> trained = [p for p in model.parameters() if p.requires_grad]
    >>> optimizer = torch.optim.Adam(trained, lr=0.001)
    >>> remerge = Remerge(model, schedule, every=10, optimizer=optimizer)
    >>> x, y = torch.randn(64, 16), torch.randn(64, 4)
    >>> for _ in range(30):
    ...     loss = (model(x) - y).square().mean()
    ...     loss.backward()
    ...     optimizer.step()
    ...     merged = remerge.step()                   # True after every tenth step
    ...     optimizer.zero_grad()
    >>> remerge
    Remerge(every=10, round=3, steps=30)
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule = None,
        *,
        every: int = 200,
        optimizer: torch.optim.Optimizer | None = None,
        moments: str = "reset",
        accumulate: bool = True,
    ) -> None:
        self.every = checked_integer(every, "every", 1)
        if moments not in ("reset", "keep"):
            raise StructmatError(f'moments={abbreviated(moments)}: it must be "reset" or "keep"')
        self.model = unwrapped(model)
        self._shared_gradients = self.model is not model  # perhaps wrapped by DDP
        self.moments = moments
        if not isinstance(accumulate, bool):
            raise StructmatError(
                f"accumulate={abbreviated(accumulate)}: accumulate must be True or False"
            )
        if optimizer is not None and not isinstance(
            plain_optimizer(optimizer), torch.optim.Optimizer
        ):
            raise StructmatError(
                f"optimizer={abbreviated(optimizer)}: it must be a torch.optim.Optimizer, such as"
                " torch.optim.AdamW(parameters)"
            )
        self.accumulate = accumulate
        self.optimizer = optimizer
        self.round = self.steps = 0
        self._schedule = checked_schedule(schedule)
        self._layers = _layers_of(self.model)
        self.copies: dict[str, Tensor] = {}  # float32 weights, by layer
        self.resumed = False  # whether a directory was loaded since a Trainer last began
        self._checked: Any = None  # the optimiser last checked
        self._checked_networks(0)  # raises an error before anything changes
        shared = shared_slots(self.model)
        for layer in self._layers.values():
            layer.saves_base = True
            if _slot(layer) in shared:
                layer.untie()
        self._begin(0)
        self._shared_gradients = True  # from now on, the model may be wrapped

    def __repr__(self) -> str:
        return f"Remerge(every={self.every}, round={self.round}, steps={self.steps})"

    # Rounds ---------------------------------------------------------------------------------

    def step(self) -> bool:
        """Count a step of the optimiser, and return whether the rotations were merged after it.

        Call this method after each `optimizer.step()`, and therefore not after each batch if
        gradients are accumulated.

        Raises
        ------
        StructmatError
            If there is no optimiser, it does not train the rotations, or a generator contains NaN
            or infinity.
        """
        if self.optimizer is None or self._checked is not self.optimizer:
            self.check_optimizer()
        self.steps += 1
        if self.steps % self.every:
            return False
        self.merge()
        return True

    def merge(self) -> None:
        """Merge all rotations now, and begin the next round.

        Raises
        ------
        StructmatError
            If a generator contains NaN or infinity, or the next topology does not fit a layer. The
            model is unchanged. If a weight contains NaN or infinity, or memory is insufficient,
            some layers are merged; the model still computes the same function, and the next call
            merges the others.
        """
        self._begin(self.round + 1)

    # Tensors made in inference mode could not be trained or differentiated later.
    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def _begin(self, number: int) -> None:
        networks = self._checked_networks(number)
        for name, layer in self._layers.items():  # each is complete before the next one begins
            if layer.scale is not None or any(bool(g.any()) for g in _generators(layer)):
                self._merge_layer(name, layer)
            self._restart(name, networks, self.moments)
        self.round = number

    def _merge_layer(self, name: str, layer: AdaptedLayer) -> None:
        weight = layer.base_layer.weight
        dtype = at_least_float32(weight.dtype) if self.accumulate else weight.dtype
        copy = self.copies.get(name)
        if copy is None or not torch.equal(copy.to(weight), weight):  # another weight was loaded
            copy = weight.to(dtype)
        try:
            merged = layer.merged_weight([ONLY], copy.to(weight.device))
        except StructmatError as error:
            raise StructmatError(f"{name}: {error}") from None
        if dtype != weight.dtype:
            self.copies[name] = merged
        ones = [] if layer.scale is None else [layer.scale]
        rotations = _generators(layer)
        new = [merged.to(weight), *map(torch.ones_like, ones), *map(torch.zeros_like, rotations)]
        # In one call, which an interruption cannot split.
        torch._foreach_copy_([weight, *ones, *rotations], new)

    def _checked_networks(self, number: int) -> Networks:
        """Return the networks of a round after checking that all layers can be merged."""
        networks = self._networks(number)
        for name, layer in self._layers.items():
            _check_layer(name, layer)
            try:
                layer.check_finite([ONLY])
            except StructmatError as error:
                raise StructmatError(f"{name}: {error}") from None
        return networks

    def _networks(self, number: int) -> Networks:
        """Return the network of each rotation in a round, or none if all stay the same."""
        topology = self._schedule(number)
        if topology is None:
            return {}
        try:
            build = builder(topology)
        except StructmatError as error:
            raise type(error)(f"round {number}: {error}") from None
        made: dict[tuple[int, int], Network] = {}
        found = {}
        for name, layer in self._layers.items():
            copies = layer.layout.copies(layer.base_layer)
            for side, rotation in layer.by_side().items():
                width = rotation.width // copies
                if (width, copies) not in made:
                    try:
                        made[width, copies] = side_by_side(build(width), copies)
                    except StructmatError as error:
                        raise type(error)(f"round {number}, {name}: {error}") from None
                found[name, side] = made[width, copies]
                self._check_shapes(f"round {number}, {name}", rotation, made[width, copies])
        return found

    def _check_shapes(self, what: str, rotation: Orthogonal, network: Network) -> None:
        """Raise an error if parameters would have to be replaced, but cannot be."""
        shapes = rotation.shapes_for(network)
        if shapes == shapes_of(rotation):
            return
        if not (shapes and rotation.generators):
            raise StructmatError(f"{what}: a topology without switches has no generators to train")
        several = distributed.is_available() and distributed.is_initialized()
        if several and self._shared_gradients:
            raise StructmatError(
                f"{what}: the generators change from the shapes {shapes_of(rotation)} to {shapes},"
                " but several processes train the model, and would not exchange the gradients of"
                " new parameters; use topologies with equal numbers and sizes of blocks"
            )

    def _restart(self, name: str, networks: Networks, moments: str) -> None:
        """Reset the rotations of a layer to the identity, with these networks, and their state."""
        layer = self._layers[name]
        for side, rotation in layer.by_side().items():
            network = networks.get((name, side))
            changed = network is not None and network != rotation.network
            before = list(rotation.generators)
            rotation.restart(network if changed else None)
            if moments == "reset" or (moments == "keep" and changed):
                forget(self.optimizer, before)
            replace(self.optimizer, before, list(rotation.generators))
        if layer.scale is not None:
            layer.scale.fill_(1)
            forget(self.optimizer, [layer.scale] if moments == "reset" else [])
        for parameter in _generators(layer):
            parameter.grad = None  # it refers to the old coordinates

    def check_optimizer(self) -> None:
        """Raise an error if the optimiser does not train the generators.

        Raises
        ------
        StructmatError
            If there is no optimiser, or it does not contain every generator that requires a
            gradient.
        """
        if self.optimizer is None:
            raise StructmatError(
                "Remerge has no optimizer: pass optimizer=, or add remerge.callback() to the"
                " callbacks of a Trainer"
            )
        for name, layer in self._layers.items():
            if not trains(self.optimizer, (g for g in _generators(layer) if g.requires_grad)):
                raise StructmatError(
                    f"{name}: the optimizer does not train the rotations themselves; create it"
                    " after Remerge, or pass it as optimizer=. Optimizers that train copies of the"
                    " parameters, such as DeepSpeed's, are not supported"
                )
        self._checked = self.optimizer

    # Saving and resuming ------------------------------------------------------------------------

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write the adapter with the merged weights, and the state of this object, to a directory.

        `adapter.json` and `adapter.safetensors` are the files of `save_adapter`, which
        `load_adapter` can read; `remerge.json` and `remerge.safetensors`, which contains the
        float32 copies, are read by `load` only. Save the optimiser separately.

        Raises
        ------
        StructmatError, FileError
            As for `save_adapter`.
        """
        return write_remerge(
            save_adapter(self.model, directory), self.round, self.steps, self.copies
        )

    @torch.no_grad()
    def load(self, directory: str | os.PathLike[str]) -> None:
        """Restore the weights, the rotations and the round from a directory written by `save`.

        The model must have been adapted in the same way. Load the state of the optimiser
        afterwards, since parameters may be replaced.

        Raises
        ------
        FileError
            If a file is missing or damaged, the files were not saved together, or they do not fit
            the model or the schedule. Nothing is changed.
        StructmatError
            If the schedule yields a topology that does not fit a layer, or a layer is merged.
            Nothing is changed.
        """
        folder = Path(directory)
        number, steps, copies = read_remerge(folder)
        saved, tensors = read_adapter(folder)
        for name, layer in self._layers.items():
            _check_layer(name, layer)
        networks = saved_networks(folder, saved, self._layers, self._networks(number), number)
        try:
            for (name, side), network in networks.items():
                self._check_shapes(name, self._layers[name].by_side()[side], network)
        except StructmatError as error:
            raise FileError(f"{folder} does not fit this model: {error}") from None
        expected = tensors_with(self.model, self._layers, networks)
        if wrong := mismatches(tensors, expected, parameters_of(expected)):
            raise FileError(f"{folder} does not fit this model: {'; '.join(wrong.values())}")
        for name in self._layers:
            self._restart(name, networks, "as loaded")  # a Trainer has loaded the optimiser's state
        targets = trained_tensors(self.model)
        for name, value in tensors.items():
            targets[name].copy_(value)
        self.round, self.steps, self.copies, self.resumed = number, steps, copies, True

    def callback(self) -> Any:
        """Return a callback for transformers' Trainer, which calls `step`, `save` and `load`.

        Each checkpoint of the Trainer then contains the files of `save`. When training is resumed
        from a checkpoint in `output_dir`, the callback loads these files. If the checkpoint is in
        another directory, or the shapes of generators differ between rounds, call `load` yourself
        before `Trainer.train`. With `load_best_model_at_end`, the callback calls `load` for the
        best checkpoint when training ends.

        Raises
        ------
        MissingExtraError
            Without transformers (extra `finetune`).
        """
        return trainer_callback(self)


def _layers_of(model: nn.Module) -> dict[str, AdaptedLayer]:
    """Return the adapted layers after checking that their weights can be merged."""
    found = adapters(model)
    if not found:
        raise StructmatError("the model has no adapters: adapt it first")
    foreign = next((name for name, layer in found.items() if not layer.saves_networks), None)
    if foreign is not None:
        raise StructmatError(
            f"{foreign} was adapted by PEFT, whose checkpoints contain rotations without the merged"
            " weights; adapt the model with structmat.adapters.adapt"
        )
    check_whole(model, "merge")
    for name, layer in found.items():
        if layer.quantised:
            raise StructmatError(
                f"{name} is quantised, and each merge would round it to few bits; exclude it"
            )
        if is_empty(layer.base_layer):
            raise StructmatError(f"{name} is offloaded or on the meta device; load it first")
        _check_layer(name, layer)
    return found


def _check_layer(name: str, layer: AdaptedLayer) -> None:
    if layer.merged:
        raise StructmatError(f"{name} is merged: call unmerge(model) first")
    partial = any(getattr(r, "kept", None) is not None for r in layer.rotations())
    if layer.structmat_power[ONLY] != 1 or partial:
        raise StructmatError(
            f"{name} is raised to a power or restricted to some stages; set the power 1 and keep"
            " all stages first"
        )


def _generators(layer: AdaptedLayer) -> list[nn.Parameter]:
    return [g for rotation in layer.rotations() for g in rotation.generators]


def _slot(layer: AdaptedLayer) -> Slot:
    base = layer.base_layer
    return (id(base.owner), base.part) if isinstance(base, Stack) else (id(base), "weight")
