"""Mixed batches, in which each sample has its own adapter, and the matching of rows to samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from structmat.errors import StructmatError, suggest
from structmat.peft.layer import BASE, StructmatExperts, StructmatLayer


@contextmanager
def mixed(tuner: Any, names: Sequence[str], settings: dict[str, Any]) -> Iterator[None]:
    """Apply a separate adapter to each sample of a batch within a `with` statement.

    Layers receive the samples as rows of the first axis: one row for each or, in beam search, one
    for each beam. A model may also flatten this axis and the token axis into one; the rows of a
    sample are then consecutive.

    Parameters
    ----------
    tuner : StructmatModel
    names : sequence of str
        The adapter for each sample; "__base__" means none.
    settings : dict
        The keyword arguments with which the model is called.

    Raises
    ------
    StructmatError
        If a name is unknown, the model is in training mode, or a layer cannot treat samples
        separately.
    """
    _check(tuner, names)
    rows = _Rows(names, _copies(tuner.model, settings))
    wanted = StructmatLayer | AuxiliaryTrainingWrapper
    inner = [(name, m) for name, m in tuner.model.named_modules() if isinstance(m, wanted)]
    outer = [
        module
        for place, module in tuner.model.named_modules()
        if not isinstance(module, wanted)
        and any(name.startswith(f"{place}." if place else "") for name, _ in inner)
    ]
    with ExitStack() as hooks:
        for module in outer:
            before = module.register_forward_pre_hook(rows.enter, with_kwargs=True)
            after = module.register_forward_hook(rows.leave, always_call=True)
            hooks.callback(before.remove)
            hooks.callback(after.remove)
        for name, module in inner:
            selected = module.register_forward_pre_hook(rows.chooser(name), with_kwargs=True)
            hooks.callback(selected.remove)
        yield


class _Rows:
    """The assignment of a layer's input rows to samples, by the input shapes of enclosing modules.

    `calls` contains the input shapes of each running module, the innermost last.
    """

    def __init__(self, names: Sequence[str], copies: set[int]) -> None:
        self.names = list(names)
        self.batches = {len(names) * count for count in copies}
        self.calls: list[list[tuple[int, ...]]] = []

    def enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        self.calls.append([tuple(value.shape) for value in given if value.ndim > 1])

    def leave(self, *_: Any) -> None:
        self.calls.pop()

    def chooser(self, layer: str) -> Any:
        def choose(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            x: Tensor = args[0] if args else next(iter(kwargs.values()))
            return args, {**kwargs, "adapter_names": self.of(layer, x)}

        return choose

    def of(self, layer: str, x: Tensor) -> list[str]:
        """Return the adapter of each row of a layer's inputs."""
        known = [shapes for shapes in self.calls if shapes]
        if known and not any(shape[0] in self.batches for shape in known[0]):
            raise StructmatError(
                "Length of `adapter_names` should be the same as the number of inputs, but got"
                f" {len(self.names)} and {known[0][0][0]}: give one for each sample, {BASE!r} for"
                " no adapter"
            )
        around = known[-1][0] if known else tuple(x.shape)
        rows = len(x)
        if rows in self.batches:
            return self._repeated(rows, 1)
        if around[0] in self.batches and rows == 1:  # shared by all samples, such as positions
            return self._repeated(around[0], 1)
        if around[0] in self.batches and x.ndim == 2 and rows == around[0] * around[1]:
            return self._repeated(around[0], around[1])
        raise StructmatError(
            f"adapter_names: {layer} is called with {rows} rows for {len(self.names)} samples: the"
            " model has rearranged its activations, so rows cannot be assigned to samples. Remove"
            " this layer from target_modules, or run the adapters one after the other"
        )

    def _repeated(self, rows: int, tokens: int) -> list[str]:
        copies = rows // len(self.names) * tokens
        return [name for name in self.names for _ in range(copies)]


def _copies(model: nn.Module, settings: dict[str, Any]) -> set[int]:
    """Return how often a sample may occur in a batch: once, or several times in generation."""
    configs = settings.get("generation_config"), getattr(model, "generation_config", None)
    found = {1}
    for option in ("num_beams", "num_return_sequences"):
        values = [settings.get(option), *(getattr(config, option, None) for config in configs)]
        found.add(next((int(value) for value in values if value), 1))
    return found


def _check(tuner: Any, names: Sequence[str]) -> None:
    if tuner.training:
        raise StructmatError(
            "Cannot pass `adapter_names` when the model is in training mode: call eval() first"
        )
    unknown = sorted(map(str, set(names) - set(tuner.peft_config) - {BASE}))
    if unknown:
        raise StructmatError(
            f"Trying to infer with non-existing adapter(s): {', '.join(unknown)}"
            f"{suggest(unknown[0], tuner.peft_config)}"
        )
    for name, module in tuner.model.named_modules():
        if isinstance(module, StructmatExperts):
            raise StructmatError(
                f"adapter_names: the experts {name} see the tokens of all samples at once, so"
                " they cannot use a different adapter for each sample; run the adapters one after"
                " the other"
            )
        reads = isinstance(module, nn.MultiheadAttention | nn.TransformerEncoderLayer)
        if reads and any(isinstance(m, StructmatLayer) for m in module.children()):
            raise StructmatError(
                f"adapter_names: {name} reads the weights of its layers instead of calling them,"
                " so it cannot use a different adapter for each sample; run the adapters one after"
                " the other"
            )
