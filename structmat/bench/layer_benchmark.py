"""Benchmark of candidates on a frozen linear layer, or of the forward pass of rotations alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from structmat.bench.busy_core import busy_core
from structmat.bench.candidates import Candidate
from structmat.bench.interleaved import interleaved, relative
from structmat.bench.machine import device, synchronize
from structmat.bench.measurements import Benchmark, Row, Spread, benchmark
from structmat.bench.memory import peak
from structmat.errors import StructmatError, abbreviated, checked_integer
from structmat.nn import Orthogonal

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

ROUNDS = 3  # minimum number of rounds, for a median and quartiles


class Layer(NamedTuple):
    """The frozen weight (outputs, width) and bias that all candidates share."""

    weight: Tensor
    bias: Tensor

    def linear(self) -> nn.Linear:
        """Return a frozen layer that shares these tensors."""
        outputs, width = self.weight.shape
        layer = nn.Linear(width, outputs, device="meta")
        layer.weight = nn.Parameter(self.weight, requires_grad=False)
        layer.bias = nn.Parameter(self.bias, requires_grad=False)
        return layer


class Batch(NamedTuple):
    """Activations (tokens, width), and the gradient of the outputs, (tokens, outputs)."""

    inputs: Tensor
    gradient: Tensor


def measure(
    candidates: Sequence[Candidate],
    *,
    widths: Sequence[int] = (1024,),
    outputs: int | None = None,
    tokens: Sequence[int] = (1024,),
    dtype: str = "float32",
    seconds: float = 10.0,
    warmup: int = 1,
    alone: bool = False,
    busy: bool = False,
    command: str = "",
    notes: Sequence[str] = (),
) -> Benchmark:
    """Measure candidates on the same layer, with interleaved timing.

    A forward pass runs in evaluation mode without gradients. A training step consists of a forward
    pass, a backward pass down to the layer's inputs, as for a layer inside a model, and an SGD
    update of the trained parameters, whose gradients are then deleted. Every candidate is built
    from the same frozen layer and gets the same batch; the first rounds are discarded as a warm-up.

    Parameters
    ----------
    candidates : sequence of Candidate
    widths : sequence of int
        The numbers of inputs of the layer, each measured in a separate run.
    outputs : int, optional
        The number of outputs of the layer; by default the number of inputs.
    tokens : sequence of int
        The numbers of tokens in a batch, each measured in a separate run.
    dtype : {"float32", "bfloat16"}
        The dtype of the layer and the batch.
    seconds : float
        The minimum duration of each run, which has at least three rounds.
    warmup : int
        The number of warm-up rounds in each run.
    alone : bool
        Whether the candidates are rotations without the layer, from `candidates.ALONE` or
        `candidates.alone`. Then only the forward pass is timed.
    busy : bool
        Whether to measure while another program occupies one core.
    command : str
        The command that repeats the run, to be recorded.
    notes : sequence of str
        Further remarks on the results.

    Returns
    -------
    Benchmark
        The results. The row of a candidate that does not support the layer contains the reason.

    Raises
    ------
    StructmatError
        If a size or duration is invalid, or the dtype is unknown.

    Examples
    --------
    >>> from structmat.bench.candidates import named, topology
    >>> found = measure(
    ...     [named("frozen"), topology("monarch"), topology("butterfly(block=4)")],
    ...     widths=[12],
    ...     tokens=[3],
    ...     seconds=0,
    ... )
    >>> [(row.name, row.parameters) for row in found.rows]
    [('frozen', 0), ('monarch', 30), ('butterfly(block=4)', None)]
    >>> found.rows[2].refused
    'butterfly(width=12, block=4): width must be ...'
    """
    if dtype not in DTYPES:
        raise StructmatError(f"dtype={abbreviated(dtype)}: it must be one of {', '.join(DTYPES)}")
    if not 0 <= seconds < math.inf:
        raise StructmatError(f"seconds={seconds}: it must be a finite number ≥ 0")
    checked_integer(warmup, "warmup")
    shapes = [
        (
            checked_integer(width, "width", 1),
            checked_integer(width if outputs is None else outputs, "outputs", 1),
        )
        for width in widths
    ]
    counts = [checked_integer(count, "tokens", 1) for count in tokens]
    rows: list[Row] = []
    remarks = list(notes)
    with busy_core() if busy else nullcontext():
        for width, size in shapes:
            layer = frozen_layer(width, size, DTYPES[dtype])
            modules, refused = _built(candidates, layer)
            remarks += [said for c, m in modules.items() if (said := c.remark(m)) is not None]
            for count in counts:
                place: dict[str, Any] = {
                    "subject": f"rotation of {width} wires" if alone else f"{width}→{size}",
                    "tokens": count,
                }
                batch = _batch(layer, count)
                found = (_forwards if alone else _steps)(modules, batch, seconds, warmup)
                for c in candidates:
                    results = found[c] if c in found else {"refused": refused[c]}
                    rows.append(Row(**place, name=c.name, label=c.label, **results))
    return benchmark(
        rows,
        setting={
            "dtype": dtype,
            "optimizer": None if alone else "SGD",
            "seconds": seconds,
            "warmup": warmup,
            "busy": busy,
        },
        command=command,
        notes=remarks,
    )


def frozen_layer(width: int, outputs: int, dtype: torch.dtype) -> Layer:
    """Return a layer with reproducible random weights."""
    source = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, width, generator=source) / width**0.5
    bias = torch.randn(outputs, generator=source)
    return Layer(*(part.to(device(), dtype) for part in (weight, bias)))


def _built(
    candidates: Sequence[Candidate], layer: Layer
) -> tuple[dict[Candidate, nn.Module], dict[Candidate, str]]:
    modules, refused = {}, {}
    for candidate in candidates:
        try:
            modules[candidate] = candidate.build(layer.linear()).to(layer.weight.device)
        except StructmatError as error:
            refused[candidate] = str(error)
    return modules, refused


def _forwards(
    modules: dict[Candidate, nn.Module], batch: Batch, seconds: float, warmup: int
) -> dict[Candidate, dict[str, Any]]:
    """Return the results of forward passes, by candidate and field of the row."""
    tokens, dtype = len(batch.inputs), batch.inputs.dtype
    runs = {candidate: forward(module.eval(), batch) for candidate, module in modules.items()}
    times = interleaved(runs, rounds=ROUNDS, seconds=seconds, warmup=warmup)
    compared = _compared(times)
    return {
        candidate: {
            **compared[candidate],
            "parameters": _trained(module),
            "forward": Spread.of(times[candidate]),
            "plan": module.explain(tokens, dtype=dtype) if isinstance(module, Orthogonal) else None,
        }
        for candidate, module in modules.items()
    }


def _steps(
    modules: dict[Candidate, nn.Module], batch: Batch, seconds: float, warmup: int
) -> dict[Candidate, dict[str, Any]]:
    """Return the results of forward passes and training steps, by candidate and field."""
    place = batch.inputs.device.type
    # Timed separately, since weights do not change between forward passes in inference.
    forwards = _forwards(modules, batch, seconds / 3, warmup)
    runs = {c: training_step(module.train(), batch) for c, module in modules.items()}
    times = interleaved(runs, rounds=ROUNDS, seconds=2 * seconds / 3, warmup=warmup)
    compared = _compared(times)
    return {
        candidate: {
            **found,
            **compared[candidate],
            "step": Spread.of(times[candidate]),
            "memory": peak(runs[candidate], place),
        }
        for candidate, found in forwards.items()
    }


def _compared(times: dict[Candidate, list[float]]) -> dict[Candidate, dict[str, float | None]]:
    """Return the ratios of times to those of each reference, by candidate and field."""
    by_name = {candidate.name: taken for candidate, taken in times.items()}
    ratios = {name: relative(by_name, name) for name in ("copy", "frozen", "lora")}
    return {c: {f"to_{name}": of.get(c.name) for name, of in ratios.items()} for c in times}


def _trained(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _batch(layer: Layer, tokens: int) -> Batch:
    source = torch.Generator().manual_seed(1)
    outputs, width = layer.weight.shape
    drawn = (torch.randn(tokens, size, generator=source) for size in (width, outputs))
    inputs, gradient = (part.to(layer.weight) for part in drawn)
    return Batch(inputs.requires_grad_(), gradient)


def forward(module: nn.Module, batch: Batch) -> Callable[[], None]:
    """Prepare a function that runs the forward pass of a module without gradients."""

    @torch.no_grad()
    def run() -> None:
        module(batch.inputs)
        synchronize(batch.inputs.device.type)

    return run


def training_step(module: nn.Module, batch: Batch) -> Callable[[], None]:
    """Prepare a function that performs one training step of a module."""
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-6) if trained else None

    def run() -> None:
        module(batch.inputs).backward(batch.gradient)
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
        batch.inputs.grad = None
        synchronize(batch.inputs.device.type)

    return run
