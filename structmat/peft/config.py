"""What a PEFT adapter of rotations is: every choice, as JSON keeps it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft.config import PeftConfig

from structmat._util.files import parse_json, read_bytes
from structmat.adapters.layouts import checked_field
from structmat.errors import FileError, StructmatError, UnknownFamilyError, require, suggest
from structmat.families import Family, parse
from structmat.families.registry import IF_YOURS
from structmat.families.topology import is_path, network
from structmat.networks.network import Network
from structmat.nn.orthogonal_layer import PLANS, checked_dropout
from structmat.nn.parametrizations import checked_kind
from structmat.peft.names import StructmatType

SCHEMA = 1
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
SIDES = ("inputs", "outputs", "both")
BIASES = ("none", "all", "structmat_only")


@dataclass
class StructmatConfig(PeftConfig):
    """The configuration of an adapter whose layers are rotated by a network.

    Parameters
    ----------
    topology : str, Family or Network
        The network of each layer: a spec string such as "butterfly(block=8, depth=2)", a family,
        or one network where all layers have its width. The default takes every width from 16 on,
        and is "shuffle(block=16)" at multiples of 16.
    topology_pattern : dict from regular expression to topology
        Other networks for some layers. A pattern matches the whole name, or the name without
        some leading parts; the first one that matches counts.
    blocks : str
        The kind of blocks: "cayley", "exp", "givens", "householder" or "cayley_neumann", as for
        `structmat.nn.Orthogonal`.
    side : {"inputs", "outputs", "both"}
        What turns: the neurons, W·Rᵀ (as OFT and BOFT do), the outputs, R·W (as LyCORIS does), or
        both, each by a network of its own.
    scale : bool
        Whether to train a factor for each output.
    bias : {"none", "all", "structmat_only"}
        Which biases of the model are trained and saved: none, all, or those of adapted layers.
    dropout : (float, float)
        Multiplicative dropout, as for `structmat.nn.Orthogonal`.
    reduced : bool
        Whether to leave out generators that neighbouring switches could trade.
    plan : {"auto", "measure", "reference"}
        How rotations run, as for `structmat.nn.Orthogonal`.
    field : {"receptive", "channels"}
        What the inputs of a convolution turn in, as for `structmat.adapters.adapt`.
    init_weights : bool
        True starts from the pretrained model. False draws small random rotations, for tests.
    target_modules, exclude_modules : str or list of str
        Which layers, as in every PEFT method: a regular expression that matches the whole name,
        a list of ends of names, or "all-linear", which is what None means here, unless there are
        target_parameters.
    target_parameters : list of str, optional
        Stacked weights of experts to rotate as well, by ends of the names of these parameters,
        such as ["experts.gate_up_proj", "experts.down_proj"].
    layers_to_transform : int or list of int, optional
        Only layers with these indices in the model's list of layers, however they are targeted.
    layers_pattern : str or list of str, optional
        The name of that list, such as "layers"; by default the first number in a name counts.
    modules_to_save : list of str, optional
        Modules to train whole and save with the adapter.
    networks : dict, optional
        Filled in when layers are adapted: the fingerprint of each network by topology and width.
        An adapter is not loaded where its topology has come to mean another network.
    schema : int
        The version of this format.

    Raises
    ------
    StructmatError
        For a topology that is not registered, a pattern that is no regular expression, and any
        other value that is none of the above.
    FileError
        For the configuration of a newer structmat.

    Examples
    --------
    >>> config = StructmatConfig(topology="butterfly(block=4, depth=2)", target_modules=["query"])
    >>> config.peft_type.value, config.side
    ('STRUCTMAT', 'inputs')
    >>> StructmatConfig(topology="buterfly")
    Traceback (most recent call last):
    ...
    structmat.errors.UnknownFamilyError: no family 'buterfly'; did you mean butterfly?
    """

    topology: Any = "deal(block=16)"
    topology_pattern: Any = dataclasses.field(default_factory=dict)
    blocks: str = "cayley"
    side: str = "inputs"
    scale: bool = False
    bias: str = "none"
    dropout: Any = (0.0, 0.0)
    reduced: bool = False
    plan: str = "auto"
    field: str = "receptive"
    init_weights: bool = True
    target_modules: Any = None
    exclude_modules: Any = None
    target_parameters: Any = None
    layers_to_transform: Any = None
    layers_pattern: Any = None
    modules_to_save: Any = None
    networks: Any = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schema != SCHEMA:
            raise FileError(
                f"an adapter of schema {self.schema!r}: this structmat reads schema {SCHEMA};"
                " upgrade structmat or save the adapter anew"
            )
        self.peft_type = StructmatType.STRUCTMAT
        self.topology = _kept(self.topology)
        pairs = self.topology_pattern or {}
        pairs = pairs.items() if isinstance(pairs, Mapping) else pairs
        self.topology_pattern = {str(pattern): _kept(value) for pattern, value in pairs}
        self.blocks = checked_kind(self.blocks)
        self.field = checked_field(self.field)
        _check_choice("side", self.side, SIDES)
        _check_choice("bias", self.bias, BIASES)
        _check_choice("plan", self.plan, PLANS)
        for name in ("scale", "reduced", "init_weights"):
            if not isinstance(getattr(self, name), bool):
                raise StructmatError(f"{name}={getattr(self, name)!r}: it must be True or False")
        self.dropout = checked_dropout(self.dropout)
        self.target_modules = _targets(self.target_modules)
        self.exclude_modules = _targets(self.exclude_modules)
        if isinstance(self.target_parameters, str):
            raise StructmatError(
                f"target_parameters={self.target_parameters!r}: it must be a list of names, as in"
                f" other methods of PEFT: [{self.target_parameters!r}]"
            )
        self.target_parameters = sorted(set(self.target_parameters or ())) or None
        if self.layers_pattern and self.layers_to_transform is None:
            raise StructmatError(
                "layers_pattern without layers_to_transform: give the indices of the layers, too"
            )
        self.networks = dict(self.networks or {})

    def to_dict(self) -> dict[str, Any]:
        """Return what `save_pretrained` writes, as it is read back: tuples and sets are lists.

        Patterns are saved as pairs, since their order matters.

        Examples
        --------
        >>> StructmatConfig(topology_pattern={"up": "monarch"}).to_dict()["topology_pattern"]
        [['up', 'monarch']]
        """
        made: dict[str, Any] = super().to_dict()
        made["topology_pattern"] = [list(pair) for pair in self.topology_pattern.items()]
        return {key: _as_json(value) for key, value in made.items()}

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str,
        subfolder: str | None = None,
        **kwargs: Any,
    ) -> StructmatConfig:
        """Return the configuration in a directory, having looked at the weights beside it.

        Raises
        ------
        FileError
            When the weights or the configuration are there, but cut off; no model was touched.
        UnknownFamilyError
            When a topology is of a family that is not registered in this process.
        """
        folder = Path(os.fspath(pretrained_model_name_or_path), subfolder or "")
        _check_whole(folder / WEIGHTS)
        if (folder / CONFIG).is_file():
            parse_json(read_bytes(folder / CONFIG), folder / CONFIG, ": save the adapter anew")
        try:
            config: StructmatConfig = super().from_pretrained(
                pretrained_model_name_or_path, subfolder=subfolder, **kwargs
            )
        except UnknownFamilyError as error:  # a near name is no help: this one is right elsewhere
            known = str(error).partition(";")[0]
            raise UnknownFamilyError(f"{folder}: {known} as in this adapter; {IF_YOURS}") from None
        config._from_file = True
        return config

    _from_file = False  # no field: whether weights are to be loaded next


def topology_of(kept: str | dict[str, Any]) -> str | Network:
    """Return the topology that a configuration keeps, as `structmat.adapters.adapt` takes it."""
    return kept if isinstance(kept, str) else Network.from_json(json.dumps(kept))


def _kept(topology: Any) -> str | dict[str, Any]:
    """Return a topology as JSON keeps it: a spec string, or a network in full."""
    if isinstance(topology, Network):
        return dict(json.loads(topology.to_json()))
    if isinstance(topology, Mapping):
        Network.from_json(json.dumps(dict(topology)))
        return dict(topology)
    if isinstance(topology, Family):
        topology = str(topology)
    if isinstance(topology, os.PathLike) or (isinstance(topology, str) and is_path(topology)):
        return _kept(network(topology))  # in full: the file may be gone when the adapter is loaded
    if not isinstance(topology, str):
        raise StructmatError(
            f"topology={topology!r}: it must be a spec string, a Family or a Network; a function"
            " cannot be saved, so register it with structmat.family"
        )
    parse(topology)
    return topology


def _as_json(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise StructmatError(f"{name}={value!r}: no such choice{suggest(str(value), choices)}")


def _targets(names: Any) -> Any:
    """Return names as PEFT keeps them: a string, None, or a set."""
    return names if names is None or isinstance(names, str) else set(names)


def _check_whole(path: Path) -> None:
    if not path.is_file():
        return
    safetensors = require("safetensors", "peft")
    try:
        with safetensors.safe_open(path, framework="pt"):
            pass
    except Exception as error:  # safetensors has an exception type of its own, in Rust
        raise FileError(
            f"{path} is cut or no safetensors file ({error}): copy or save the adapter anew; no"
            " model was changed"
        ) from None
