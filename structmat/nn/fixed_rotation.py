"""The torch module `FixedRotation`: a rotation without trainable parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from structmat.errors import BlockError, abbreviated
from structmat.linalg.refinement import refined
from structmat.linalg.rotation import Rotation
from structmat.linalg.rotators import Rotator
from structmat.linalg.shared_blocks import distinct
from structmat.nn import parametrizations, torch_internals
from structmat.nn.ops import plan_selection
from structmat.nn.ops.backends import compiled
from structmat.nn.ops.execution_plan import backend_for
from structmat.nn.ops.operator import banks, plain, rotated
from structmat.nn.ops.plan_cache import PlanCache, cache_for
from structmat.nn.parametrizations.generators import promoted, real_dtype
from structmat.nn.precision import without_autocast
from structmat.nn.vectors import check_vectors, rotate_parts

_INVERSE = "q.adjoint(x), or FixedRotation(q.rotation.H)"
_HINTS = {  # for attributes that users expect on a matrix
    "T": _INVERSE,
    "H": _INVERSE,
    "inverse": _INVERSE,
    "inv": _INVERSE,
    "transpose": _INVERSE,
    "network": "q.rotation.network",
    "description": "q.rotation.description",
}


class FixedRotation(nn.Module):
    """A rotation as a module without parameters or buffers.

    It adapts to its inputs: for each device and precision that occurs, it converts the blocks of
    the rotation, so `to()`, `half()` and the like have no effect on it, and its state dict is
    empty. Pickles and copies contain the rotation, in the case of a `Rotator` as its description.

    Parameters
    ----------
    rotation : Rotation, or description of a Rotator
        With numpy blocks.

    Raises
    ------
    BlockError
        If it is neither, or its blocks are not numpy arrays.

    Notes
    -----
    Products are accumulated in at least float32; the result has the dtype of x, or a complex dtype
    if the blocks are complex. Autocast has no effect. NaN and infinity pass through. For float16
    vectors on a CPU, a result that float16 cannot represent raises an error. On other devices, for
    which the check would require a synchronisation, such a result is infinite.

    With compiled kernels and more than a few vectors, blocks that are Kronecker products are split
    into smaller switches (`structmat.linalg.refinement`), so that a Hadamard block runs as a fast
    Walsh–Hadamard transform.

    Examples
    --------
    >>> import structmat as sm
    >>> q = FixedRotation(sm.rotator(12, rng=0))
    >>> q
    FixedRotation('rotator(12, block=16, seed=0, version=1)')
    >>> x = torch.eye(12)
    >>> torch.allclose(q.adjoint(q(x)), x, atol=1e-6), len(q.state_dict())
    (True, 0)
    """

    def __init__(self, rotation: Rotation | str) -> None:
        super().__init__()
        if isinstance(rotation, str):
            rotation = Rotator.from_description(rotation)
        if not isinstance(rotation, Rotation):
            raise BlockError(
                f"rotation={abbreviated(rotation)}: it must be a Rotation, such as"
                " structmat.rotator(768), or the description of a Rotator"
            )
        if not all(isinstance(b, np.ndarray) for b in rotation.blocks):
            raise BlockError(
                f"the blocks are {type(rotation.blocks[0]).__module__} arrays: a FixedRotation"
                " needs numpy blocks"
            )
        self.rotation = rotation
        self._unitary = np.dtype(rotation.dtype).kind == "c"
        self._kept: dict[tuple[torch.device, torch.dtype, bool], _Ready] = {}

    def __getattr__(self, name: str) -> Any:
        if name in _HINTS:
            raise AttributeError(f"a FixedRotation has no {name}: use {_HINTS[name]}")
        return super().__getattr__(name)

    @property
    def width(self) -> int:
        """The number of wires d."""
        return self.rotation.network.width

    def forward(self, x: Tensor) -> Tensor:
        """Return R x for each vector: x (..., width) → (..., width).

        Raises
        ------
        BlockError
            If x is not a tensor, the size of its last axis is not the width, its dtype is neither
            floating nor complex, or a result overflows float16 on a CPU.
        """
        return self._rotate(x, adjoint=False)

    def adjoint(self, x: Tensor) -> Tensor:
        """Return Rᵀ x (Rᴴ x for unitary blocks) for each vector, the inverse of `forward`."""
        return self._rotate(x, adjoint=True)

    def matrix(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """Return R as a (width, width) tensor, by default of torch's default dtype.

        Examples
        --------
        >>> import structmat as sm
        >>> FixedRotation(sm.rotator(4, rng=0)).matrix().abs()[0]
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
        """
        dtype = torch.get_default_dtype() if dtype is None else dtype
        return self(torch.eye(self.width, dtype=dtype, device=device)).T

    def _rotate(self, x: Tensor, *, adjoint: bool) -> Tensor:
        check_vectors(x, self.width)
        dtype = parametrizations.at_least_float32(x.dtype)
        dtype = promoted(dtype, torch.complex64) if self._unitary else real_dtype(dtype)

        def rotate(y: Tensor) -> Tensor:
            free = torch_internals.eager(y) and not (torch.is_grad_enabled() and y.requires_grad)
            few = free and y.numel() <= compiled.FEW * self.width
            # Looking up a tuple first saves a fifth of the time for a single vector.
            ready = self._kept.get((y.device, dtype, False)) if few else None
            if ready is None:
                ready = self._ready(y.device, dtype, fine=not few)
            if not ready.blocks:  # a permutation, whose result may be a view of y
                return plain(ready.plans, [], y, adjoint=adjoint).clone()
            apply = ready.prepared(y.device, y.dtype, adjoint=adjoint) if few else None
            if apply is not None:
                return apply(y.reshape(-1, self.width)).view(y.shape)
            with without_autocast(y.device.type), torch.set_grad_enabled(not free):
                return rotated(ready.plans, ready.blocks, y, adjoint=adjoint)

        made = rotate_parts(x, rotate, dtype if self._unitary else None)
        if made.dtype == torch.float16 and made.device.type == "cpu":
            _check_overflow(x, made)
        return made

    @torch_internals.constant
    def _ready(self, device: torch.device, dtype: torch.dtype, *, fine: bool) -> _Ready:
        """Return the network and the blocks for a device, computed on first use."""
        own_operations = torch_internals.transformed() or torch_internals.exporting()
        fine = fine and device.type == "cpu" and compiled.available(device) and not own_operations
        with torch_internals.untraced():
            if not torch_internals.eager():
                return _Ready.made(self.rotation, device, dtype, fine=fine)
            key = device, dtype, fine
            if key not in self._kept:
                with torch.inference_mode(mode=False):  # a later call may need gradients
                    self._kept[key] = _Ready.made(self.rotation, device, dtype, fine=fine)
            return self._kept[key]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}}

    def extra_repr(self) -> str:
        """Return the text that torch prints between the parentheses."""
        if isinstance(self.rotation, Rotator):
            return repr(self.rotation.description)
        return f"width={self.width}, depth={self.rotation.network.depth}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


@dataclass(frozen=True, eq=False)
class _Ready:
    """A network and its blocks on a device.

    Attributes
    ----------
    plans : PlanCache
    blocks : list of (n, r, r) tensors, or (1, r, r) where all are equal
    """

    plans: PlanCache
    blocks: list[Tensor]
    _prepared: dict[tuple[torch.dtype, bool], Callable[[Tensor], Tensor] | None] = field(
        default_factory=dict, init=False
    )

    @classmethod
    def made(
        cls, rotation: Rotation, device: torch.device, dtype: torch.dtype, *, fine: bool
    ) -> _Ready:
        """Return the blocks of a rotation, split into small ones if `fine`."""
        if fine:
            rotation = refined(rotation)
        blocks = [torch.tensor(distinct(b), dtype=dtype, device=device) for b in rotation.blocks]
        return cls(cache_for(rotation.network), blocks)

    def prepared(
        self, device: torch.device, dtype: torch.dtype, *, adjoint: bool
    ) -> Callable[[Tensor], Tensor] | None:
        """Return a function that rotates a few vectors with little overhead, if there is one."""
        key = dtype, adjoint
        if key not in self._prepared:
            net, made = self.plans.network, None
            if backend_for(net, device, dtype, self.blocks[0].dtype) is compiled:
                plan = self.plans.plan(plan_selection.every_stage(net), device)
                made = plan.fixed(banks(net, self.blocks), dtype, adjoint=adjoint)
            self._prepared[key] = made
        return self._prepared[key]


def _check_overflow(x: Tensor, made: Tensor) -> None:
    """Raise an error if results are infinite and vectors are not, unless values are unknown."""
    if torch_internals.eager(x, made) and made.isinf().any() and not x.isinf().any():
        largest = torch.linalg.vector_norm(x.float(), dim=-1).max()
        raise BlockError(
            f"vectors of norm up to {largest:.3g} in float16: an entry of a result exceeds 65504,"
            " the largest float16; use bfloat16 or float32, or scale the vectors"
        )
