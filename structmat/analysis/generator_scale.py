"""The factor by which trained numbers are multiplied to obtain generators.

With this factor, about the same learning rate is best for all block sizes, depths and
parametrizations; docs/learning-rates.md reports measurements.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from structmat.analysis import gauge
from structmat.errors import StructmatError, abbreviated, checked_field
from structmat.families.resolution import checked
from structmat.linalg.blocks import checked_parametrization
from structmat.networks.network import Network

Places = npt.NDArray[np.int64]

STEP = 10.0  # with this constant, the learning rates of LoRA suit rotations, too

# The derivative of a block with respect to its skew-symmetric matrix Q, at Q = 0
SLOPES = {"cayley": 2, "exp": 1, "givens": 1, "householder": 2, "cayley_neumann": 2}


def generator_scale(
    network: Network,
    parametrization: str = "cayley",
    field: str = "real",
    *,
    reduced: bool = False,
    optimiser: str = "adam",
) -> float:
    """Return the factor by which `Orthogonal` multiplies its trained numbers to obtain generators.

    Let κ be the derivative of a block (`SLOPES`), k the number of switches that contain a pair of
    wires, n = (2/d)·Σ k² and n₁ = (2/d)·Σ k over all pairs. If no two wires share more than one
    switch, n and n₁ are the mean number of other wires with which a wire shares a switch. A step of
    Adam changes every trained number by about the same amount. If the changes are unrelated, they
    rotate a vector by an angle proportional to κ·√n (see `step_rotation`); if they all act in the
    same direction, the angle is proportional to κ·n₁. Gradients lie in between, and so do the best
    learning rates that were measured. The factor is therefore STEP / (κ·√(n₁·√n)), which contains
    the geometric mean of both. For gradient descent without adaptive steps (SGD), it is
    STEP / (κ·√n₁), with which the curvature is about the same for every network if the inputs have
    a common direction (claim T61 of theory/).

    Parameters
    ----------
    network : Network
    parametrization : {"cayley", "exp", "givens", "householder", "cayley_neumann"}
    field : {"real", "complex"}
        Whether the blocks are orthogonal or unitary.
    reduced : bool
        Whether redundant generators are omitted, as by `structmat.reduced`.
    optimiser : {"adam", "sgd"}
        "adam" is for all optimisers whose steps do not depend on the scale of the gradients, such
        as AdamW and Lion.

    Returns
    -------
    float
        Positive; 1 for a network without generators.

    Raises
    ------
    BlockError
        For an unknown parametrization.
    StructmatError
        For an unknown field or optimiser.

    Examples
    --------
    >>> from structmat.families import block_diagonal
    >>> [generator_scale(block_diagonal(680, block=b)) for b in (2, 17)]
    [5.0, 0.625]
    """
    if optimiser not in ("adam", "sgd"):
        raise StructmatError(
            f'optimiser={abbreviated(optimiser)}: it must be "adam", for adaptive optimisers, or'
            ' "sgd"'
        )
    network = checked(network, "generator_scale")
    slope = SLOPES[checked_parametrization(parametrization)]
    total, squares = _meetings(network, checked_field(field), bool(reduced))
    if not total:
        return 1.0
    return float(STEP / slope / (total * squares**0.5 if optimiser == "adam" else total) ** 0.5)


def step_rotation(
    network: Network, parametrization: str = "cayley", field: str = "real", *, reduced: bool = False
) -> float:
    """Return the angle by which R rotates for each unit of change of the generators, in radians.

    The result is lim ‖R(ηg) − R(0)‖_F / (η√d) for η → 0. The entries of g are ±1, with signs that
    have equal effects where several switches contain the same pair of wires, as after the first
    step of Adam or of sign descent. The result is also the root mean square of the angle between
    R(ηg)x and R(0)x for random vectors x, divided by η.

    At the identity R changes by κ·Σ_t S_t(g) to first order, where κ is the derivative of a block
    (`SLOPES`), and S_t is the skew-symmetric matrix of stage t, with its wires traced back to the
    inputs. Entry (i, j) of the sum is ±k if k switches contain wires i and j. Therefore, the result
    is κ√n with n = (2/d)·Σ k² over all pairs of wires. Unitary blocks have two generators for each
    pair and one for each wire, which adds (2/d)·Σ k² over the pairs and (1/d)·Σ k² over the wires
    to n, where k counts the switches that contain the wire.

    Parameters
    ----------
    network, parametrization, field, reduced
        As for `generator_scale`.

    Raises
    ------
    BlockError
        For an unknown parametrization.

    Examples
    --------
    >>> net = Network.of(4, [[[0, 1], [2, 3]]])
    >>> step_rotation(net, "exp"), step_rotation(net, "cayley"), step_rotation(net @ net, "exp")
    (1.0, 2.0, 2.0)
    """
    network = checked(network, "step_rotation")
    slope = SLOPES[checked_parametrization(parametrization)]
    return float(slope * _meetings(network, checked_field(field), bool(reduced))[1] ** 0.5)


@lru_cache(maxsize=64)  # a model has many layers of a few widths
def _meetings(network: Network, field: str, is_reduced: bool) -> tuple[float, float]:  # noqa: FBT001
    """Return n₁ and n of `generator_scale`, with the additional generators of unitary blocks."""
    places, times = np.unique(_places(network, field, is_reduced=is_reduced), return_counts=True)
    weights = np.where(places < 2 * network.width**2, 2, 1)  # ‖S‖² of a pair, and of a phase
    total, squares = ((weights * times**k).sum() / network.width for k in (1, 2))
    return float(total), float(squares)


def _places(network: Network, field: str, *, is_reduced: bool) -> Places:
    """Return a number for each generator, equal for generators with equal effects at the identity.

    Generators of a pair of wires have numbers below 2·width², phases of wires larger ones.
    """
    width = network.width
    found = [np.empty(0, dtype=np.int64)]
    banks = network.straightened().network.banks
    kept = gauge.reduced(network, field=field).kept if is_reduced else [None] * len(banks)
    for bank, mask in zip(banks, kept, strict=True):
        i, j = np.triu_indices(bank.radix, 1)
        one, other = bank.reads[:, i], bank.reads[:, j]
        pairs = np.minimum(one, other) * width + np.maximum(one, other)
        unitary = (pairs + width**2, bank.reads + 2 * width**2) if field == "complex" else ()
        numbers = np.concatenate([pairs, *unitary], axis=1)
        found.append(numbers.ravel() if mask is None else numbers[mask])
    return np.concatenate(found)
