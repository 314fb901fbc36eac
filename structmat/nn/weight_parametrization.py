"""Orthogonal parametrizations of weights of torch modules, with the topology of a network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from structmat.errors import StructmatError, abbreviated
from structmat.families.resolution import network
from structmat.fitting import fit
from structmat.fitting.column_fit import fit_columns
from structmat.linalg.blocks import identity_blocks, random_blocks
from structmat.linalg.rotation import Rotation
from structmat.nn.orthogonal_layer import Orthogonal
from structmat.nn.parametrizations import powers

_STARTS = ("random", "identity", "weight")
_NEAR = 1e-3  # relative Frobenius error above which assigning a weight causes a warning


def orthogonal(
    module: nn.Module,
    name: str = "weight",
    *,
    topology: Any = None,
    parametrization: str = "exp",
    start: str = "random",
    generator_scaling: str | float = "step",
    plan: str = "auto",
) -> nn.Module:
    """Parametrize a weight as an orthogonal matrix with the topology of a network.

    A square weight becomes R. A tall weight becomes the first columns of R, which are orthonormal,
    and a wide weight the transpose of such columns; the width of R is the larger size. The trained
    parameters are the generators of the network's blocks. The tools of `torch.nn.utils.parametrize`
    apply: `parametrize.cached()` computes the weight only once, and
    `parametrize.remove_parametrizations` makes it a plain parameter again.

    Assigning a matrix to the weight fits the network to it: the weight becomes the closest matrix
    found, with a warning if its relative Frobenius error is above 1e-3.

    Parameters
    ----------
    module : nn.Module
    name : str
        The name of the parameter, a matrix in a real floating dtype.
    topology
        Anything that `structmat.families.resolution.network` accepts, such as
        ``"butterfly(block=4)"``, for the width max(rows, columns).
    parametrization : {"exp", "cayley"}
        The parametrization of the blocks. An assigned matrix may require the eigenvalue −1, which
        Cayley blocks cannot have.
    start : {"random", "identity", "weight"}
        Haar-distributed blocks, drawn from torch's random generator; identity blocks; or blocks
        fitted to the current weight.
    generator_scaling, plan
        As for `Orthogonal`.

    Returns
    -------
    nn.Module
        The module itself.

    Raises
    ------
    StructmatError
        If there is no such parameter, it is not a matrix in a real floating dtype, the network has
        no parameters, or another argument is invalid. The module is unchanged.

    Examples
    --------
    >>> layer = orthogonal(nn.Linear(8, 8), "weight", topology="butterfly")
    >>> torch.allclose(layer.weight @ layer.weight.T, torch.eye(8), atol=1e-6)
    True
    >>> tall = orthogonal(nn.Linear(2, 12), topology="mixed_radix")  # a 12×2 weight
    >>> torch.allclose(tall.weight.T @ tall.weight, torch.eye(2), atol=1e-6)
    True
    """
    if topology is None:
        raise StructmatError(
            "orthogonal: it needs a topology, as in"
            ' orthogonal(layer, "weight", topology="shuffle(block=8)")'
        )
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise StructmatError(
            f"{type(module).__name__}.{name} is {abbreviated(weight, 40)}: it must be a matrix in a"
            " floating dtype, such as the weight of a Linear"
        )
    if start not in _STARTS:
        raise StructmatError(f"start={abbreviated(start)}: it must be one of {', '.join(_STARTS)}")
    if parametrization not in powers.INVERSES:
        raise StructmatError(
            f"parametrization={abbreviated(parametrization)}: it must be one of"
            f" {', '.join(powers.INVERSES)}, whose generators can be computed from blocks"
        )
    rows, columns = weight.shape
    net = network(topology, max(rows, columns))
    if not net.parameters:
        raise StructmatError(
            f"topology={abbreviated(topology, 40)}: the network has no parameters to train"
        )
    layer = Orthogonal(
        net,
        parametrization=parametrization,
        dtype=weight.dtype,
        device="meta",
        generator_scaling=generator_scaling,
        plan=plan,
    )
    made = OrthogonalWeight(layer, (rows, columns))
    made.start = start
    parametrize.register_parametrization(module, name, made)
    return module


class OrthogonalWeight(nn.Module):
    """The parametrization that `orthogonal` registers, a map from generators to a matrix.

    Parameters
    ----------
    layer : Orthogonal
        A layer of width max(shape), whose own generators are not used.
    shape : (int, int)
    """

    def __init__(self, layer: Orthogonal, shape: tuple[int, int]) -> None:
        super().__init__()
        self.network = layer.network
        self.shape = shape
        self.parametrization = layer.parametrization
        self.start = "weight"
        # In a tuple, so that the layer is not registered as a submodule: its generators belong to
        # the parametrized module.
        self._layer = (layer,)

    def forward(self, *generators: Tensor) -> Tensor:
        """Return the weight for the given generators, one tensor for each bank.

        Parameters
        ----------
        generators : (n, r(r−1)/2) for each bank

        Returns
        -------
        Tensor of the shape and the dtype of the weight
        """
        few, like = min(self.shape), generators[0]
        units = torch.eye(few, self.network.width, dtype=like.dtype, device=like.device)
        given = {f"generators.{k}": g for k, g in enumerate(generators)}
        rows: Tensor = torch.func.functional_call(self._layer[0], given, (units,))
        return rows if self.shape[0] < self.shape[1] else rows.mT

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> Sequence[Tensor]:
        """Return generators, found by fitting, for which the weight approximates a given one.

        Parameters
        ----------
        weight : Tensor of the shape of the weight

        Warns
        -----
        UserWarning
            If the relative Frobenius error is above 1e-3.
        """
        start, self.start = self.start, "weight"
        if start == "weight":
            rotation = self._fitted(weight)
        else:
            blocks = identity_blocks(self.network)
            if start == "random":
                blocks = random_blocks(self.network, int(torch.randint(2**62, ())))
            rotation = Rotation(self.network, blocks)
        made = Orthogonal.from_rotation(
            rotation,
            self.parametrization,
            dtype=weight.dtype,
            generator_scaling=self._layer[0].generator_scale,
        )
        return [g.detach().to(weight.device) for g in made.generators]

    def _fitted(self, weight: Tensor) -> Rotation:
        target = weight.detach().to("cpu", torch.float64).numpy()
        columns = target.T if self.shape[0] < self.shape[1] else target
        if self.shape[0] == self.shape[1]:
            found = fit(self.network, target, rng=0, special=True, progress=False)
            rotation, error = found.rotation, found.error
        else:
            rotation, error = fit_columns(self.network, columns, rng=0)
        if error > _NEAR:
            warnings.warn(
                "the closest matrix of this network that was found has a relative Frobenius error"
                f" of {error:.2g}; {_remedy(columns, error)}",
                stacklevel=2,
            )
        return rotation

    def extra_repr(self) -> str:
        """Return the text that torch prints between the parentheses."""
        return f"{self.network!r}, shape={self.shape}, parametrization={self.parametrization!r}"


def _remedy(columns: npt.NDArray[np.float64], error: float) -> str:
    """Return what to do about the error of a fit to columns (d, n)."""
    left, sizes, right = np.linalg.svd(columns, full_matrices=False)
    signs = np.ones(len(sizes))
    if columns.shape[0] == columns.shape[1]:
        signs[-1] = np.sign(np.linalg.det(left @ right))
    closest = (left * signs) @ right  # of all rotations, or matrices with orthonormal columns
    least = float(np.linalg.norm(closest - columns) / np.linalg.norm(columns))
    if error > 1.01 * least + _NEAR:
        return "use a deeper network to approximate the weight better"
    return (
        f"no topology has an error below {least:.2g}, because the weight is not orthogonal or"
        " has determinant −1"
    )
