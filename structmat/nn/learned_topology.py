"""Learned topologies: soft permutations between the stages, trained and then hardened.

Stage t of a straight network with blocks of b is Bₜ = I + SᵀDS, where S is a permutation matrix of
the wires and D is block diagonal, with the blocks minus the identity. In training S is a doubly
stochastic matrix, the Sinkhorn normalisation of exp(logits/τ). As the temperature τ decreases, S
approaches a permutation; it is then replaced by the permutation with the largest sum of entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy
import torch
from torch import Tensor

from structmat._util.progress import bar
from structmat.errors import StructmatError, WidthError, abbreviated, checked_integer
from structmat.fitting import fit
from structmat.fitting.target_scaling import scaled
from structmat.linalg.blocks import Array, generators_per_block
from structmat.linalg.rotation import Rotation
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage
from structmat.nn.parametrizations import exponential
from structmat.nn.parametrizations.generators import real_dtype

Loss: TypeAlias = Callable[[Tensor], Tensor]
Target: TypeAlias = "npt.ArrayLike | Rotation | Tensor"

_DTYPES = torch.float32, torch.float64, torch.complex64, torch.complex128
_ROUNDS = 10  # normalisations of rows and columns
_TEMPERATURES = 1.0, 0.05  # at the first and at the last soft step
_NOISE = 0.5  # the initial scale of the Gumbel noise
# Adam's learning rate. Unlike those of `Orthogonal`, the generators have no factor: it would depend
# on the network, which is learned, and the blocks do not start at the identity.
_RATE = 0.1
_SPREAD = 0.1  # the standard deviation of the initial logits
_HARD = 0.25  # the share of the steps with hardened permutations


@dataclass(frozen=True, eq=False)
class LearnedTopology:
    """The result of `learn_topology`.

    Attributes
    ----------
    rotation : Rotation
        The network with its trained blocks.
    loss : float
        The loss of this rotation; for a target, the relative Frobenius error.
    losses : tuple of float
        The losses of all starts, of which the best is kept, before the final fit to a target.
    history : tuple of float
        The loss of the best start before each step, and after the last; in the last quarter of the
        steps the permutations are hardened. For a target, the losses here and in `losses` are the
        relative errors after scaling the target to norm √d, as in `Fit.scaled_error`.
    """

    rotation: Rotation
    loss: float
    losses: tuple[float, ...]
    history: tuple[float, ...] = field(repr=False)

    @property
    def network(self) -> Network:
        """The learned network."""
        return self.rotation.network


def learn_topology(
    width: int,
    target_or_loss: Target | Loss,
    *,
    depth: int,
    block: int = 2,
    starts: int = 8,
    steps: int = 400,
    straight_through: bool = False,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | int | None = None,
    progress: bool = True,
) -> LearnedTopology:
    """Learn a straight network, with its blocks, that approximates a matrix or has a small loss.

    All wires of each stage are partitioned into switches of equal radix; if the block does not
    divide the width, the remaining wires are idle. Adam trains the logits of the permutations,
    perturbed by decreasing Gumbel noise, together with the generators of exponential blocks; in the
    last quarter of the steps the permutations are hardened, and only the generators are trained.
    Several starts are trained at once, and the best result is kept. For a target, a
    `structmat.fit` then starts at its blocks.

    The problem has many local minima. Compare the result with other networks of the same size, and
    use more starts, before drawing conclusions.

    Parameters
    ----------
    width : int
        At least 2. Memory is proportional to starts × depth × width².
    target_or_loss : (width, width) array, tensor or Rotation, or function
        A real or complex matrix that R should approximate; or a function from R, a (width, width)
        tensor, to a real tensor with one element, which is minimised. With soft permutations, R is
        not exactly orthogonal, and the loss should not reward this.
    depth : int
        The number of stages, at least 1.
    block : int
        The radix of the switches, from 2 to the width.
    starts, steps : int
    straight_through : bool
        Whether the permutations are hardened in every step, and their gradients are passed on to
        the soft ones (a straight-through estimator). By default soft permutations are used.
    dtype : torch dtype, optional
        The dtype of R; complex for unitary blocks. By default that of the target, in double
        precision, and float64 for a loss.
    generator : torch.Generator or int, optional
        The source of all random numbers, on the CPU, or its seed. The same seed gives the same
        result on the same machine.
    progress : bool
        Whether to show a progress bar, on a terminal or in a notebook.

    Returns
    -------
    LearnedTopology
        With `network`, `rotation`, `loss`, `losses` and `history`.

    Raises
    ------
    WidthError
        If the width is below the block.
    StructmatError
        If the target has another shape or is not finite, the loss does not return a finite real
        number that depends on R, or an option is invalid.

    References
    ----------
    G. Mena, D. Belanger, S. Linderman, J. Snoek, Learning latent permutations with Gumbel–Sinkhorn
    networks, ICLR 2018.
    Y. Bengio, N. Léonard, A. Courville, Estimating or propagating gradients through stochastic
    neurons for conditional computation, 2013.

    Examples
    --------
    >>> import structmat as sm
    >>> hidden = sm.random(6, 2, 2, rng=0)
    >>> target = sm.Rotation(hidden, sm.random_blocks(hidden, rng=0))
    >>> found = learn_topology(6, target, depth=2, steps=100, generator=0, progress=False)
    >>> found.network
    Network(width=6, depth=2, parameters=6)
    >>> found.loss < min(sm.fit(sm.random(6, 2, 2, rng=k), target, rng=0).error for k in (1, 2, 3))
    True
    """
    wires, size = checked_integer(width, "width", 2), checked_integer(block, "block", 2)
    stages, several = checked_integer(depth, "depth", 1), checked_integer(starts, "starts", 1)
    count = checked_integer(steps, "steps", 4)
    if size > wires:
        raise WidthError(f"width={wires}: it must be at least the block, {size}")
    if not isinstance(straight_through, bool):
        raise StructmatError(
            f"straight_through={abbreviated(straight_through)}: it must be True or False"
        )
    source = _source(generator)
    target = None if _is_loss(target_or_loss) else _matrix(target_or_loss)
    kind = _checked_dtype(dtype, target)
    loss: Any = target_or_loss
    if target is not None:
        goal = torch.tensor(scaled(target, wires).matrix, dtype=kind)
        loss = partial(_squared_error, target=goal)

    field_ = "complex" if kind.is_complex else "real"
    each = several, stages, wires // size, generators_per_block(size, field=field_)
    real = real_dtype(kind)
    logits = _SPREAD * torch.randn((several, stages, wires, wires), dtype=real, generator=source)
    generators = torch.randn(each, dtype=real, generator=source)
    trained = [logits.requires_grad_(), generators.requires_grad_()]
    optimizer = torch.optim.Adam(trained, lr=_RATE)
    soft_steps = count - max(1, int(count * _HARD))
    history: list[list[float]] = []
    with bar("learn topology", count, unit="step", shown=progress) as shown:
        for step in range(count + 1):
            if step < soft_steps:
                places = _drawn(logits, step / soft_steps, source)
                if straight_through:
                    places = hardened(places, with_gradient=True)
            elif step == soft_steps:
                places = hardened(sinkhorn(logits / _TEMPERATURES[1]))
            matrices = stages_product(places, exponential(generators, size).to(kind))
            losses = torch.stack([_checked_loss(loss(r)) for r in matrices])
            history.append(losses.tolist())
            if step < count:
                optimizer.zero_grad()
                losses.sum().backward()
                optimizer.step()
                shown.update()
    last = history[-1]
    best = int(np.argmin(last))
    with torch.no_grad():
        blocks = exponential(generators[best], size).to(kind).numpy()
    rows = places[best].argmax(-1)[:, : wires // size * size].reshape(stages, -1, size)
    net = Network(wires, [Stage(wires, [Bank(stage)]) for stage in rows.numpy()])
    course = tuple(row[best] for row in history)
    if target is None:
        return LearnedTopology(Rotation(net, list(blocks)), last[best], tuple(last), course)
    found = fit(net, target.astype(blocks.dtype), start=list(blocks), progress=False)
    if found.method.endswith("interrupted"):
        raise KeyboardInterrupt
    errors = tuple(math.sqrt(one) for one in last)
    return LearnedTopology(found.rotation, found.error, errors, tuple(map(math.sqrt, course)))


def proposals(
    target_or_loss: Target | Loss, **options: Any
) -> Callable[[int, np.random.Generator, Sequence[Network]], Network]:
    """Return a function that proposes learned networks to a search.

    Parameters
    ----------
    target_or_loss, **options
        As for `learn_topology`, without the generator.

    Returns
    -------
    callable (width, rng, networks) → Network
        The function ignores the networks that the search has found. It can be pickled if the target
        or the loss can.

    Examples
    --------
    >>> propose = proposals(torch.eye(4), depth=1, steps=20, starts=1, progress=False)
    >>> propose(4, np.random.default_rng(0), [])
    Network(width=4, depth=1, parameters=2)
    """
    made = partial(_proposed, target_or_loss=target_or_loss, options=options)
    made.__name__ = "learned"  # type: ignore[attr-defined]  # the source that the search records
    return made


def _proposed(
    width: int,
    rng: np.random.Generator,
    _found: Sequence[Network] = (),
    *,
    target_or_loss: Target | Loss,
    options: dict[str, Any],
) -> Network:
    seed = int(rng.integers(2**31))
    return learn_topology(width, target_or_loss, generator=seed, **options).network


# Soft permutations -------------------------------------------------------------------------------


def sinkhorn(logits: Tensor, rounds: int = _ROUNDS) -> Tensor:
    """Return exp(logits) with its rows and columns normalised in turn to sum to 1.

    The result converges to a doubly stochastic matrix; after any number of rounds ≥ 1, the columns
    sum to 1.

    Parameters
    ----------
    logits : (..., d, d)
    rounds : int

    References
    ----------
    R. Sinkhorn, A relationship between arbitrary positive matrices and doubly stochastic matrices,
    1964.

    Examples
    --------
    >>> sinkhorn(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 20)
    tensor([[0.2689, 0.7311],
            [0.7311, 0.2689]])
    """
    for _ in range(rounds):
        logits = logits - torch.logsumexp(logits, -1, keepdim=True)
        logits = logits - torch.logsumexp(logits, -2, keepdim=True)
    return logits.exp()


def hardened(soft: Tensor, *, with_gradient: bool = False) -> Tensor:
    """Return the permutation matrices for which the sum of the selected entries is largest.

    Parameters
    ----------
    soft : (..., d, d)
        On any device; the assignment problems are solved on the CPU.
    with_gradient : bool
        Whether the gradient of the result is passed on to `soft` unchanged (the straight-through
        estimator); otherwise the result has no gradient.

    Examples
    --------
    >>> hardened(torch.tensor([[0.2, 0.8], [0.4, 0.6]]))
    tensor([[0., 1.],
            [1., 0.]])
    """
    size = soft.shape[-1]
    given = soft.detach().cpu().double().reshape(-1, size, size).numpy()
    columns = [scipy.optimize.linear_sum_assignment(one, maximize=True)[1] for one in given]
    index = torch.tensor(np.array(columns), device=soft.device).reshape(*soft.shape[:-1], 1)
    found = torch.zeros_like(soft, requires_grad=False).scatter_(-1, index, 1.0)
    return found + (soft - soft.detach()) if with_gradient else found


def stages_product(permutations: Tensor, blocks: Tensor) -> Tensor:
    """Return the product of the stages I + SᵀDS, the first of which is applied first.

    Parameters
    ----------
    permutations : (..., depth, d, d)
        Row n·b + k is place k of block n, and columns are wires. Rows beyond the blocks are
        ignored: their wires are idle.
    blocks : (..., depth, n, b, b)

    Returns
    -------
    (..., d, d), with the dtype of the blocks

    Examples
    --------
    >>> swap = torch.tensor([[[[0.0, -1.0], [1.0, 0.0]]]])
    >>> stages_product(torch.eye(3)[[2, 0, 1]][None], swap)
    tensor([[ 0.,  0.,  1.],
            [ 0.,  1.,  0.],
            [-1.,  0.,  0.]])
    """
    count, size = blocks.shape[-3], blocks.shape[-1]
    places = permutations[..., : count * size, :].unflatten(-2, (count, size)).to(blocks.dtype)
    change = blocks - torch.eye(size, dtype=blocks.dtype, device=blocks.device)
    moved = (places.mT @ change @ places).sum(-3)
    stages = moved + torch.eye(moved.shape[-1], dtype=blocks.dtype, device=blocks.device)
    product, *later = stages.unbind(-3)
    for stage in later:
        product = stage @ product
    return product


def _drawn(logits: Tensor, share: float, source: torch.Generator) -> Tensor:
    """Draw soft permutations with noise, after a share of the soft steps.

    The temperature decreases geometrically, and the Gumbel noise linearly to 0.
    """
    first, last = _TEMPERATURES
    uniform = torch.rand(logits.shape, dtype=logits.dtype, generator=source)
    noise = -torch.log(-torch.log(uniform.clamp_min(torch.finfo(uniform.dtype).tiny)))
    noisy = logits + _NOISE * (1 - share) * noise
    return sinkhorn(noisy / (first * (last / first) ** share))


# Arguments ---------------------------------------------------------------------------------------


def _is_loss(value: Any) -> bool:
    return callable(value) and not isinstance(value, Rotation | Tensor | np.ndarray)


def _matrix(target: Any) -> Array:
    """Return the target as an array; `scaled` checks it."""
    if isinstance(target, Rotation):
        target = target.matrix()
    if isinstance(target, Tensor):
        target = target.detach().cpu().resolve_conj().numpy()
    return np.asarray(target)


def _squared_error(matrix: Tensor, *, target: Tensor) -> Tensor:
    """Return ‖R − T‖²/d for ‖T‖² = d."""
    return (matrix - target).abs().square().sum() / len(target)


def _checked_loss(value: Any) -> Tensor:
    rule = "the loss must return a finite real tensor with one element that depends on R"
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise StructmatError(f"loss={abbreviated(value)}: {rule}")
    if value.is_complex() or not value.requires_grad or not value.isfinite().all():
        raise StructmatError(f"loss={abbreviated(value.detach())}: {rule}")
    return value.reshape(())


def _checked_dtype(dtype: Any, target: Array | None) -> torch.dtype:
    is_complex = target is not None and np.iscomplexobj(target)
    if dtype is None:
        return torch.complex128 if is_complex else torch.float64
    if dtype not in _DTYPES:
        raise StructmatError(
            f"dtype={abbreviated(dtype)}: it must be {', '.join(map(str, _DTYPES))}"
        )
    if is_complex and not dtype.is_complex:
        raise StructmatError(f"dtype={dtype}: the target is complex; give a complex dtype")
    kind: torch.dtype = dtype
    return kind


def _source(generator: Any) -> torch.Generator:
    """Return a generator on the CPU."""
    if isinstance(generator, torch.Generator) and generator.device.type == "cpu":
        return generator
    made = torch.Generator()
    if generator is None:
        made.seed()
        return made
    if isinstance(generator, torch.Generator):
        raise StructmatError(f"generator on {generator.device}: it must be on the CPU")
    seed = checked_integer(generator, "generator")
    if seed >= 2**64:
        raise StructmatError(f"generator={seed}: a seed must be below 2^64")
    return made.manual_seed(seed)
