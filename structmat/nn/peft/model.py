"""The tuner: what PEFT calls to put adapters of rotations into a model and take them out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from peft.tuners.tuners_utils import (
    BaseTuner,
    BaseTunerLayer,
    _ExcludedModule,
    _maybe_include_all_linear_layers,
    check_target_module_exists,
)
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from structmat.errors import StructmatError, require
from structmat.nn.adapters import Stack
from structmat.nn.adapters.quantised import settings_of
from structmat.nn.peft import combining, experts, loading
from structmat.nn.peft.config import StructmatConfig
from structmat.nn.peft.experts import StructmatExperts
from structmat.nn.peft.layer import StructmatLayer, StructmatLinear
from structmat.nn.peft.names import PREFIX
from structmat.nn.peft.planning import LayerPlan, check_shared, planned
from structmat.nn.peft.running import BASE
from structmat.nn.peft.undoing import Before
from structmat.nn.selecting import ALL_LINEAR
from structmat.nn.sharing import names_of_layers, untie

# Parents that look at the dtype of a weight, and call the layer: no need to rotate it for that.
_ONLY_LOOKS = re.compile(r".*(DenseActDense|DenseGatedActDense|GatedActDense)")


class StructmatModel(BaseTuner):
    """A model with adapters of rotations in it, made by `peft.get_peft_model`.

    Everything that can go wrong is found out first: when a topology does not take a layer's
    width, or a saved adapter does not fit, the model is as it was.

    Parameters
    ----------
    model : nn.Module
    peft_config : StructmatConfig, or a dict of them by adapter
    adapter_name : str

    Raises
    ------
    WidthError, StructmatError, FileError
        As `structmat.nn.peft.planning.planned` says.

    Examples
    --------
    >>> import peft
    >>> from structmat.nn.peft import StructmatConfig
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
    target_module_mapping = {}  # noqa: RUF012 (no names by architecture: None is "all-linear")

    _plans: dict[str, LayerPlan] = {}  # noqa: RUF012 (each model has its own)
    _names: Mapping[str, list[str]] = {}  # by each name of a layer, all of them
    _stacks: Mapping[str, Stack] = {}
    _before: Mapping[str, Before] = {}

    # Putting in -----------------------------------------------------------------------------

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,  # noqa: FBT001, FBT002 (PEFT's signature)
        low_cpu_mem_usage: bool = False,  # noqa: FBT001, FBT002
        state_dict: dict[str, Tensor] | None = None,
    ) -> None:
        """Adapt the targeted layers, all of them or none."""
        config: Any = self.peft_config[adapter_name]
        kept = config.target_modules, dict(config.networks)
        before = Before(model)
        try:
            _check_name(model, adapter_name)
            self._names = {name: names for names in names_of_layers(model) for name in names}
            layers = self._targets(model, config, state_dict)
            self._stacks = experts.chosen(model, config, _layer_index)
            self._plans = planned(config, {**layers, **self._stacks})
            check_shared(model, config, layers)
            super().inject_adapter(
                model,
                adapter_name,
                autocast_adapter_dtype=autocast_adapter_dtype,
                low_cpu_mem_usage=low_cpu_mem_usage,
                state_dict=state_dict,
            )
        except BaseException:
            before.restore(model, adapter_name)
            self.peft_config.pop(adapter_name, None)
            config.target_modules, config.networks = kept
            raise
        if config._from_file:  # until its weights are found to fit
            self._before = {**self._before, adapter_name: before}

    def _inject_parameters(
        self,
        peft_config: Any,
        model: nn.Module,
        adapter_name: str,
        low_cpu_mem_usage: bool,  # noqa: FBT001 (PEFT's signature)
    ) -> list[str]:
        """Adapt the stacked weights of experts that were found before."""
        empty = require("accelerate", "peft").init_empty_weights
        with empty() if low_cpu_mem_usage else nullcontext():
            for name, stack in self._stacks.items():
                layer = experts.put(model, name, stack)
                layer.update_layer(adapter_name, self._plans[name], peft_config)
                if adapter_name not in self.active_adapters:
                    layer.requires_grad_(False)  # noqa: FBT003 (torch's signature)
        return list(self._stacks)

    def _targets(
        self, model: nn.Module, config: StructmatConfig, state: Mapping[str, Tensor] | None
    ) -> dict[str, nn.Module]:
        """Return the layers to adapt by name, those under adapters already without them."""
        self._prepare_adapter_config(config, self.get_model_config(model))
        _maybe_include_all_linear_layers(config, model)
        wrappers = [n for n, m in model.named_modules() if isinstance(m, AuxiliaryTrainingWrapper)]
        inside = tuple(f"{name}." for name in wrappers)  # copies of modules that are trained whole
        if isinstance(config.target_modules, set):
            config.target_modules = {n for n in config.target_modules if not n.startswith(inside)}
        saved = None
        if state is not None:
            cut = [key.rsplit(f".{PREFIX}", 1)[0].removeprefix("_orig_mod.") for key in state]
            saved = set(cut)
        found: dict[str, nn.Module] = {}
        for name, module in model.named_modules():
            names = self._names[name]
            if not name or name.startswith(inside) or name != names[0]:
                continue
            if isinstance(module, BaseTunerLayer):
                inside = (*inside, f"{name}.")
            wanted = (
                self._check_target_module_exists(config, name)
                if saved is None
                else any(other.removeprefix("_orig_mod.") in saved for other in names)
            )
            if wanted:
                base = module.base_layer if isinstance(module, StructmatLayer) else module
                found[name.removeprefix("_orig_mod.") if saved else name] = base
        return found

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:  # noqa: ARG002 (PEFT's signature)
        if peft_config.target_modules is None:
            peft_config.target_modules = set() if peft_config.target_parameters else ALL_LINEAR
        return peft_config

    def _check_target_module_exists(self, config: Any, key: str) -> Any:
        """Return whether a layer is targeted by one of its names, and excluded by none."""
        found = [_is_targeted(config, name) for name in self._names.get(key, [key])]
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
        # A layer of several names is met under each of them, and adapted once.
        names = self._names.get(current_key, [current_key])
        plan = self._plans.pop(names[0], None)
        if plan is None:  # done, or inside a module that is trained whole
            return
        if isinstance(target, StructmatLayer):
            target.update_layer(adapter_name, plan, peft_config)
            return
        made = StructmatLinear if plan.kind.calls_base else StructmatLayer
        layer = made(target, plan.kind)
        layer.weight_is_read = _ONLY_LOOKS.fullmatch(type(parent).__name__) is None
        layer.requantise = settings_of(self.model)
        layer.train(target.training)
        layer.update_layer(adapter_name, plan, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)  # noqa: FBT003 (torch's signature)
        alike = [self.model.get_submodule(name) for name in names[1:] if name in self._names]
        self._replace_module(parent, target_name, layer, target)
        for module in alike:
            self._replace_everywhere(module, layer)

    def _replace_module(self, parent: Any, child_name: str, new_module: Any, child: Any) -> None:
        """Replace a layer wherever it stands: models share some under several names."""
        if isinstance(child, StructmatExperts):  # PEFT would give its weight to the plain ones
            setattr(parent, child_name, new_module)
        else:
            super()._replace_module(parent, child_name, new_module, child)
        self._replace_everywhere(child, new_module)

    def _replace_everywhere(self, old: nn.Module, new: nn.Module) -> None:
        for module in self.model.modules():
            for name, other in module._modules.items():
                if other is old and module is not new:
                    module._modules[name] = new

    # Taking out -----------------------------------------------------------------------------

    def merge_adapter(
        self,
        adapter_names: list[str] | None = None,
        safe_merge: bool = False,  # noqa: FBT001, FBT002 (PEFT's signature)
    ) -> None:
        """Merge adapters into all layers, or into none where a number is not finite."""
        self._check_finite(adapter_names)
        super().merge_adapter(adapter_names=adapter_names, safe_merge=safe_merge)

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,  # noqa: FBT001, FBT002 (PEFT's signature)
        progressbar: bool = False,  # noqa: FBT001, FBT002
        safe_merge: bool = False,  # noqa: FBT001, FBT002
        adapter_names: list[str] | None = None,
    ) -> Any:
        if merge:
            self._check_finite(adapter_names)
        else:
            for layer in self.adapted().values():
                if layer.merged:
                    layer.unmerge()
        plain = super()._unload_and_optionally_merge(
            merge=merge,
            progressbar=progressbar,
            safe_merge=safe_merge,
            adapter_names=adapter_names,
        )
        untie(plain)
        return plain

    def _check_finite(self, names: Sequence[str] | None) -> None:
        for place, layer in self.adapted().items():
            for name in layer.active_adapters if names is None else names:
                parts = [g for turn in layer.turns(name) for g in turn.generators]
                if name in layer.structmat_scale:
                    parts.append(layer.structmat_scale[name])
                if not all(g.is_meta or bool(torch.isfinite(g).all()) for g in parts):
                    raise StructmatError(
                        f"{place}: NaNs detected in the merged weights. The adapter {name} seems"
                        " to be broken: it diverged in training; lower the learning rate"
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
        """Add an adapter that lies between others: each block the geodesic mean of theirs.

        Parameters
        ----------
        adapters : sequence of str
            With the same networks. A layer that one of them leaves alone counts as the identity.
        weights : sequence of float
            At least 0. For weights that sum to one it is the mean; the sum is the power to which
            the mean is taken, so that one adapter of weight w is that adapter scaled by w.
        adapter_name : str
            Of the new adapter; it is not made active.
        combination_type : {"geodesic"}

        Raises
        ------
        StructmatError
            For unknown names, a name that is there, other networks, and rotations half a turn
            apart. The model is unchanged.

        Notes
        -----
        Factors of outputs are averaged: 1 + Σ wᵢ (sᵢ − 1). See `structmat.nn.powers.mean`.
        """
        if combination_type != "geodesic":
            raise StructmatError(
                f"combination_type={combination_type!r}: rotations have geodesic means only, for"
                " sums and concatenations are not orthogonal; take 'geodesic'"
            )
        combining.add_weighted(self, list(adapters), list(weights), adapter_name)

    # Saving and loading ---------------------------------------------------------------------

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        """Return the name of a saved tensor: PEFT knows adapters of one level only."""
        mark = rf"(\.{PREFIX}[a-z]+)\.{re.escape(adapter_name)}(?=\.|$)"
        if re.search(mark, key):
            return re.sub(mark, r"\1", key)
        return str(super()._remove_adapter_name_from_key(key, adapter_name))

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the tensors by their names in the model, when all of them fit."""
        renamed = super()._remap_adapter_state_dict_for_load(
            model=model, config=config, adapter_name=adapter_name, state_dict=state_dict
        )
        tuner = getattr(model, "base_model", None)
        mine = tuner if isinstance(tuner, cls) else None
        # PEFT knows a layer of several names by the first of them only.
        places = {
            cls._remove_adapter_name_from_key(key, adapter_name): key
            for key in loading.names_of(model.state_dict(), adapter_name)
        }
        places |= {f"base_model.model.{short}": key for short, key in places.items()}
        renamed = {places.get(name, name): value for name, value in renamed.items()}
        return loading.checked(model, renamed, adapter_name, mine)

    # Batches of several adapters ------------------------------------------------------------

    @contextmanager
    def _enable_peft_forward_hooks(self, *_: Any, **kwargs: Any) -> Iterator[None]:
        names = kwargs.pop("adapter_names", None)
        if names is None:
            yield
            return
        self._check_mixed(names)
        beams = kwargs.get("num_beams") or 1
        repeated = [name for name in names for _ in range(beams)]

        def choose(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            # An encoder sees each sample once, a decoder once for each beam.
            rows = len(args[0]) if args else len(repeated)
            kwargs["adapter_names"] = names if rows == len(names) else repeated
            return args, kwargs

        chosen = (StructmatLayer, AuxiliaryTrainingWrapper)
        hooks = [
            module.register_forward_pre_hook(choose, with_kwargs=True)
            for module in self.modules()
            if isinstance(module, chosen)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _check_mixed(self, names: Sequence[str]) -> None:
        if self.training:
            raise StructmatError(
                "Cannot pass `adapter_names` when the model is in training mode: call eval() first"
            )
        unknown = sorted(set(names) - set(self.peft_config) - {BASE})
        if unknown:
            raise StructmatError(
                f"Trying to infer with non-existing adapter(s): {', '.join(unknown)}; there are"
                f" {', '.join(self.peft_config)}"
            )
        for name, module in self.model.named_modules():
            if isinstance(module, StructmatExperts):
                raise StructmatError(
                    f"adapter_names: the experts {name} see the tokens of all samples at once, so"
                    " they cannot take another adapter for each; run the adapters one after the"
                    " other"
                )
            reads = isinstance(module, nn.MultiheadAttention | nn.TransformerEncoderLayer)
            if reads and any(isinstance(m, StructmatLayer) for m in module.children()):
                raise StructmatError(
                    f"adapter_names: {name} reads the weight of its layers instead of calling"
                    " them, so it cannot take another one for each sample; run the adapters one"
                    " after the other"
                )


def _is_targeted(config: Any, key: str) -> Any:
    """Return whether a name is targeted; PEFT heeds `layers_to_transform` in lists only."""
    plain = SimpleNamespace(
        target_modules=config.target_modules,
        exclude_modules=config.exclude_modules,
        modules_to_save=config.modules_to_save,
        target_parameters=None,
    )
    found = check_target_module_exists(plain, key)
    wanted = config.layers_to_transform
    if not found or wanted is None or wanted == []:
        return found
    return _layer_index(key, config.layers_pattern) in (
        [wanted] if isinstance(wanted, int) else list(wanted)
    )


def _check_name(model: nn.Module, adapter: str) -> None:
    """Refuse names by which PEFT would take other tensors for the adapter's when it saves."""
    parts: set[str] = set()
    inside: tuple[str, ...] = ()  # what adapters put there is named after them, and no matter
    for name, module in model.named_modules():
        if not name.startswith(inside):
            parts.update(name.split("."))
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            inside = (*inside, f"{name}.")
    if adapter in parts or adapter == "generators" or adapter.isdigit():
        raise StructmatError(
            f"adapter {adapter!r}: a part of the model, or of what is saved, has this name, which"
            " PEFT would confuse; choose another one"
        )


def _layer_index(name: str, patterns: str | Sequence[str] | None) -> int | None:
    """Return the index of a layer: the number after a pattern, or the first one in its name.

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
