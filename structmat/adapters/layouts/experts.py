"""Mixtures of experts, whose stacked weights are treated as layers.

transformers stores the linear layers of all experts in one parameter, (experts, out, in), or
(experts, in, out) if `is_transposed` is set. Each expert has its own rotation.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from structmat.adapters.layouts.base import Layout
from structmat.adapters.layouts.requirements import Layer
from structmat.nn.torch_internals import own_parameters

NAMES = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")
# Expert classes without the attribute `is_transposed`.
TRANSPOSED = {"Llama4TextExperts": True, "Step3p7Experts": False}


class Stack:
    """A view of a stacked expert weight as a layer, which stores nothing itself.

    Parameters
    ----------
    owner : nn.Module
        The experts module.
    part : str
        The name of the parameter.
    transposed : bool
        Whether its shape is (experts, in, out).
    """

    def __init__(self, owner: nn.Module, part: str, *, transposed: bool) -> None:
        self.owner = owner
        self.part = part
        self.transposed = transposed

    @property
    def weight(self) -> nn.Parameter:
        """The parameter."""
        weight: nn.Parameter = getattr(self.owner, self.part)
        return weight

    @weight.setter
    def weight(self, weight: nn.Parameter) -> None:
        setattr(self.owner, self.part, weight)

    @property
    def bias(self) -> nn.Parameter | None:
        """The biases of the experts, (experts, out), if any."""
        bias: nn.Parameter | None = getattr(self.owner, f"{self.part}_bias", None)
        return bias

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The numbers of experts, outputs and inputs."""
        experts, outputs, inputs = self.weight.shape
        return (experts, inputs, outputs) if self.transposed else (experts, outputs, inputs)

    def __getattr__(self, name: str) -> Any:
        if name == "owner" or name.startswith("__"):  # looked up before a copy has its attributes
            raise AttributeError(name)
        return getattr(self.owner, name)


def stacks_of(module: nn.Module) -> dict[str, Stack]:
    """Return the stacked weights of a module by parameter name; most modules have none."""
    own = module.__dict__.get("is_transposed", TRANSPOSED.get(type(module).__name__))
    if not isinstance(own, bool):
        return {}
    return {
        name: Stack(module, name, transposed=own)
        for name in NAMES
        if (weight := own_parameters(module).get(name)) is not None and weight.ndim == 3
    }


class StackLayout(Layout):
    """The layout of the stacked weight of all experts, with a copy of the network for each.

    The scale has a factor for each output of each expert. The experts run with the whole weight.
    """

    layer_classes = (f"{Stack.__module__}.{Stack.__qualname__}",)

    @classmethod
    def copies(cls, base: Layer) -> int:
        """Return the number of experts."""
        return int(base.sizes[0])

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return the total number of inputs of all experts."""
        experts, _, inputs = base.sizes
        return int(experts * inputs)

    @classmethod
    def output_width(cls, base: Layer) -> int:
        """Return the total number of outputs of all experts."""
        experts, outputs, _ = base.sizes
        return int(experts * outputs)

    @classmethod
    def features(cls, base: Layer) -> tuple[int, int]:
        """Return the numbers of inputs and outputs of one expert."""
        _, outputs, inputs = base.sizes
        return int(inputs), int(outputs)

    @classmethod
    def neurons(cls, base: Layer, weight: Tensor) -> Tensor:
        """Return the weight as (experts, out, in)."""
        return weight.mT if base.transposed else weight

    @classmethod
    def from_neurons(cls, base: Layer, neurons: Tensor) -> Tensor:
        """Return the weight in its original layout."""
        return neurons.mT if base.transposed else neurons

    @classmethod
    def rows(cls, base: Layer, neurons: Tensor) -> Tensor:  # noqa: ARG003
        """Return rows that each concatenate one neuron per expert: (out, experts·in)."""
        return neurons.transpose(0, 1).flatten(1)

    @classmethod
    def from_rows(cls, base: Layer, rows: Tensor) -> Tensor:
        """Return the neurons of each expert."""
        return rows.unflatten(1, (base.sizes[0], -1)).transpose(0, 1)

    @classmethod
    def by_outputs(cls, base: Layer, neurons: Tensor) -> Tensor:  # noqa: ARG003
        """Return the concatenated outputs of all experts: (in, experts·out)."""
        return neurons.flatten(0, 1).mT

    @classmethod
    def from_outputs(cls, base: Layer, outputs: Tensor) -> Tensor:
        """Return the neurons of each expert."""
        return outputs.mT.unflatten(0, (base.sizes[0], -1))
