"""The layer `Orthogonal`: a network with trainable blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from structmat.analysis.generator_scale import generator_scale
from structmat.errors import BlockError, StructmatError, abbreviated
from structmat.families import resolution
from structmat.linalg.blocks import by_stage, generators_per_block
from structmat.linalg.rotation import Rotation
from structmat.networks.network import Network
from structmat.nn import parametrizations, torch_internals
from structmat.nn.offloading import Generators
from structmat.nn.ops import plan_selection
from structmat.nn.ops.backends import compiled
from structmat.nn.ops.cost_model import candidates
from structmat.nn.ops.execution_plan import backend_for
from structmat.nn.ops.operator import plain, rotated
from structmat.nn.ops.plan_cache import cache_for, kept_generators, places_of
from structmat.nn.parametrizations import powers
from structmat.nn.parametrizations.generators import promoted, real_dtype
from structmat.nn.precision import product, without_autocast
from structmat.nn.stage_selection import checked_stages
from structmat.nn.vectors import check_vectors, rotate_parts

PLANS = ("auto", "measure", "reference")
SCALINGS = ("step", "sgd", "none")
_OPTIMISERS = {"step": "adam", "sgd": "sgd"}  # by scaling that depends on the network
_FEW = 64  # largest number of vectors for which blocks are cached between calls


class _Ready(NamedTuple):
    """A function that rotates a few vectors, and the means to check whether it is up to date."""

    settings: Hashable
    blocks: list[Tensor]  # of the network itself, for compiled kernels
    apply: Callable[[Tensor], Tensor]
    same: Callable[[Sequence[Tensor]], bool]  # whether generators are unchanged


class Orthogonal(nn.Module):
    """A trainable orthogonal (or unitary) matrix R = B_m ⋯ B_1 with the topology of a network.

    `q(x)` is R x for each vector along the last axis. Only free parameters are stored: for each
    bank of n switches of radix r, an (n, r(r−1)/2) tensor, initially zero. Multiplied by
    `generator_scale`, it contains the strict upper triangles of n skew-symmetric matrices. All
    blocks are initially identities. R is then the identity for a straight network, and a
    permutation matrix for a wired one.

    Parameters
    ----------
    topology : Network, str, Family, networkx graph, path, or function width → Network
        The network, or anything that `structmat.network` resolves.
    width : int, optional
        The width; required if the topology is a spec, a family or a function.
    parametrization : {"cayley", "exp", "givens", "householder", "cayley_neumann"}
        The parametrization of the blocks. Cayley blocks cover every rotation without eigenvalue −1,
        exponentials (exp) and products of plane rotations (givens) every rotation, and products of
        reflections (householder) almost every one. The series truncated to five terms
        (cayley_neumann) is orthogonal only up to 2‖Q‖⁴; see `orthogonality_error`.
    dtype : torch dtype, optional
        The dtype of the generators; by default torch's default dtype. A complex dtype means unitary
        blocks, with r² real generators each.
    device : torch device, optional
    dropout : (float, float)
        The multiplicative dropout of the BOFT paper: in training, each stage is selected with the
        first probability, and in a selected stage each block is replaced by the identity with the
        second probability. R stays orthogonal.
    reduced : bool
        Whether to omit redundant generators (`structmat.reduced`), which removes up to half of the
        parameters. With exp blocks, the set of matrices stays the same; with Cayley blocks, it
        keeps its dimension and the same matrices near the identity. If a bank loses generators, the
        remaining ones are stored as one row.
    generator_scaling : {"step", "sgd", "none"} or float
        How to determine `generator_scale`, the factor by which the trained tensors are multiplied.
        "step" scales the generators such that a step of Adam has a similar effect for every
        topology and parametrization, so about the same learning rate is best for all of them; see
        `structmat.analysis.generator_scale`. "sgd" is the factor for gradient descent without
        adaptive steps. "none" is the factor 1. A positive number is the factor itself, as adapter
        files store it.
    plan : {"auto", "measure", "reference"}
        The execution plan: "auto" fuses stages as selected by a cost model, identically in every
        process; "measure" times the best candidate plans on this machine, for about the same number
        of vectors, and selects the fastest; "reference" is the reference implementation, one stage
        at a time with torch's own operations. Values and gradients agree up to rounding.

    Raises
    ------
    WidthError, SpecError, GraphError, FileError
        If the topology has no network of this width, or does not resolve to one.
    BlockError, StructmatError
        If the parametrization is unknown, the dtype is not floating, a probability is outside
        [0, 1], or another argument is invalid.

    Notes
    -----
    Blocks are computed, and products accumulated, in at least float32 and at least the precision of
    x; the result has the dtype of x, or the corresponding complex dtype if the blocks are complex.
    Autocast has no effect on the layer. Adjacent stages are fused if that saves passes over x (see
    `explain`), and only x and the blocks are saved for the backward pass, no intermediate results.
    When the layer is called with few vectors and without gradients, as in decoding, the blocks are
    cached between calls until a generator changes. `torch.export` and `torch.jit.trace` record
    torch's own operations, so a saved program runs without structmat.

    Examples
    --------
    >>> import structmat as sm
    >>> q = Orthogonal(sm.butterfly(8))
    >>> q
    Orthogonal(width=8, depth=3, parameters=12, parametrization='cayley')
    >>> x = torch.ones(2, 8)
    >>> torch.equal(q(x), x)
    True
    >>> Orthogonal("shuffle(block=4)", 16, "exp")
    Orthogonal(width=16, depth=2, parameters=48, parametrization='exp')
    """

    generators: Generators

    def __init__(
        self,
        topology: Any,
        width: int | None = None,
        parametrization: str = "cayley",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        dropout: tuple[float, float] = (0.0, 0.0),
        reduced: bool = False,
        generator_scaling: str | float = "step",
        plan: str = "auto",
    ) -> None:
        super().__init__()
        if isinstance(topology, Rotation):
            raise StructmatError(
                f"topology={abbreviated(topology)}: it must be a network or a spec; start from"
                " given blocks with Orthogonal.from_rotation"
            )
        if width is not None and not isinstance(width, int | np.integer):
            raise StructmatError(
                f"width={abbreviated(width)}: it must be an integer; the parametrization and the"
                ' options are keywords, such as Orthogonal(net, parametrization="exp"), and'
                " Orthogonal.from_rotation starts from given blocks"
            )
        network = resolution.network(topology, width)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if not isinstance(dtype, torch.dtype):
            raise BlockError(
                f"dtype={abbreviated(dtype)}: it must be a torch.dtype, such as torch.float32"
            )
        if not (dtype.is_floating_point or dtype.is_complex):
            raise BlockError(f"dtype={dtype}: generators need a real or complex floating dtype")
        parametrizations.at_least_float32(dtype)  # raises for dtypes of 8 bits
        if not isinstance(reduced, bool):
            raise StructmatError(f"reduced={abbreviated(reduced)}: reduced must be True or False")
        if plan not in PLANS:
            raise StructmatError(f"plan={abbreviated(plan)}: it must be one of {', '.join(PLANS)}")
        self.reduced = reduced
        self.plan = plan
        self.parametrization = parametrizations.checked_parametrization(parametrization)
        self.dropout = checked_dropout(dropout)
        self.unitary = dtype.is_complex
        self._scaling = checked_scaling(generator_scaling)
        if not isinstance(self._scaling, str):
            # A number in a file may be the factor of a rule, which other networks then follow, too.
            equal = (n for n in _OPTIMISERS if self._scaling == self._scale_of(n, network))
            self._scaling = next(equal, self._scaling)
        self._set_network(network)
        real = real_dtype(dtype)
        self.generators = Generators(
            torch.zeros(shape, dtype=real, device=device) for shape in shapes_of(self)
        )
        self._bare = real, torch.empty(0, device=device).device  # for a layer without generators

    def _scale_of(self, scaling: str | float, network: Network) -> float:
        return scale_of(
            scaling, network, self.parametrization, field=self._field, reduced=self.reduced
        )

    def scale_for(self, network: Network) -> float:
        """Return the factor that the trained tensors of another network would have.

        Examples
        --------
        >>> import structmat as sm
        >>> net = sm.block_diagonal(8, block=2)
        >>> Orthogonal(sm.butterfly(8)).scale_for(net) == Orthogonal(net).generator_scale
        True
        """
        return self._scale_of(self._scaling, network)

    def shapes_for(self, network: Network) -> list[tuple[int, ...]]:
        """Return the shapes that the generators of another network would have.

        Examples
        --------
        >>> import structmat as sm
        >>> Orthogonal(sm.butterfly(8)).shapes_for(sm.block_diagonal(8, block=4))
        [(2, 6)]
        """
        return generator_shapes(network, field=self._field, reduced=self.reduced)

    def _set_network(self, network: Network) -> None:
        """Set the network, and everything that depends on it except the generators."""
        self._generator_scale = self.scale_for(network)
        self.network = network
        # Plain integers, which compiled code reads instead of the network's arrays.
        self._sizes = tuple((bank.count, bank.radix) for bank in network.banks)
        self._plans = cache_for(network)
        self._ready: dict[tuple[torch.dtype, torch.dtype, bool], _Ready] = {}

    @property
    def width(self) -> int:
        """The number of wires d."""
        return self.network.width

    @property
    def generator_scale(self) -> float:
        """The factor by which the trained tensors are multiplied.

        Examples
        --------
        >>> import structmat as sm
        >>> Orthogonal(sm.butterfly(8), generator_scaling="none").generator_scale
        1.0
        """
        return self._generator_scale

    @property
    def _field(self) -> str:
        return "complex" if self.unitary else "real"

    def forward(self, x: Tensor) -> Tensor:
        """Return R x for each vector: x (..., width) → (..., width).

        Raises
        ------
        BlockError
            If x is not a tensor, the size of its last axis is not the width, or its dtype is
            neither floating nor complex.
        """
        return self._rotate(x, adjoint=False, drop=self.training)

    def adjoint(self, x: Tensor) -> Tensor:
        """Return Rᵀ x (Rᴴ x for unitary blocks) for each vector, the inverse of `forward`.

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

    @property
    def H(self) -> Adjoint:  # noqa: N802 (as torch's)
        """The layer x → Rᴴ x, which shares the parameters of this layer.

        Examples
        --------
        >>> import structmat as sm
        >>> q = Orthogonal(sm.butterfly(4))
        >>> torch.equal(q.H.matrix(), q.matrix().H)
        True
        """
        return Adjoint(self)

    @property
    def T(self) -> Adjoint:  # noqa: N802 (as torch's)
        """For real blocks, the same as `H`. Layers with unitary blocks have no attribute T."""
        _check_real(self)
        return Adjoint(self)

    def matrix(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return R as a (width, width) tensor, by default in the dtype used to compute blocks.

        Dropout is not applied.

        Examples
        --------
        >>> import structmat as sm
        >>> Orthogonal(sm.butterfly(2)).matrix().tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        dtype = self._compute_dtype(torch.float32) if dtype is None else dtype
        own = self.generators()
        device = own[0].device if own else self._bare[1]
        one = torch.eye(self.width, dtype=dtype, device=device)
        return self._rotate(one, adjoint=False, drop=False).T

    def blocks(self, dtype: torch.dtype | None = None) -> list[Tensor]:
        """Return the blocks, one (n, r, r) tensor for each bank, without dropout.

        As numpy arrays, these are the blocks of a `structmat.Rotation`.
        """
        dtype = self._compute_dtype(torch.float32 if dtype is None else dtype)
        return self._blocks_of(self.generators(), dtype, self._settings())

    @torch.no_grad()
    def rotation(self) -> Rotation:
        """Return the current value: the network and its blocks as numpy arrays.

        Raises
        ------
        BlockError
            If the blocks are not orthogonal, which can happen with a truncated series.

        Examples
        --------
        >>> import structmat as sm
        >>> Orthogonal(sm.butterfly(4)).rotation()
        Rotation(width=4, depth=2, parameters=4, dtype=float32)
        """
        return Rotation(self.network, [b.cpu().numpy() for b in self.blocks()])

    @classmethod
    @torch.no_grad()
    def from_rotation(
        cls,
        rotation: Rotation,
        parametrization: str = "exp",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator_scaling: str | float = "step",
        plan: str = "auto",
    ) -> Self:
        """Return a layer initialised to a given rotation.

        Parameters
        ----------
        rotation : Rotation
            Real blocks must have determinant 1, as `fit(special=True)` ensures.
        parametrization : {"exp", "cayley"}
            Cayley blocks cannot have the eigenvalue −1.
        dtype : torch dtype, optional
            By default the dtype of the rotation.
        device, generator_scaling, plan
            As for `Orthogonal`.

        Raises
        ------
        BlockError
            If the parametrization is not one of these, or cannot represent a block.

        Examples
        --------
        >>> import structmat as sm
        >>> r = sm.Rotation(sm.benes(8), sm.random_blocks(sm.benes(8), rng=0))
        >>> layer = Orthogonal.from_rotation(r)
        >>> bool(abs(layer.rotation().matrix() - r.matrix()).max() < 1e-14)
        True
        """
        blocks = [torch.tensor(np.asarray(b)) for b in rotation.blocks]
        if dtype is None:
            dtype = blocks[0].dtype if blocks else torch.get_default_dtype()
        made = cls(
            rotation.network,
            parametrization=parametrization,
            dtype=dtype,
            device=device,
            generator_scaling=generator_scaling,
            plan=plan,
        )
        made._assign(blocks)  # in their own dtype, which determines the permitted rounding errors
        return made

    def _assign(self, blocks: Sequence[Tensor]) -> None:
        """Set the generators, none of which may be omitted, to those of blocks (n, r, r)."""
        for own, block in zip(self.generators, blocks, strict=True):
            own.copy_(powers.generators(block, self.parametrization) / self._generator_scale)

    def _settings(self) -> Hashable:
        """Return everything besides the generators on which the blocks depend."""
        return self.parametrization

    def _blocks_of(
        self,
        generators: Sequence[Tensor],
        dtype: torch.dtype,
        settings: Hashable,  # noqa: ARG002 (used in subclasses)
    ) -> list[Tensor]:
        """Return the blocks for the given generators; `dtype` is complex for unitary blocks."""
        made: list[Tensor | None] = [None] * len(generators)
        by_radix: dict[int, list[int]] = {}
        for k, (_, radix) in enumerate(self._sizes):
            by_radix.setdefault(radix, []).append(k)
        real = real_dtype(dtype)
        every = self._all_generators(generators)
        for radix, banks in by_radix.items():  # one batched call for each radix
            together = torch.cat([every[k].to(real) for k in banks])
            if self._generator_scale != 1:  # here, and nowhere else, the factor is applied
                together = together * self._generator_scale
            parts = parametrizations.PARAMETRIZATIONS[self.parametrization](together, radix).split(
                [self._sizes[k][0] for k in banks]
            )
            for k, part in zip(banks, parts, strict=True):
                made[k] = part
        return [block for block in made if block is not None]

    def _all_generators(self, generators: Sequence[Tensor]) -> list[Tensor]:
        """Return the (n, g) generators of each bank, with zeros for redundant ones."""
        if not (self.reduced and generators):
            return list(generators)
        device = generators[0].device
        places = places_of(self._plans.key, device, field=self._field)
        made = []
        for values, kept, (count, radix) in zip(generators, places, self._sizes, strict=True):
            if kept is None:
                made.append(values)
                continue
            size = generators_per_block(radix, field=self._field)
            every = values.new_zeros(count * size)
            made.append(every.index_copy(0, kept, values).view(-1, size))
        return made

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
        gram = product(r.mH[None], r[None])[0]
        gram.diagonal().sub_(1)
        return float(gram.abs().max())

    def explain(
        self, tokens: int, outputs: int | None = None, *, dtype: torch.dtype | None = None
    ) -> str:
        """Describe the selected plan for a number of vectors, the reason, and the other candidates.

        With `plan="measure"`, the candidate plans are timed if a call to the layer would time them.

        Parameters
        ----------
        tokens : int
            The number of vectors.
        outputs : int, optional
            The number of outputs of the linear layer passed to `linear`.
        dtype : torch dtype, optional
            The dtype of the vectors; by default float32.

        Examples
        --------
        >>> import structmat as sm
        >>> print(Orthogonal(sm.butterfly(64)).explain(10_000))
        64 wires, 6 stages, 10,000 vectors of 4-byte numbers on a cpu: compiled, 2 passes
          1  4 cells of 16 wires: 32 blocks 2×2
          2  16 cells of 4 wires: 4 blocks 2×2
        """
        dtype = self._compute_dtype(torch.float32 if dtype is None else dtype)
        device = self._number_type()[1]
        return plan_selection.explain(self._plans, tokens, outputs, dtype, device, plan=self.plan)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return W Rᵀ x + c for each vector, the output of a frozen linear layer for `adjoint(x)`.

        The rotated vectors are not saved, and are never all in memory at once. If the linear
        layer has few outputs, its weight is rotated instead; see `explain`.

        Parameters
        ----------
        x : (..., width)
        weight : (out, width) in the dtype of x
            Its gradient is not computed.
        bias : (out,) in the dtype of x, optional
            Its gradient is not computed.

        Returns
        -------
        (..., out) in the dtype of x

        Raises
        ------
        BlockError
            As for `forward`, and for unitary blocks, or a weight or bias that requires a gradient.

        Examples
        --------
        >>> import structmat as sm
        >>> q, w, x = Orthogonal(sm.butterfly(4)), torch.ones(3, 4), torch.ones(2, 4)
        >>> q.linear(x, w).tolist()
        [[4.0, 4.0, 4.0], [4.0, 4.0, 4.0]]
        """
        if self.unitary:
            raise BlockError("linear: unitary blocks yield complex vectors; use adjoint(x)")
        if any(t is not None and t.requires_grad for t in (weight, bias)):
            raise BlockError(
                "linear: the weight and the bias get no gradient; freeze them with"
                " requires_grad_(False), or apply the layer to adjoint(x)"
            )
        check_vectors(x, self.width)
        if x.is_complex():
            return functional.linear(self.adjoint(x), weight, bias)
        return self._run(x, (weight, bias), adjoint=True, drop=self.training)

    @torch.no_grad()
    def interpolate(self, t: float) -> Orthogonal:
        """Return a layer with each block raised to the power t: this layer's values for t = 1.

        Each block moves along a geodesic that starts at the identity for t = 0: its rotation angles
        are multiplied by t (`structmat.nn.parametrizations.powers`). The result is orthogonal for
        every t and has its own generators.

        Parameters
        ----------
        t : float
            Values above 1 extrapolate; negative values rotate in the opposite direction.

        Returns
        -------
        Orthogonal
            A layer with parametrization "cayley" if this layer has it, and "exp" otherwise. It
            stores all generators, even if this layer is `reduced`, because powers need them. Its
            `generator_scale` is determined as by `keep`.

        Raises
        ------
        BlockError
            If a block is not orthogonal up to rounding, or has no such power because its
            determinant is −1 or a Cayley block would need the eigenvalue −1.

        Examples
        --------
        >>> import structmat as sm
        >>> q = Orthogonal(sm.butterfly(2), generator_scaling="none")
        >>> _ = nn.init.ones_(q.generators[0])       # a rotation by 90°
        >>> q.interpolate(0.5).matrix().tolist()
        [[0.70710..., 0.70710...], [-0.70710..., 0.70710...]]
        """
        kind = self.parametrization if self.parametrization in powers.INVERSES else "exp"
        made = self._like_this(self.network, kind)
        made._assign([powers.power(block, t) for block in self.blocks(torch.float64)])
        return made

    @torch.no_grad()
    def keep(self, stages: Iterable[int] | slice) -> Orthogonal:
        """Return a layer with only some of the stages, in order: R without some factors.

        The BOFT paper drops factors of a trained layer in this way (its Figure 10), which
        saves time and costs accuracy.

        Parameters
        ----------
        stages : iterable of int, or slice
            The stages to keep, where 0 is the first to act, such as `range(2)`; `slice(-2, None)`
            keeps the last two.

        Returns
        -------
        Orthogonal
            A layer with the same blocks, which stores all generators even if this layer is
            `reduced`. If this layer has the "step" or "sgd" factor of its network, the new layer
            has that of its own network; otherwise, both have the same factor.

        Raises
        ------
        StructmatError
            If the network has no stage with a given index.

        Examples
        --------
        >>> import structmat as sm
        >>> Orthogonal(sm.butterfly(8)).keep([0, 2])
        Orthogonal(width=8, depth=2, parameters=8, parametrization='cayley')
        """
        wanted = checked_stages(stages, self.network.depth)
        of_banks = [t for t, stage in enumerate(self.network.stages) for _ in stage.banks]
        kept = [k for k, t in enumerate(of_banks) if t in wanted]
        fewer = Network(self.width, [self.network.stages[t] for t in wanted])
        made, own = (
            self._like_this(fewer, self.parametrization),
            self._all_generators(self.generators()),
        )
        ratio = self._generator_scale / made._generator_scale
        for new, k in zip(made.generators, kept, strict=True):
            new.copy_(own[k] * ratio)
        return made

    @torch.no_grad()
    def restart(self, topology: Any = None) -> None:
        """Set all blocks to the identity, and optionally the network to another one, in place.

        Where the shape of a bank's generators stays the same, so does the parameter object, and
        optimisers continue to train it; other banks get new parameters.

        Parameters
        ----------
        topology : Network, str, Family, networkx graph, path, or function width → Network
            The topology of the new network; by default the network stays.

        Raises
        ------
        WidthError, SpecError, GraphError, FileError
            If the topology does not resolve to a network of this width. The layer is unchanged.

        Examples
        --------
        >>> q = Orthogonal("block_diagonal(block=4)", 16)
        >>> before = q.generators[0]
        >>> q.restart("random(block=4, depth=2, rng=1)")
        >>> q, q.generators[0] is before
        (Orthogonal(width=16, depth=2, parameters=48, parametrization='cayley'), True)
        """
        if topology is not None:
            dtype, device = self._number_type()
            own = list(self.generators)
            self._set_network(resolution.network(topology, self.width))
            shapes = shapes_of(self)
            if [tuple(g.shape) for g in own] != shapes:
                trained = all(g.requires_grad for g in own)
                new = (torch.zeros(shape, dtype=dtype, device=device) for shape in shapes)
                self.generators = Generators(
                    own[k] if k < len(own) and own[k].shape == g.shape else nn.Parameter(g, trained)
                    for k, g in enumerate(new)
                )
                self._bare = dtype, device
        for values in self.generators:
            values.zero_()

    def _like_this(self, network: Network, kind: str) -> Orthogonal:
        """Return a layer for another network, with the dtype, device and settings of this layer."""
        dtype, device = self._number_type()
        made = Orthogonal(
            network,
            parametrization=kind,
            dtype=dtype.to_complex() if self.unitary else dtype,
            device=device,
            dropout=self.dropout,
            generator_scaling=self._scaling,
            plan=self.plan,
        )
        return made.train(self.training)

    def _rotate(self, x: Tensor, *, adjoint: bool, drop: bool) -> Tensor:
        check_vectors(x, self.width)
        unitary = self._compute_dtype(x.dtype) if self.unitary else None
        return rotate_parts(x, lambda y: self._run(y, adjoint=adjoint, drop=drop), unitary)

    def _run(
        self,
        x: Tensor,
        layer: tuple[Tensor, Tensor | None] | tuple[()] = (),
        *,
        adjoint: bool,
        drop: bool,
    ) -> Tensor:
        drop = drop and all(self.dropout)
        with without_autocast(x.device.type):
            ready = None if drop else self._kept_ready(x, adjoint=adjoint)
            if ready is not None and x.numel() > _FEW * self.width:
                blocks = ready.blocks
                return rotated(self._plans, blocks, x, *layer, adjoint=adjoint, plan=self.plan)
            if ready is not None:
                y = ready.apply(x) if x.ndim == 2 else ready.apply(x.reshape(-1, self.width))
                y = y if x.ndim == 2 else y.view(x.shape)
                return functional.linear(y, *layer) if layer else y
            blocks = self.blocks(self._compute_dtype(x.dtype))
            if drop:
                blocks = self._dropped(blocks)
            if self.plan == "reference" or not blocks:
                y = plain(self._plans, blocks, x, *layer, adjoint=adjoint)
                return y if blocks or layer else y.clone()  # it may be a view of x
            return rotated(self._plans, blocks, x, *layer, adjoint=adjoint, plan=self.plan)

    def _kept_ready(self, x: Tensor, *, adjoint: bool) -> _Ready | None:
        """Return the cached rotation of vectors without gradients, renewed if out of date.

        For many vectors, only compiled kernels use cached blocks, since other backends fuse stages.

        The result is None if x has many vectors, is not on a CPU, or requires a differentiable or
        recorded computation. Generators are compared by value, since some changes cannot be
        detected otherwise. The blocks are computed from a copy of the generators, so they match
        that copy even if another thread changes the generators in the meantime.
        """
        if (
            torch.is_grad_enabled()
            or torch_internals.recorded()
            or x.device.type != "cpu"  # comparing values elsewhere would synchronise the device
            or self.plan == "reference"
            or not self._sizes
        ):
            return None
        if x.numel() > _FEW * self.width:
            dtype = self._compute_dtype(x.dtype)
            if backend_for(self.network, x.device, x.dtype, dtype) is not compiled:
                return None
        own, settings = self.generators(), self._settings()
        if not torch_internals.eager(x, *own) or any(g.device.type != "cpu" for g in own):
            return None
        key = x.dtype, own[0].dtype, adjoint
        ready = self._ready.get(key)
        if ready and ready.settings == settings and ready.same(own):
            return ready
        dtype = self._compute_dtype(x.dtype)
        with torch.inference_mode(mode=False), torch.no_grad():
            kept = [g.detach().clone(memory_format=torch.contiguous_format) for g in own]
            # In float64, so that torch's precision settings for float32 products have no effect.
            wide = self._blocks_of(kept, promoted(dtype, torch.float64), settings)
            backend = backend_for(self.network, x.device, x.dtype, dtype)
            if backend is compiled:
                plan = self._plans.plan(plan_selection.every_stage(self.network), x.device)
                blocks = [block.to(dtype) for block in wide]
                apply = plan.fixed(blocks, x.dtype, adjoint=adjoint)
                made = _Ready(settings, blocks, apply, compiled.comparison(kept))
            else:
                best = candidates(self.network, 1, itemsize=dtype.itemsize, reuse=True)[0]
                plan = self._plans.plan(best.ends, x.device)
                blocks = [block.to(dtype) for block in plan.fuse(wide)]
                if adjoint:  # the blocks of the inverse network need no transposition in each call
                    blocks, net = _adjoints(plan.network, blocks), plan.network.inverse()
                    plan = cache_for(net).plan(plan_selection.every_stage(net), x.device)
                made = _Ready(settings, [], partial(plan.apply, blocks), partial(_same, kept))
        self._ready[key] = made
        return made

    def _dropped(self, blocks: list[Tensor]) -> list[Tensor]:
        of_stages, of_blocks = self.dropout
        if not (of_stages and of_blocks):
            return blocks
        rest = iter(blocks)
        kept = []
        for stage in self.network.stages:
            selected = torch.rand((), device="cpu") < of_stages
            for _ in stage.banks:
                block = next(rest)
                drop = selected.to(block.device) & (
                    torch.rand(len(block), 1, 1, device=block.device) < of_blocks
                )
                one = torch.eye(block.shape[-1], dtype=block.dtype, device=block.device)
                kept.append(torch.where(drop, one, block))
        return kept

    def _number_type(self) -> tuple[torch.dtype, torch.device]:
        """Return the dtype and the device of the generators."""
        if not self._sizes:
            return self._bare
        first = self.generators[0]
        return first.dtype, first.device

    def _compute_dtype(self, dtype: torch.dtype) -> torch.dtype:
        own, _ = self._number_type()
        dtype = promoted(*map(parametrizations.at_least_float32, (dtype, own)))
        return promoted(dtype, torch.complex64) if self.unitary else dtype

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's signature)
        super()._apply(fn, recurse)
        if not self._sizes:
            dtype, device = self._bare
            start = "cpu" if device.type == "meta" else device  # meta tensors cannot be moved
            bare = fn(torch.empty(0, dtype=dtype, device=start))
            self._bare = bare.dtype, bare.device
        self._ready = {}
        return self

    def _save_to_state_dict(
        self,
        destination: Any,
        prefix: str,
        keep_vars: bool,  # noqa: FBT001 (torch's signature)
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # Not among the tensors: it is neither trained nor cast, and files of tensors stay the same.
        metadata = getattr(destination, "_metadata", {}).get(prefix[:-1], {})
        metadata["generator_scale"] = self._generator_scale

    def _load_from_state_dict(
        self,
        state: Any,
        prefix: str,
        metadata: Mapping[str, Any],
        strict: bool,  # noqa: FBT001 (torch's signature)
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        theirs = metadata.get("generator_scale", 1.0)
        whole = "version" in metadata and f"{prefix}generators.0" in state  # not only tensors
        if whole and not math.isclose(theirs, self._generator_scale, rel_tol=1e-9):
            errors.append(
                f"{prefix}generators are multiplied by {theirs:.6g} in the saved layer, and by"
                f" {self._generator_scale:.6g} in this one; create it with"
                f" generator_scaling={theirs!r}"
            )
            return  # unchanged
        super()._load_from_state_dict(state, prefix, metadata, strict, missing, unexpected, errors)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_ready": {}}
        del state["_plans"]  # recomputed from the network
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        plain = {"_generator_scale": 1.0, "_scaling": "none"}  # for older pickles
        super().__setstate__(plain | state)
        self._plans = cache_for(self.network)

    def extra_repr(self) -> str:
        """Return the text that torch prints between the parentheses."""
        dropout = f", dropout={self.dropout}" if any(self.dropout) else ""
        dropout += ", reduced=True" if self.reduced else ""
        if self._scaling != "step":
            dropout += f", generator_scale={self._generator_scale:.4g}"
        return (
            f"width={self.width}, depth={self.network.depth},"
            f" parameters={sum(g.numel() for g in self.generators)},"
            f" parametrization={self.parametrization!r}{dropout}"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class Adjoint(nn.Module):
    """The layer x → Rᴴ x that shares the parameters of a layer x → R x.

    Parameters
    ----------
    layer : Orthogonal
    """

    def __init__(self, layer: Orthogonal) -> None:
        super().__init__()
        self.layer = layer

    @property
    def H(self) -> Orthogonal:  # noqa: N802 (as torch's)
        """The layer x → R x."""
        return self.layer

    @property
    def T(self) -> Orthogonal:  # noqa: N802 (as torch's)
        """For real blocks, the same as `H`."""
        _check_real(self.layer)
        return self.layer

    def forward(self, x: Tensor) -> Tensor:
        """Return Rᴴ x for each vector: x (..., width) → (..., width)."""
        return self.layer.adjoint(x)

    def adjoint(self, x: Tensor) -> Tensor:
        """Return R x for each vector, the inverse of `forward`."""
        made: Tensor = self.layer(x)
        return made

    def matrix(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return Rᴴ as a (width, width) tensor; see `Orthogonal.matrix`."""
        return self.layer.matrix(dtype).mH

    def rotation(self) -> Rotation:
        """Return the current value; see `Orthogonal.rotation`."""
        return self.layer.rotation().H


def _check_real(layer: Orthogonal) -> None:
    if layer.unitary:
        raise AttributeError("the blocks are unitary: use H")


def _adjoints(net: Network, blocks: list[Tensor]) -> list[Tensor]:
    """Return the blocks of the inverse network, whose stages are in reverse order."""
    return [
        b.mH.resolve_conj().clone(memory_format=torch.contiguous_format)
        for stage in reversed(by_stage(net, blocks))
        for b in stage
    ]


def _same(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Return whether tensors on one device have the same dtypes and values."""
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(a, b, strict=True))


def generator_shapes(
    net: Network, *, field: str = "real", reduced: bool = False
) -> list[tuple[int, ...]]:
    """Return the shape of the generators of each bank: (n, g), or one row if some are omitted.

    Examples
    --------
    >>> generator_shapes(Network.of(5, [[[0, 1, 2], [3, 4]]]))
    [(1, 3), (1, 1)]
    >>> generator_shapes(Network.of(4, [[[0, 1, 3]], [[0, 1, 2]]]), reduced=True)
    [(1, 3), (2,)]
    """
    if reduced:
        kept = kept_generators(net, field=field)
        return [k.shape if k.all() else (int(k.sum()),) for k in kept]
    return [(bank.count, generators_per_block(bank.radix, field=field)) for bank in net.banks]


def shapes_of(layer: Orthogonal) -> list[tuple[int, ...]]:
    """Return the shapes of a layer's generators, unsharded even if the layer is sharded."""
    return layer.shapes_for(layer.network)


def checked_scaling(scaling: Any) -> str | float:
    """Return the scaling of generators: "step", "sgd", "none", or a factor as a float.

    Raises
    ------
    StructmatError
        If it is neither a known name nor a number from 1e-30 to 1e30.
    """
    if isinstance(scaling, str) and scaling in SCALINGS:
        return scaling
    number = isinstance(scaling, int | float | np.number) and not isinstance(scaling, bool)
    if not number or not 1e-30 <= scaling <= 1e30:  # within the range of float32
        raise StructmatError(
            f'generator_scaling={abbreviated(scaling)}: it must be "step", "sgd", "none" or a'
            " positive factor from 1e-30 to 1e30, such as 0.5"
        )
    return float(scaling)


def scale_of(
    scaling: str | float,
    network: Network,
    parametrization: str,
    *,
    field: str = "real",
    reduced: bool = False,
) -> float:
    """Return the factor of the generators of a network for a checked scaling.

    Examples
    --------
    >>> net = Network.of(3, [[[0, 1, 2]], [[0, 1, 2]]])
    >>> [round(scale_of(s, net, "exp"), 3) for s in ("step", "sgd", "none", 0.3)]
    [2.973, 5.0, 1.0, 0.3]
    """
    if scaling not in _OPTIMISERS:
        return 1.0 if scaling == "none" else float(scaling)
    optimiser = _OPTIMISERS[str(scaling)]
    return generator_scale(network, parametrization, field, reduced=reduced, optimiser=optimiser)


def checked_dropout(dropout: tuple[float, float]) -> tuple[float, float]:
    """Return the two probabilities of multiplicative dropout as floats.

    Raises
    ------
    StructmatError
        If they are not two numbers in [0, 1].
    """
    try:
        stages, blocks = (float(p) for p in dropout)
    except (TypeError, ValueError, OverflowError):
        stages, blocks = -1.0, -1.0
    given: Any = dropout
    if isinstance(given, int | float) and 0 <= given <= 1:
        raise StructmatError(
            f"dropout={abbreviated(dropout)}: it must be two probabilities, of selecting a stage"
            " and of"
            f" dropping each block in it; (1, {abbreviated(dropout)}) drops blocks of every stage,"
            " as a single number does in PEFT's OFT"
        )
    if not (0 <= stages <= 1 and 0 <= blocks <= 1):
        raise StructmatError(
            f"dropout={abbreviated(dropout)}: it must be two probabilities in [0, 1], of selecting"
            " a stage and of dropping each block in it, such as (0.1, 0.5)"
        )
    return stages, blocks
