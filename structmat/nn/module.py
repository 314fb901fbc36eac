"""The layer: a network whose blocks are trained."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from structmat import gauge
from structmat.blocks import generators_per_block
from structmat.errors import BlockError, StructmatError, WiringError
from structmat.network import Network
from structmat.nn import blocks as block_kinds
from structmat.nn.rotate import (
    MergedPlan,
    Plan,
    merged_blocks,
    merged_plan_for,
    plan_for,
    rotate,
)

# Multiplying stages out costs as much as one vector for each wire of a merged switch, and what
# is saved is less than the work on a vector: from this many times as many vectors on it pays.
_MANY = 4


class _Plans(NamedTuple):
    """The index arrays on one device."""

    plan: Plan
    merged: MergedPlan | None
    places: list[Tensor | None]


class Orthogonal(nn.Module):
    """A trainable orthogonal (or unitary) matrix R = B_m ⋯ B_1 with the shape of a network.

    `q(x)` is R x for each vector along the last axis. Only free parameters are stored: for each
    bank of n switches of radix r the strict upper triangles of n skew-symmetric matrices, an
    (n, r(r−1)/2) tensor, zero at the start. Then blocks are identities, and so is R for a
    straight network; a wired one starts as its wiring permutation.

    Parameters
    ----------
    network : Network
    blocks : {"cayley", "exp", "givens", "householder", "cayley_neumann"}
        How generators become blocks. Cayley reaches every rotation without eigenvalue −1, exp and
        products of plane rotations (givens) every one, and products of reflections (householder)
        almost every one. The series of five terms (cayley_neumann) is orthogonal to 2‖Q‖⁴ only:
        see `orthogonality_error`.
    dtype : torch dtype, optional
        Of the generators; by default torch's default dtype. A complex one means unitary blocks,
        with r² real generators each.
    device : torch device, optional
    dropout : (float, float)
        Multiplicative dropout of the BOFT paper: in training, each stage is picked with the
        first probability, and in a picked stage each block is replaced by the identity with the
        second. R stays orthogonal.
    reduced : bool
        Whether to leave out the generators that neighbouring switches could trade
        (`structmat.reduced`): fewer parameters, up to half. With exp blocks the matrices are the
        same ones; with Cayley blocks those near the identity are, and the dimension is. A bank
        that loses some has the others in one row.

    Raises
    ------
    WiringError, BlockError, StructmatError
        For anything but a Network, an unknown kind of blocks, a dtype that is not floating, or
        a probability outside [0, 1].

    Notes
    -----
    Blocks are computed, and the product is accumulated, in at least float32 and in at least the
    precision of x; the result has the dtype of x, made complex where the blocks are. Autocast
    does not reach inside. For many vectors, neighbouring stages are multiplied out into one
    where that saves passes over x: the same numbers, to rounding.

    Examples
    --------
    >>> import structmat as sm
    >>> q = Orthogonal(sm.butterfly(8))
    >>> q
    Orthogonal(width=8, depth=3, parameters=12, blocks='cayley')
    >>> x = torch.ones(2, 8)
    >>> torch.equal(q(x), x)
    True
    """

    _like: Tensor

    def __init__(
        self,
        network: Network,
        blocks: str = "cayley",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        dropout: tuple[float, float] = (0.0, 0.0),
        reduced: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(network, Network):
            raise WiringError(f"{network!r}: Orthogonal takes a Network, as butterfly(64) makes")
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if not (dtype.is_floating_point or dtype.is_complex):
            raise BlockError(f"dtype={dtype}: generators need a real or complex floating dtype")
        if not isinstance(reduced, bool):
            raise StructmatError(f"reduced={reduced!r}: reduced must be True or False")
        self.network = network
        self.reduced = reduced
        self.kind = block_kinds.checked_kind(blocks)
        self.dropout = checked_dropout(dropout)
        self.unitary = dtype.is_complex
        self.generators = nn.ParameterList(
            torch.zeros(shape, dtype=dtype.to_real(), device=device)
            for shape in generator_shapes(network, unitary=self.unitary, reduced=reduced)
        )
        # Holds nothing: it knows the dtype and device of a layer that has no generators.
        like = torch.empty(0, dtype=dtype.to_real(), device=device)
        self.register_buffer("_like", like, persistent=False)
        self._plans: dict[torch.device, _Plans] = {}
        self._plan(self._like.device)

    @property
    def width(self) -> int:
        """The number of wires d."""
        return self.network.width

    def forward(self, x: Tensor) -> Tensor:
        """Return R x for each vector: x (..., width) → (..., width).

        Raises
        ------
        BlockError
            When the last axis is not the width, or x is not of floating dtype.
        """
        return self._rotate(x, adjoint=False, drop=self.training)

    def adjoint(self, x: Tensor) -> Tensor:
        """Return Rᵀ x (Rᴴ x for unitary blocks) for each vector: it undoes `forward`.

        Examples
        --------
        >>> import structmat as sm
        >>> q = Orthogonal(sm.butterfly(4), dtype=torch.float64)
        >>> _ = [nn.init.normal_(g) for g in q.generators]
        >>> x = torch.ones(4, dtype=torch.float64)
        >>> torch.allclose(q.adjoint(q(x)), x)
        True
        """
        return self._rotate(x, adjoint=True, drop=self.training)

    def matrix(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return R as a (width, width) tensor, by default in the dtype blocks are computed in.

        Dropout plays no part in it.

        Examples
        --------
        >>> import structmat as sm
        >>> Orthogonal(sm.butterfly(2)).matrix().tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        dtype = self._compute_dtype(torch.float32) if dtype is None else dtype
        one = torch.eye(self.width, dtype=dtype, device=self._like.device)
        return self._rotate(one, adjoint=False, drop=False).T

    def blocks(self, dtype: torch.dtype | None = None) -> list[Tensor]:
        """Return the blocks, one (n, r, r) tensor for each bank, without dropout.

        They are what `structmat.factors`, `structmat.dense` and the like take, as arrays.
        """
        dtype = torch.float32 if dtype is None else dtype
        dtype = self._compute_dtype(dtype).to_real()
        made: list[Tensor | None] = [None] * len(self.generators)
        by_radix: dict[int, list[int]] = {}
        for k, bank in enumerate(self.network.banks):
            by_radix.setdefault(bank.radix, []).append(k)
        for radix, banks in by_radix.items():  # one batched call for each radix
            together = torch.cat([self._all_generators(k).to(dtype) for k in banks])
            parts = block_kinds.KINDS[self.kind](together, radix).split(
                [self.network.banks[k].count for k in banks]
            )
            for k, part in zip(banks, parts, strict=True):
                made[k] = part
        return [block for block in made if block is not None]

    def _all_generators(self, k: int) -> Tensor:
        """Return the (n, g) generators of a bank, with zeros for those left out."""
        values: Tensor = self.generators[k]
        places = self._plan(values.device).places[k] if self.reduced else None
        if places is None:
            return values
        bank = self.network.banks[k]
        size = generators_per_block(bank.radix, unitary=self.unitary)
        every = values.new_zeros(bank.count * size)
        return every.index_copy(0, places, values).view(-1, size)

    @torch.no_grad()
    def orthogonality_error(self) -> float:
        """Return the largest entry of |RᴴR − I|.

        Examples
        --------
        >>> import structmat as sm
        >>> Orthogonal(sm.butterfly(4)).orthogonality_error()
        0.0
        """
        r = self.matrix()
        gram = r.mH @ r
        gram.diagonal().sub_(1)
        return float(gram.abs().max())

    def _rotate(self, x: Tensor, *, adjoint: bool, drop: bool) -> Tensor:
        if x.ndim < 1 or x.shape[-1] != self.width:
            raise BlockError(
                f"x of shape {tuple(x.shape)}: its last axis must be the width {self.width}"
            )
        if not (x.is_floating_point() or x.is_complex()):
            raise BlockError(f"x of dtype {x.dtype}: it must be floating; use x.float()")
        dtype = self._compute_dtype(x.dtype)
        with _no_autocast(x.device.type):
            blocks = self.blocks(dtype)
            if drop:
                blocks = self._dropped(blocks)
            blocks = [block.to(dtype) for block in blocks]
            plan, merged, _ = self._plan(x.device)
            if merged is not None and x.numel() > _MANY * merged.widest * self.width:
                plan, blocks = merged.coarse, merged_blocks(merged, blocks)
            y = rotate(plan, blocks, x.to(dtype), adjoint=adjoint)
        return y if self.unitary and not x.is_complex() else y.to(x.dtype)

    def _dropped(self, blocks: list[Tensor]) -> list[Tensor]:
        of_stages, of_blocks = self.dropout
        if not (of_stages and of_blocks):
            return blocks
        rest = iter(blocks)
        kept = []
        for stage in self.network.stages:
            picked = torch.rand(()) < of_stages
            for _ in stage.banks:
                block = next(rest)
                drop = picked.to(block.device) & (
                    torch.rand(len(block), 1, 1, device=block.device) < of_blocks
                )
                one = torch.eye(block.shape[-1], dtype=block.dtype, device=block.device)
                kept.append(torch.where(drop, one, block))
        return kept

    def _compute_dtype(self, dtype: torch.dtype) -> torch.dtype:
        dtype = block_kinds.at_least_float32(torch.promote_types(dtype, self._like.dtype))
        return torch.promote_types(dtype, torch.complex64) if self.unitary else dtype

    def _plan(self, device: torch.device) -> _Plans:
        if device not in self._plans:
            with torch.inference_mode(mode=False):  # kept for later calls, which may train
                self._plans[device] = _Plans(
                    plan_for(self.network, device),
                    merged_plan_for(self.network, device),
                    self._places(device) if self.reduced else [],
                )
        return self._plans[device]

    def _places(self, device: torch.device) -> list[Tensor | None]:
        """Return, by bank, where the row of kept generators goes; None where all are kept."""
        return [
            None if kept.all() else torch.as_tensor(np.flatnonzero(kept), device=device)
            for kept in _kept(self.network, unitary=self.unitary)
        ]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's signature)
        super()._apply(fn, recurse)
        self._plans.clear()  # index arrays are made anew from the network, never moved
        self._plan(self._like.device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_plans": {}}

    def extra_repr(self) -> str:
        """Return what torch prints between the parentheses."""
        dropout = f", dropout={self.dropout}" if any(self.dropout) else ""
        dropout += ", reduced=True" if self.reduced else ""
        return (
            f"width={self.width}, depth={self.network.depth},"
            f" parameters={sum(g.numel() for g in self.generators)}, blocks={self.kind!r}{dropout}"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def _no_autocast(device_type: str) -> AbstractContextManager[object]:
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()  # the meta device has none


@lru_cache(maxsize=64)  # a model has many layers of a few widths
def _kept(net: Network, *, unitary: bool) -> tuple[npt.NDArray[np.bool_], ...]:
    return gauge.reduced(net, unitary=unitary).kept


def generator_shapes(
    net: Network, *, unitary: bool = False, reduced: bool = False
) -> list[tuple[int, ...]]:
    """Return the shape of the generators of each bank: (n, g), or a row where some are left out.

    Examples
    --------
    >>> generator_shapes(Network.of(5, [[[0, 1, 2], [3, 4]]]))
    [(1, 3), (1, 1)]
    >>> generator_shapes(Network.of(4, [[[0, 1, 3]], [[0, 1, 2]]]), reduced=True)
    [(1, 3), (2,)]
    """
    if reduced:
        return [k.shape if k.all() else (int(k.sum()),) for k in _kept(net, unitary=unitary)]
    return [(bank.count, generators_per_block(bank.radix, unitary=unitary)) for bank in net.banks]


def checked_dropout(dropout: tuple[float, float]) -> tuple[float, float]:
    """Return the two probabilities of multiplicative dropout as floats.

    Raises
    ------
    StructmatError
        When they are not two numbers in [0, 1].
    """
    try:
        stages, blocks = (float(p) for p in dropout)
    except (TypeError, ValueError):
        stages, blocks = -1.0, -1.0
    if not (0 <= stages <= 1 and 0 <= blocks <= 1):
        raise StructmatError(
            f"dropout={dropout!r}: it must be two probabilities in [0, 1], of picking a stage and"
            " of dropping each block in it, such as (0.1, 0.5)"
        )
    return stages, blocks
