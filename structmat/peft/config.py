"""The configuration of a structmat adapter for PEFT, and its JSON representation."""

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
from structmat.adapters.layouts import checked_field, checked_side
from structmat.errors import (
    FileError,
    StructmatError,
    UnknownFamilyError,
    abbreviated,
    checked_choice,
    require,
)
from structmat.families import Rule, parse
from structmat.families.registry import IF_YOURS
from structmat.families.resolution import is_graph, is_path, network
from structmat.networks.network import Network
from structmat.nn.orthogonal_layer import PLANS, checked_dropout, checked_scaling
from structmat.nn.parametrizations import checked_parametrization
from structmat.peft import config_checks as checks
from structmat.peft.names import StructmatType
from structmat.search.choice.ranking import DEFAULT

# Version 2 added the factors of the generators. PEFT ignores unknown fields, so readers that know
# only version 1 would otherwise ignore the factors and obtain other rotations.
SCHEMA = 2
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
BIASES = ("none", "all", "structmat_only")


@dataclass
class StructmatConfig(PeftConfig):
    """The configuration of an adapter whose layers are rotated by a network.

    Parameters
    ----------
    topology : str, path, Family, Network or networkx graph
        The network for each layer: a spec string such as "butterfly(block=8, depth=2)" or
        "butterfly * 2", a family or composition or, if all layers have its width, a network, a
        graph or a file with one of them. The default, "mixing_network(block=16)", is what
        `structmat.choose` recommends for most widths.
    topology_pattern : dict from regular expression to topology
        Other networks for some layers. A pattern must match the whole name, or the name without
        some leading parts; the first match applies.
    parametrization : str
        The parametrization of the blocks: "cayley", "exp", "givens", "householder" or
        "cayley_neumann", as for `structmat.nn.Orthogonal`.
    side : {"inputs", "outputs", "both"}
        Whether to rotate the neurons, W·Rᵀ (as OFT and BOFT do), the outputs, R·W (as LyCORIS
        does), or both, each with its own network.
    scale : bool
        Whether to train a scale factor for each output.
    bias : {"none", "all", "structmat_only"}
        The biases to train and save: none, all, or those of adapted layers.
    dropout : (float, float)
        Multiplicative dropout, as for `structmat.nn.Orthogonal`.
    reduced : bool
        Whether to omit redundant generators, as for `structmat.nn.Orthogonal`.
    plan : {"auto", "measure", "reference"}
        The execution plan, as for `structmat.nn.Orthogonal`.
    field : {"receptive", "channels"}
        What to rotate in a convolution, as for `structmat.adapters.adapt`.
    generator_scaling : {"step", "sgd", "none"} or float
        The factor by which the trained tensors are multiplied, as for `structmat.nn.Orthogonal`.
    init_weights : bool
        True starts from the pretrained model. False draws small random rotations, for tests.
    target_modules, exclude_modules : str or list of str
        The layers to adapt or exclude, as in every PEFT method: a regular expression that matches
        the whole name, a list of name suffixes, or "all-linear", which is the default unless
        target_parameters are given.
    target_parameters : list of str, optional
        Stacked expert weights to rotate, by suffixes of their parameter names, such as
        ["experts.gate_up_proj", "experts.down_proj"].
    layers_to_transform : int or list of int, optional
        The indices of layers in the model's list of layers. If given, all targets are restricted to
        these layers.
    layers_pattern : str or list of str, optional
        The name of that list, such as "layers"; by default, the first number in a layer's name is
        its index.
    modules_to_save : list of str, optional
        Modules to train in full and save with the adapter.
    networks : dict, optional
        The fingerprint of each network by topology and width, set when layers are adapted. Loading
        fails if a topology no longer yields the same network.
    generator_scales : dict, optional
        The factor of each network for `generator_scaling="step"` or "sgd", by fingerprint, set when
        layers are adapted. A later version of structmat that computes other factors uses these when
        it loads the adapter.
    fingerprints : dict, optional
        A fingerprint of each layer's base weight, set when layers are adapted and when the adapter
        is saved. Loading warns if the model's weights differ.
    schema : int
        The version of this format. Version 1 has no `generator_scaling`, which means "none".

    Raises
    ------
    StructmatError
        For an unregistered topology or any other invalid value; regular expressions are checked
        when layers are adapted.
    FileError
        If the configuration has a newer schema version.

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

    topology: Any = DEFAULT
    topology_pattern: Any = dataclasses.field(default_factory=dict)
    parametrization: str = "cayley"
    side: str = "inputs"
    scale: bool = False
    bias: str = "none"
    dropout: Any = (0.0, 0.0)
    reduced: bool = False
    plan: str = "auto"
    field: str = "receptive"
    generator_scaling: Any = "step"
    init_weights: bool = True
    target_modules: Any = None
    exclude_modules: Any = None
    target_parameters: Any = None
    layers_to_transform: Any = None
    layers_pattern: Any = None
    modules_to_save: Any = None
    networks: Any = None
    generator_scales: Any = None
    fingerprints: Any = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.schema) is not int or not 1 <= self.schema <= SCHEMA:
            raise FileError(
                f"the adapter has schema version {self.schema!r}, but this version of structmat"
                f" reads versions 1 to {SCHEMA}; upgrade structmat or save the adapter again"
            )
        if self.schema == 1:
            self.generator_scaling, self.schema = "none", SCHEMA
        self.generator_scaling = checked_scaling(self.generator_scaling)
        self.generator_scales = checks.recorded_factors(self.generator_scales)
        self.peft_type = StructmatType.STRUCTMAT
        self.topology = _kept(self.topology)
        pairs = checks.checked_patterns(self.topology_pattern)
        self.topology_pattern = {pattern: _kept(value) for pattern, value in pairs.items()}
        self.parametrization = checked_parametrization(self.parametrization)
        self.field = checked_field(self.field)
        self.side = checked_side(self.side)
        self.bias = checked_choice(self.bias, "bias", BIASES)
        self.plan = checked_choice(self.plan, "plan", PLANS)
        for name in ("scale", "reduced", "init_weights"):
            checks.checked_bool(name, getattr(self, name))
        self.dropout = checked_dropout(self.dropout)
        self.target_modules = _targets(checks.checked_names("target_modules", self.target_modules))
        self.exclude_modules = _targets(
            checks.checked_names("exclude_modules", self.exclude_modules)
        )
        stacks = checks.checked_names("target_parameters", self.target_parameters, pattern=False)
        self.target_parameters = sorted(set(stacks or ())) or None
        self.modules_to_save = checks.checked_names(
            "modules_to_save", self.modules_to_save, pattern=False
        )
        self.layers_to_transform = checks.checked_layer_numbers(self.layers_to_transform)
        self.layers_pattern = checks.checked_names("layers_pattern", self.layers_pattern)
        if self.layers_pattern and self.layers_to_transform is None:
            raise StructmatError(
                "layers_pattern needs layers_to_transform: also give the indices of the layers"
            )
        self.networks = checks.recorded_networks(self.networks)
        self.fingerprints = checks.recorded_fingerprints(self.fingerprints)

    def to_dict(self) -> dict[str, Any]:
        """Return the content that `save_pretrained` writes, with lists instead of tuples and sets.

        Patterns are saved as pairs, because their order matters.

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
        """Read the configuration in a directory, after checking the weight file next to it.

        Raises
        ------
        FileError
            If the weight file or the configuration is damaged or has another schema version.
        UnknownFamilyError
            If a topology uses a family that is not registered in this process.
        """
        folder = Path(os.fspath(pretrained_model_name_or_path), subfolder or "")
        _check_whole(folder / WEIGHTS)
        if (folder / CONFIG).is_file():
            parse_json(read_bytes(folder / CONFIG), folder / CONFIG, "; save the adapter again")
        try:
            config: StructmatConfig = super().from_pretrained(
                pretrained_model_name_or_path, subfolder=subfolder, **kwargs
            )
        except UnknownFamilyError as error:  # drops the suggestion: the name is not misspelt
            known = str(error).partition(";")[0]
            raise UnknownFamilyError(f"{folder}: {known} as in this adapter; {IF_YOURS}") from None
        config._from_file = True
        return config

    @property
    def layer_numbers(self) -> list[int]:
        """The indices of the layers to adapt; empty for all layers."""
        numbers = self.layers_to_transform
        return [numbers] if isinstance(numbers, int) else list(numbers or ())

    _from_file = False  # not a field: whether weights will be loaded next


def topology_of(kept: str | dict[str, Any]) -> str | Network:
    """Return the topology stored in a configuration, as accepted by `structmat.adapters.adapt`."""
    return kept if isinstance(kept, str) else Network.from_json(json.dumps(kept))


def _kept(topology: Any) -> str | dict[str, Any]:
    """Return a topology in a form that JSON can store: a spec string, or the whole network."""
    if isinstance(topology, Network):
        return dict(json.loads(topology.to_json()))
    if isinstance(topology, Mapping):
        Network.from_json(json.dumps(dict(topology)))
        return dict(topology)
    if isinstance(topology, Rule):
        topology = str(topology)
    if isinstance(topology, os.PathLike) or (isinstance(topology, str) and is_path(topology)):
        return _kept(network(topology))  # whole, because its file may not exist on loading
    if is_graph(topology):
        return _kept(network(topology))
    if not isinstance(topology, str):
        raise StructmatError(
            f"topology={abbreviated(topology)}: it must be a spec string, a Family, a Network, a"
            " networkx graph or a file; a function cannot be saved, so register it with"
            " structmat.family"
        )
    parse(topology)
    return topology


def _as_json(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value


def _targets(names: Any) -> Any:
    """Return names in PEFT's representation: a string, None, or a set."""
    return names if names is None or isinstance(names, str) else set(names)


def _check_whole(path: Path) -> None:
    if not path.is_file():
        return
    safetensors = require("safetensors", "peft")
    try:
        with safetensors.safe_open(path, framework="pt"):
            pass
    except Exception as error:  # safetensors has its own exception type, defined in Rust
        raise FileError(
            f"{path} is truncated or not a safetensors file ({error}): copy or save the adapter"
            " again; no model was changed"
        ) from None
