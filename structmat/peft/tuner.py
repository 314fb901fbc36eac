"""The tuner, which PEFT calls to add structmat adapters to a model and to remove them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

from peft.tuners.tuners_utils import (
    BaseTuner,
    BaseTunerLayer,
    _ExcludedModule,
    _maybe_include_all_linear_layers,
    check_target_module_exists,
)
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from structmat._util.text_table import listed
from structmat.adapters.adapted_layer import PREFIX, all_or_none
from structmat.adapters.distributed import (
    check_whole,
    is_torch_wrapper,
    plain_name,
    renewed,
    unwrapped,
)
from structmat.adapters.layouts import LinearLayout, Stack, layout_for
from structmat.adapters.layouts.quantised import settings_of
from structmat.adapters.model import replaced
from structmat.adapters.recipes import Recipe
from structmat.adapters.retying import guard_ties
from structmat.adapters.selection import ALL_LINEAR
from structmat.adapters.shared_weights import names_of_layers, untie
from structmat.errors import StructmatError, require, suggest
from structmat.nn.torch_internals import own_modules
from structmat.peft import combination, compatibility, stacked_experts
from structmat.peft.base_models import take_fingerprints
from structmat.peft.config import StructmatConfig
from structmat.peft.layer import StructmatExperts, StructmatLayer, StructmatLinear
from structmat.peft.mixed_batches import mixed
from structmat.peft.names import check_name, heads
from structmat.peft.planned_networks import check_shared, planned
from structmat.peft.rollback import Before, remember
from structmat.peft.unmatched import numbers_unmatched, unmatched, warn

# Parents that read only the dtype of the weight and then call the layer need no rotated weight.
_ONLY_LOOKS = re.compile(r".*(DenseActDense|DenseGatedActDense|GatedActDense)")


class StructmatModel(BaseTuner):
    """A model with structmat adapters, as created by `peft.get_peft_model`.

    Everything is checked before the model is modified: if a topology does not support the width of
    a layer, or a saved adapter does not fit, the model is unchanged.

    Parameters
    ----------
    model : nn.Module
    peft_config : StructmatConfig, or a dict of them by adapter
    adapter_name : str

    Raises
    ------
    WidthError, StructmatError, FileError
        As for `structmat.peft.planned_networks.planned`.

    Examples
    --------
    >>> import peft
    >>> from structmat.peft import StructmatConfig
    >>> base = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    >>> config = StructmatConfig(topology="butterfly(block=4, depth=2)", target_modules=["0", "2"])
    >>> model = peft.get_peft_model(base, config)
    >>> model.print_trainable_parameters()
    trainable params: 72 || all params: 267 || trainable%: 26.9663
    default: butterfly(block=4, depth=2) and cayley blocks on 2 layers || 72 params as the BOFT \
paper counts (free angles, scales, biases) || 192 as PEFT's BOFT would store them (full blocks)
    """

    prefix = PREFIX
    tuner_layer_cls = StructmatLayer
    target_module_mapping = {}  # noqa: RUF012 (no defaults by architecture: None is "all-linear")

    _recipes: dict[str, Recipe] = {}  # noqa: RUF012 (each model has its own)
    _names: Mapping[str, list[str]] = {}  # maps each name of a layer to all of its names
    _stacks: Mapping[str, Stack] = {}

    # Adding adapters ------------------------------------------------------------------------

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,  # noqa: FBT001, FBT002 (PEFT's signature)
        low_cpu_mem_usage: bool = False,  # noqa: FBT001, FBT002
        state_dict: dict[str, Tensor] | None = None,
    ) -> None:
        """Adapt all targeted layers or, if any of them fails, none."""
        config: Any = self.peft_config[adapter_name]
        before = Before(model, self.peft_config, adapter_name)
        every = model.named_modules(remove_duplicate=False)
        names = [plain_name(name) for name, _ in every]
        try:
            check_name(model, adapter_name)
            self._names = {name: names for names in names_of_layers(model) for name in names}
            said = [] if config._from_file else unmatched(config, names, heads(config))
            if not config._from_file:
                said += numbers_unmatched(config, names, _layer_index)
            layers = self._targets(model, config, state_dict)
            self._stacks = stacked_experts.selected(model, config, _layer_index)
            _check_kept(config, [*layers, *self._stacks])
            self._recipes = planned(config, {**layers, **self._stacks})
            check_shared(model, config, layers)
            super().inject_adapter(
                model,
                adapter_name,
                autocast_adapter_dtype=autocast_adapter_dtype,
                low_cpu_mem_usage=low_cpu_mem_usage,
                state_dict=state_dict,
            )
            guard_ties(model, StructmatLayer)
            if not config.fingerprints:  # those of a file are compared after loading
                take_fingerprints(model, config, adapter_name)
            warn(said)
        except BaseException:
            before.restore()
            raise
        remember(before)

    def _inject_parameters(
        self,
        peft_config: Any,
        model: nn.Module,
        adapter_name: str,
        low_cpu_mem_usage: bool,  # noqa: FBT001 (PEFT's signature)
    ) -> list[str]:
        """Adapt the stacked expert weights in `_stacks`."""
        empty = require("accelerate", "peft").init_empty_weights
        with empty() if low_cpu_mem_usage else nullcontext():
            for name, stack in self._stacks.items():
                layer = stacked_experts.put(model, name, stack)
                layer.update_layer(adapter_name, self._recipes[name], peft_config)
                if adapter_name not in self.active_adapters:
                    layer.requires_grad_(False)  # noqa: FBT003 (torch's signature)
        return list(self._stacks)

    def _targets(
        self, model: nn.Module, config: StructmatConfig, state: Mapping[str, Tensor] | None
    ) -> dict[str, nn.Module]:
        """Return the layers to adapt by name, without the wrappers of existing adapters."""
        self._prepare_adapter_config(config, self.get_model_config(model))
        every = {name: plain_name(name) for name, _ in model.named_modules()}
        wrappers = [n for n, m in model.named_modules() if isinstance(m, AuxiliaryTrainingWrapper)]
        inside = tuple(f"{name}." for name in wrappers)  # copies of modules trained in full
        targets = config.target_modules
        if isinstance(targets, str) and targets.lower() == ALL_LINEAR:
            _maybe_include_all_linear_layers(config, unwrapped(model))
            config.target_modules = {
                name
                for name in map(plain_name, config.target_modules)
                if not _in_one_of(name, (*heads(config), *(config.modules_to_save or ())))
            }
        if isinstance(config.target_modules, set):
            copies = tuple(map(plain_name, inside))
            config.target_modules = {n for n in config.target_modules if not n.startswith(copies)}
        saved = None
        if state is not None:
            saved = {plain_name(key.rsplit(f".{PREFIX}", 1)[0]) for key in state}
        found: dict[str, nn.Module] = {}
        for name, module in model.named_modules():
            names, plain = self._names[name], every[name]
            if not name or name.startswith(inside) or name != names[0] or is_torch_wrapper(module):
                continue
            if isinstance(module, BaseTunerLayer):
                inside = (*inside, f"{name}.")
            wanted = (
                self._check_target_module_exists(config, name)
                if saved is None
                else any(plain_name(other) in saved for other in names)
            )
            if wanted:
                found[plain] = module.base_layer if isinstance(module, StructmatLayer) else module
        return found

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:  # noqa: ARG002 (PEFT's signature)
        if peft_config.target_modules is None:
            peft_config.target_modules = set() if peft_config.target_parameters else ALL_LINEAR
        return peft_config

    def _check_target_module_exists(self, config: Any, key: str) -> Any:  # type: ignore[override]
        """Return whether one of a layer's names is targeted and none is excluded."""
        found = [_is_targeted(config, plain_name(name)) for name in self._names.get(key, [key])]
        excluded = [result for result in found if isinstance(result, _ExcludedModule)]
        return (excluded or [result for result in found if result] or found)[0]

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,  # noqa: ARG002 (PEFT's signature)
    ) -> None:
        if is_torch_wrapper(target):
            return
        # A layer with several names is visited under each of them, but adapted only once.
        names = self._names.get(current_key, [current_key])
        recipe = self._recipes.pop(plain_name(names[0]), None)
        if recipe is None:  # already adapted, or inside a module that is trained in full
            return
        if isinstance(target, StructmatLayer):
            target.update_layer(adapter_name, recipe, peft_config)
            return
        layout = layout_for(target, recipe.field)
        assert layout is not None, current_key  # checked by `planned`
        made = StructmatLinear if issubclass(layout, LinearLayout) else StructmatLayer
        layer = made(target, layout)
        layer.weight_is_read = _ONLY_LOOKS.fullmatch(type(parent).__name__) is None
        layer.requantise = settings_of(self.model)
        layer.update_layer(adapter_name, recipe, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)  # noqa: FBT003 (torch's signature)
        alike = [self.model.get_submodule(name) for name in names[1:] if name in self._names]
        self._replace_module(parent, target_name, layer, target)
        replaced(self.model, {id(module): layer for module in alike})

    def _replace_module(self, parent: Any, child_name: str, new_module: Any, child: Any) -> None:
        """Replace a layer under all of its names."""
        if is_torch_wrapper(child):  # the wrapper of torch.compile stays
            parent, child_name = child, next(iter(own_modules(child)))
            child = getattr(child, child_name)
        if isinstance(child, StructmatExperts):  # PEFT would assign its weight to the new module
            setattr(parent, child_name, new_module)
        else:
            super()._replace_module(parent, child_name, new_module, child)
        renewed(parent)
        replaced(self.model, {id(child): new_module})

    # Merging and removing adapters ----------------------------------------------------------

    def merge_adapter(
        self,
        adapter_names: list[str] | None = None,
        safe_merge: bool = False,  # noqa: FBT001, FBT002 (PEFT's signature)
    ) -> None:
        """Merge adapters into all layers, or into none if any of them fails.

        Raises
        ------
        StructmatError
            If there is no such adapter, the model is sharded, or a merged weight is not finite.
        """
        self._check_known(adapter_names)
        check_whole(self.model, "merge")
        with all_or_none(self.adapted(), adapter_names):
            super().merge_adapter(adapter_names=adapter_names, safe_merge=safe_merge)

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,  # noqa: FBT001, FBT002 (PEFT's signature)
        progressbar: bool = False,  # noqa: FBT001, FBT002
        safe_merge: bool = False,  # noqa: FBT001, FBT002
        adapter_names: list[str] | None = None,
    ) -> Any:
        if merge:
            self._check_known(adapter_names)
            check_whole(self.model, "merge")
        layers = self.adapted()
        with all_or_none(layers if merge else {}, adapter_names):
            for layer in layers.values():
                if not merge:
                    layer.restore()
                elif layer.disable_adapters:  # so that the layer contains the merged weight
                    layer.enable_adapters(enabled=True)
            tuner: Any = super()
            plain = tuner._unload_and_optionally_merge(
                merge=merge,
                progressbar=progressbar,
                safe_merge=safe_merge,
                adapter_names=adapter_names,
            )
        untie(plain)
        guard_ties(plain)
        return plain

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:  # noqa: FBT001, FBT002 (PEFT's signature)
        """Make existing adapters active.

        Raises
        ------
        StructmatError
            If there is no such adapter.
        """
        self._check_known([adapter_name] if isinstance(adapter_name, str) else adapter_name)
        super().set_adapter(adapter_name, inference_mode=inference_mode)

    def set_requires_grad(
        self,
        adapter_names: str | Sequence[str],
        requires_grad: bool = True,  # noqa: FBT001, FBT002 (PEFT's signature)
    ) -> None:
        """Freeze or unfreeze existing adapters.

        Raises
        ------
        StructmatError
            If there is no such adapter.
        """
        self._check_known([adapter_names] if isinstance(adapter_names, str) else adapter_names)
        super().set_requires_grad(adapter_names, requires_grad)

    def _check_known(self, names: Sequence[str] | None) -> None:
        if isinstance(names, str):  # PEFT itself raises an error: it must be a list
            return
        unknown = next((name for name in names or () if name not in self.peft_config), None)
        if unknown is not None:
            raise StructmatError(
                f"adapter {unknown!r}: no such adapter{suggest(unknown, self.peft_config)}"
            )

    def adapted(self) -> dict[str, StructmatLayer]:
        """Return the layers with adapters, by name."""
        return {n: m for n, m in self.model.named_modules() if isinstance(m, StructmatLayer)}

    # Combining ------------------------------------------------------------------------------

    def add_weighted_adapter(
        self,
        adapters: Sequence[str],
        weights: Sequence[float],
        adapter_name: str,
        combination_type: str = "geodesic",
    ) -> None:
        """Add an adapter whose blocks are weighted geodesic means of the blocks of other adapters.

        Parameters
        ----------
        adapters : sequence of str
            Adapters with the same networks. An adapter counts as the identity in layers that it
            does not rotate.
        weights : sequence of float
            If the weights are positive and sum to one, the result is the mean. In general, each
            block with a negative weight is inverted, and the mean for the weights |w| is raised to
            the power Σ|w|; a single adapter with weight w, for example, becomes that adapter scaled
            by w. Inverting each block inverts the whole rotation only if the stages commute, for
            example if there is only one. If the blocks commute, the result is the product of their
            powers w; if all weights are 0, it is the identity.
        adapter_name : str
            The name of the new adapter, which remains inactive.
        combination_type : {"geodesic"}

        Raises
        ------
        StructmatError
            If an argument is invalid, the new name is taken, an adapter has `modules_to_save`,
            networks differ, or blocks differ by a rotation by π. The model is unchanged.

        Notes
        -----
        Output scales are combined linearly, to 1 + Σ wᵢ (sᵢ − 1). See
        `structmat.nn.parametrizations.powers.mean`.
        """
        if combination_type != "geodesic":
            raise StructmatError(
                f"combination_type={combination_type!r}: only geodesic means of rotations are"
                " orthogonal; sums and concatenations are not; use 'geodesic'"
            )
        combination.add_weighted(self, list(adapters), list(weights), adapter_name)

    # Saving and loading ---------------------------------------------------------------------

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        """Return a tensor's name in files; PEFT expects the adapter's name second to last."""
        key = plain_name(key)
        mark = rf"(\.{PREFIX}[a-z]+)\.{re.escape(adapter_name)}(?=\.|$)"
        if re.search(mark, key):
            return re.sub(mark, r"\1", key)
        return str(super()._remove_adapter_name_from_key(key, adapter_name))

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the tensors by their names in the model, after checking that they fit."""
        renamed = super()._remap_adapter_state_dict_for_load(
            model=model,
            config=config,
            adapter_name=adapter_name,
            state_dict={plain_name(name): value for name, value in state_dict.items()},
        )
        own = {plain_name(name): name for name in model.state_dict()}
        # PEFT finds a layer with several names only under the first of them.
        places = {
            plain_name(cls._remove_adapter_name_from_key(key, adapter_name)): key
            for key in compatibility.names_of(model, adapter_name)
        }
        places |= {f"base_model.model.{short}": key for short, key in places.items()}
        places |= own
        renamed = {places.get(name, name): value for name, value in renamed.items()}
        # PEFT does not pass on the option to ignore tensors of mismatched shapes.
        frame = inspect.currentframe()
        caller = {} if frame is None or frame.f_back is None else frame.f_back.f_locals
        take = (
            compatibility.fitting
            if caller.get("ignore_mismatched_sizes")
            else compatibility.checked
        )
        found = take(model, renamed, adapter_name)
        saved = {name: cls._remove_adapter_name_from_key(name, adapter_name) for name in found}
        compatibility.name_offloaded(model, saved, adapter_name)
        return found

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: Any,
        adapter_name: str,
        state_dict: dict[str, Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, Tensor]:
        """Return the tensors to save; embedding weights, which PEFT adds, are saved unmerged.

        PEFT saves the configuration after the tensors, so this also renews its fingerprints.
        """
        take_fingerprints(model, config, adapter_name)
        for name, module in model.named_modules():
            key = f"{name}.base_layer.weight"
            merged = isinstance(module, StructmatLayer) and module.merged
            if merged and not module.quantised and key in state_dict:
                state_dict[key] = module.own.detach()
        return super()._get_adapter_state_dict(
            model, config, adapter_name, state_dict, unwanted_adapter_names
        )

    # Mixed batches --------------------------------------------------------------------------

    @contextmanager
    def _enable_peft_forward_hooks(self, *_: Any, **kwargs: Any) -> Iterator[None]:
        names = kwargs.pop("adapter_names", None)
        with nullcontext() if names is None else mixed(self, names, kwargs):
            yield


def _is_targeted(config: Any, name: str) -> Any:
    """Return whether a name is targeted; PEFT applies `layers_to_transform` to lists only."""
    targets = config.target_modules
    plain = SimpleNamespace(
        target_modules={*map(plain_name, targets)} if isinstance(targets, set) else targets,
        exclude_modules=config.exclude_modules,
        modules_to_save=[*(config.modules_to_save or ()), *heads(config)],
        target_parameters=None,
    )
    found = check_target_module_exists(plain, name)
    if not found or not config.layer_numbers:
        return found
    return _layer_index(name, config.layers_pattern) in config.layer_numbers


def _check_kept(config: StructmatConfig, names: Sequence[str]) -> None:
    """Check that no layer is both adapted and trained in full; PEFT matches the ends of names."""
    kept = tuple(config.modules_to_save or ())
    if both := [name for name in names if name.endswith(kept)]:
        raise StructmatError(
            f"{listed(both)}: modules_to_save={list(kept)} names layers that are adapted; remove"
            " them there, or exclude them by exclude_modules"
        )


def _in_one_of(name: str, wanted: Sequence[str]) -> bool:
    """Return whether PEFT, matching name suffixes, trains this or an enclosing module in full."""
    parts = name.split(".")
    around = [".".join(parts[: k + 1]) for k in range(len(parts))]
    return any(place.endswith(end) for place in around for end in wanted)


def _layer_index(name: str, patterns: str | Sequence[str] | None) -> int | None:
    """Return the index of a layer: the number after a pattern, or the first number in its name.

    Examples
    --------
    >>> _layer_index("h.3.attn.0", None), _layer_index("0.layers.3.attn", "layers")
    (3, 3)
    """
    given = [patterns] if isinstance(patterns, str) else list(patterns or ())
    starts = [rf"(?:^|.*?\.)(?:{pattern})\." for pattern in given] or [r"(?:^|.*?\.)"]
    for start in starts:
        match = re.match(rf"{start}(\d+)(?:\.|$)", name)
        if match:
            return int(match[1])
    return None
