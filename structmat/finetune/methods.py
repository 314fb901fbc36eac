"""The methods that are compared: how each makes a model trainable, and what it leaves."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import networkx as nx

from structmat.errors import SpecError, StructmatError, require, suggest, whole
from structmat.families import ruler
from structmat.families.topology import Fixed, rule
from structmat.finetune.models import Classifier, quiet
from structmat.finetune.recipe import Recipe
from structmat.graph import from_graph
from structmat.networks.network import Network

Topology = str | Callable[[int], Network]


@dataclass(frozen=True)
class Method:
    """One way to finetune.

    Parameters
    ----------
    name : str
        Short, for commands and file names.
    label : str
        For tables.
    kind : "head", "lora", "dora", "hra", "oft" or "rotation"
        "head" trains no adapter, "rotation" is structmat's, and the others are PEFT's.
    rate : float
        The learning rate, found by the same search for every method (see `tuning`).
    topology : str or callable, optional
        A spec, or a function width → Network; for rotations.
    """

    name: str
    label: str
    kind: str
    rate: float
    topology: Topology | None = None

    def prepare(self, classifier: Classifier) -> Any:
        """Return the model with everything frozen but the head and what the method trains."""
        with quiet():
            return _PREPARE[self.kind](self, classifier)

    def merged(self, model: Any) -> Any:
        """Return a copy of the trained model as a plain one, the method's change in its weights."""
        model = copy.deepcopy(model)
        if self.kind == "rotation":
            return _adapters().merge(model, unload=True)
        return model if self.kind == "head" else model.merge_and_unload()

    def orthogonality_error(self, model: Any) -> float | None:
        """Return max |RᵀR − I| over all adapted layers, or None where nothing is rotated."""
        if self.kind == "rotation":
            return max(
                float(adapter.rotation.orthogonality_error())
                for adapter in _adapters().adapters(model).values()
            )
        if self.kind in _TRAINED:
            return max(
                _orthogonality_error(module.get_delta_weight("default"))
                for module in model.modules()
                if hasattr(module, _TRAINED[self.kind]) and hasattr(module, "get_delta_weight")
            )
        return None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to compare and how thoroughly.

    Parameters
    ----------
    methods : tuple of Method
    seeds : int
        Trainings of each method; they differ in the head's start, the order and dropout.
    recipe : Recipe
    rounds : int
        Rounds of timing.
    tune : bool
        Whether to search learning rates first, instead of the methods' own.
    """

    methods: tuple[Method, ...]
    seeds: int = 1
    recipe: Recipe = field(default_factory=Recipe)
    rounds: int = 10
    tune: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        whole(self.seeds, "seeds", 1)
        whole(self.rounds, "rounds", 1)
        names = [method.name for method in self.methods]
        if not names or len(set(names)) < len(names):
            raise StructmatError(f"methods {names}: there must be some, and none twice")


def torus(width: int, *, repeat: int = 4) -> Network:
    """Draw the network of a torus: wires on a grid as square as can be, each with 4 neighbours.

    Colouring the edges gives the stages: in each, every wire turns with one neighbour. This is
    the example of a network drawn by hand; any undirected graph does.

    Examples
    --------
    >>> torus(384)          # the torus of 16 × 24, around which the signal goes four times
    Network(width=384, depth=16, parameters=3072)
    """
    rows = max(side for side in range(1, int(width**0.5) + 1) if width % side == 0)
    grid = nx.grid_graph((rows, width // rows), periodic=True)
    return from_graph(nx.convert_node_labels_to_integers(grid, ordering="sorted"), repeat=repeat)


def ruler_prefix(width: int, *, stages: int = 15) -> Network:
    """Take the first stages of the ruler on the largest power of two that divides the width.

    Fifteen stages make every rotation of sixteen neighbours, as OFT with blocks of 16 does, out
    of 2×2 switches.

    Raises
    ------
    WidthError
        For an odd width.

    Examples
    --------
    >>> ruler_prefix(384)   # 384 = 3·128: three side by side
    Network(width=384, depth=15, parameters=2880)
    """
    power = width & -width
    return reduce(Network.beside, [ruler(power)[:stages]] * (width // power))


ROTATION_RATE = 3e-3  # for topologies that were not in the search

METHODS: tuple[Method, ...] = (
    Method("head", "head only", "head", 3e-2),
    Method("lora", "LoRA r=4 (PEFT)", "lora", 1e-2),
    Method("peft-oft", "OFT b=16 (PEFT)", "oft", 3e-3),
    Method("oft", "OFT b=16", "rotation", 3e-3, "block_diagonal(block=16)"),
    Method("boft", "BOFT(2, 8)", "rotation", 1e-2, "butterfly(block=8, depth=2)"),
    Method("dense-boft", "dense BOFT", "rotation", 1e-3, "butterfly(block=6)"),
    Method("shuffle", "shuffle", "rotation", 3e-3, "shuffle(block=4)"),
    Method("mixed-radix", "mixed radix", "rotation", 1e-2, "mixed_radix(largest=4)"),
    Method("random", "random", "rotation", 3e-3, "random(block=8, depth=2, rng=0)"),
    Method("torus", "torus, drawn by hand", "rotation", 3e-3, torus),
)

# Not in the search and the table of `--full`. The rates are those of the study on docstrings.
MORE: tuple[Method, ...] = (
    Method("dora", "DoRA r=3, 4 (PEFT)", "dora", 1e-2),
    Method("hra", "HRA r=8 (PEFT)", "hra", 1e-2),
    Method("ruler", "ruler, first 15 stages", "rotation", 3e-3, ruler_prefix),
)

BY_NAME: Mapping[str, Method] = {method.name: method for method in METHODS + MORE}

STORY = ("head", "lora", "oft", "boft", "shuffle", "torus")  # the default table
FEW = ("head", "lora", "boft")  # --quick


def named(name: str) -> Method:
    """Return the method of this name.

    Raises
    ------
    SpecError
        When there is none.

    Examples
    --------
    >>> named("boft").topology
    'butterfly(block=8, depth=2)'
    """
    try:
        return BY_NAME[name]
    except KeyError:
        raise SpecError(f"no method {name!r}{suggest(name, BY_NAME)}") from None


def rotation(spec: str) -> Method:
    """Return the method that rotates by the networks of a spec or by the network of a file.

    Examples
    --------
    >>> rotation("monarch").label
    'monarch'
    """
    found = rule(spec)
    if isinstance(found, Fixed):
        return Method(_slug(found.source), found.source, "rotation", ROTATION_RATE, found)
    spec = str(found)
    for method in METHODS:
        if method.topology == spec:
            return method
    return Method(_slug(spec), spec, "rotation", ROTATION_RATE, spec)


def with_rates(methods: tuple[Method, ...], rates: Mapping[str, float]) -> tuple[Method, ...]:
    """Return the methods with the learning rates of those that `rates` names replaced."""
    return tuple(replace(method, rate=rates.get(method.name, method.rate)) for method in methods)


def trainable(model: Any) -> int:
    """Return how many parameters training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _head_only(_: Method, classifier: Classifier) -> Any:
    for name, parameter in classifier.model.named_parameters():
        parameter.requires_grad = name.startswith(tuple(f"{part}." for part in classifier.head))
    return classifier.model


def _rotation(method: Method, classifier: Classifier) -> Any:
    return _adapters().adapt(
        classifier.model,
        method.topology,
        target_modules=list(classifier.targets),
        trainable=list(classifier.head),
    )


def _lora(_: Method, classifier: Classifier) -> Any:
    peft = require("peft", "finetune")
    config = peft.LoraConfig(r=4, lora_alpha=4, **_peft_options(classifier))
    return peft.get_peft_model(classifier.model, config)


def _dora(_: Method, classifier: Classifier) -> Any:
    # Magnitudes come on top of the matrices. Each layer has the rank with which it trains nearly
    # as much as by LoRA of rank 4: 4 or 3, and of two as near the smaller.
    peft = require("peft", "finetune")
    options = _peft_options(classifier)
    ranks = {name: _dora_rank(classifier.model.get_submodule(name)) for name in classifier.targets}
    config = peft.LoraConfig(
        r=4,
        lora_alpha=4,
        use_dora=True,
        rank_pattern=ranks,
        alpha_pattern=ranks,
        **options,
    )
    return peft.get_peft_model(classifier.model, config)


def _dora_rank(layer: Any) -> int:
    linear = require("torch", "finetune").nn.Linear
    shape = layer.weight.shape
    outputs = shape[0 if isinstance(layer, linear) else 1]
    return math.ceil(4 - outputs / sum(shape) - 0.5)


def _hra(_: Method, classifier: Classifier) -> Any:
    # As many reflections as LoRA of rank 4 has numbers for each input of a square layer.
    peft = require("peft", "finetune")
    config = peft.HRAConfig(r=8, **_peft_options(classifier))
    return peft.get_peft_model(classifier.model, config)


def _oft(_: Method, classifier: Classifier) -> Any:
    # The exact Cayley transform, as structmat's; PEFT's default is a truncated Neumann series.
    peft = require("peft", "finetune")
    config = peft.OFTConfig(
        oft_block_size=16, use_cayley_neumann=False, **_peft_options(classifier)
    )
    return peft.get_peft_model(classifier.model, config)


def _peft_options(classifier: Classifier) -> dict[str, Any]:
    return {
        "target_modules": list(classifier.targets),
        "modules_to_save": list(classifier.head),
        "task_type": "SEQ_CLS",
    }


_PREPARE: Mapping[str, Callable[[Method, Classifier], Any]] = {
    "head": _head_only,
    "lora": _lora,
    "dora": _dora,
    "hra": _hra,
    "oft": _oft,
    "rotation": _rotation,
}

# The attribute that holds the numbers of PEFT's rotations.
_TRAINED: Mapping[str, str] = {"oft": "oft_R", "hra": "hra_u"}


def _orthogonality_error(matrix: Any) -> float:
    exact = matrix.detach().double()
    gram = exact.T @ exact
    gram.diagonal().sub_(1.0)
    return float(gram.abs().max())


def _slug(spec: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in spec).split())


def _adapters() -> Any:
    return require("structmat.adapters", "adapters")
