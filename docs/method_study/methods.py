"""The methods of the study, with nearly equal numbers of parameters where they allow it.

A method has one value for each group of layers: attention (square), up (from the width of the
model to that of the perceptron) and down (back). With these values, the number of parameters of all
adapters of a model is within 5 % of `Task.budget`; one integer rank for all layers would often miss
it. Two
methods have fewer parameters: `RoAd`, whose largest variant has four per output, and `mixed radix`,
which `structmat.choose` lists as the next best exactly mixing topology within the budget. PEFT's
OFT and PSOFT use the exact Cayley transform instead of a Neumann series.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import peft
from torch import nn

from docs.method_study.tasks import GROUPS, Task
from structmat.adapters import adapt, merge
from structmat.finetune.models import quiet

Values = tuple[Any, Any, Any]


@dataclass(frozen=True)
class Method:
    """A method: how it adapts a model, and its values for each task.

    Parameters
    ----------
    kind : str
        "head" trains only the head; "rotation" is structmat's method; the others are PEFT's.
    values : task → (attention, up, down), optional
        Ranks, block sizes or topologies. The method is left out of tasks that are not listed.
    reduced : bool
        Whether redundant generators are left out; for rotations.
    equal : bool
        Whether the number of parameters is that of the budget.
    """

    kind: str
    values: Mapping[str, Values]
    reduced: bool = False
    equal: bool = True

    def setting(self, task: Task) -> dict[str, Any]:
        """Return the value of each group of layers."""
        return dict(zip(GROUPS, self.values[task.name], strict=True))

    def prepare(self, model: nn.Module, task: Task) -> nn.Module:
        """Return the model with adapters; their parameters and those of the head are trained."""
        with quiet():
            adapted = _PREPARE[self.kind](self, model, task)
        for name, parameter in adapted.named_parameters():
            if in_head(name, task):
                parameter.requires_grad_(requires_grad=True)
        return adapted

    def merged(self, model: nn.Module) -> nn.Module:
        """Return the model with its adapters merged; it may be changed in place."""
        if self.kind == "rotation":
            return merge(model, unload=True)
        return model if self.kind == "head" else model.merge_and_unload()


def in_head(name: str, task: Task) -> bool:
    """Return whether a parameter of an adapted model belongs to a module in the head."""
    return any(f".{module}." in f".{name}" for module in task.head)


def trained(model: nn.Module, task: Task) -> int:
    """Return the number of parameters of the adapter, without those of the head."""
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not in_head(name, task)
    )


# Preparation --------------------------------------------------------------------------------


def _head_only(method: Method, model: nn.Module, task: Task) -> nn.Module:
    del method, task
    return model.requires_grad_(requires_grad=False)


def _rotations(method: Method, model: nn.Module, task: Task) -> nn.Module:
    topologies = {
        name.replace(".", r"\."): value
        for group, value in method.setting(task).items()
        for name in task.layers[group]
    }
    return adapt(
        model,
        method.values[task.name][0],
        target_modules=[name for names in task.layers.values() for name in names],
        topology_pattern=topologies,
        reduced=method.reduced,
    )


def _by_peft(config: Callable[[Any], peft.PeftConfig]) -> Callable[..., nn.Module]:
    """Return a function that adds and activates one PEFT adapter for each distinct value."""

    def prepare(method: Method, model: nn.Module, task: Task) -> nn.Module:
        targets: dict[Any, list[str]] = {}
        for group, value in method.setting(task).items():
            targets.setdefault(value, []).extend(task.layers[group])
        adapted: Any = None
        for value, names in targets.items():
            made = config(value)
            made.target_modules = set(names)
            if adapted is None:
                adapted = peft.get_peft_model(model, made, adapter_name=f"adapter{value}")
            else:
                adapted.add_adapter(f"adapter{value}", made)
        adapted.base_model.set_adapter([f"adapter{value}" for value in targets])
        return adapted

    return prepare


_PREPARE: Mapping[str, Callable[[Method, nn.Module, Task], nn.Module]] = {
    "head": _head_only,
    "rotation": _rotations,
    "lora": _by_peft(lambda r: peft.LoraConfig(r=r, lora_alpha=2 * r)),
    "rslora": _by_peft(lambda r: peft.LoraConfig(r=r, lora_alpha=2 * r, use_rslora=True)),
    "dora": _by_peft(lambda r: peft.LoraConfig(r=r, lora_alpha=2 * r, use_dora=True)),
    "oft": _by_peft(lambda b: peft.OFTConfig(oft_block_size=b, r=0, use_cayley_neumann=False)),
    "hra": _by_peft(lambda r: peft.HRAConfig(r=r)),
    "road": _by_peft(lambda variant: peft.RoadConfig(variant=variant, group_size=32)),
    "psoft": _by_peft(lambda r: peft.PsoftConfig(r=r, psoft_alpha=r)),
    "miss": _by_peft(lambda r: peft.MissConfig(r=r)),
}


# The methods --------------------------------------------------------------------------------


def _same(digits: Values, language: Values, minilm: Values) -> dict[str, Values]:
    return {"digits": digits, "language": language, "docstrings": minilm, "errors": minilm}


def _everywhere(value: Any) -> dict[str, Values]:
    return _same((value,) * 3, (value,) * 3, (value,) * 3)


def _mixing(digits: int, language: int, minilm: int) -> dict[str, Values]:
    return _same(*((f"mixing_network(block={block})",) * 3 for block in (digits, language, minilm)))


BASELINE = "LoRA"
HEAD_ONLY = "head only"

METHODS: Mapping[str, Method] = {
    BASELINE: Method("lora", _same((4, 3, 3), (4, 3, 3), (4, 3, 4))),
    "rsLoRA": Method("rslora", _same((4, 3, 3), (4, 3, 3), (4, 3, 4))),
    "DoRA": Method("dora", _same((3, 3, 3), (3, 3, 2), (3, 3, 3))),
    "OFT": Method("oft", _everywhere(16)),
    "HRA": Method("hra", _same((8, 8, 6), (8, 8, 6), (8, 10, 6))),
    "RoAd": Method("road", _everywhere("road_4"), equal=False),
    "PSOFT": Method("psoft", _same((31,) * 3, (47,) * 3, (90,) * 3)),
    "MiSS": Method("miss", _same((7,) * 3, (6,) * 3, (7, 8, 7))),
    "BOFT(1, 16)": Method("rotation", _everywhere("block_diagonal(block=16)")),
    "BOFT(2, 8)": Method("rotation", _everywhere("butterfly(block=8, depth=2)")),
    "BOFT(3, 8), reduced": Method(
        "rotation", _everywhere("butterfly(block=8, depth=3)"), reduced=True
    ),
    # No dense butterfly of MiniLM's widths, 3·2⁷ and 3·2⁹, is within the budget.
    "BOFT, dense": Method(
        "rotation",
        {
            "digits": ("butterfly(block=8)", "butterfly(block=4)", "butterfly(block=2)"),
            "language": ("butterfly(block=4)", "butterfly(block=2)", "butterfly(block=6)"),
        },
        reduced=True,
    ),
    "shuffle": Method("rotation", _everywhere("shuffle(block=4, depth=5)")),
    "mixing network": Method("rotation", _mixing(8, 8, 6)),
    "mixed radix": Method("rotation", _everywhere("mixed_radix(largest=4)"), equal=False),
    HEAD_ONLY: Method("head", _everywhere(None), equal=False),
}


def of_task(name: str) -> tuple[str, ...]:
    """Return the methods of a task, with the baseline first."""
    return tuple(method for method, about in METHODS.items() if name in about.values)
