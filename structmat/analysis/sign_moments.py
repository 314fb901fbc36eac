"""Fourth moments of an output over random signs or phases of the inputs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from structmat.errors import checked_field

Array = npt.NDArray[np.float64]


def fourth_moment(energies: npt.ArrayLike, x: npt.ArrayLike, *, field: str = "real") -> Array:
    """Return E|(R D x)_i|⁴ for random signs D, or random phases of a unitary R.

    With a_j = |R_ij|² and p_j = |x_j|², the moment is 3(Σ a_j·p_j)² − 2·Σ a_j²·p_j² for independent
    random signs and real R and x, and 2(Σ a_j·p_j)² − Σ a_j²·p_j² for independent, uniformly
    distributed phases. Both follow from expanding the fourth power of the sum.

    Parameters
    ----------
    energies : (..., d)
        |R_ij|² along row i.
    x : (d,)
    field : {"real", "complex"}
        Random signs, or random phases.

    Returns
    -------
    (...,)

    Examples
    --------
    >>> fourth_moment([0.5, 0.5], [0.6, 0.8])           # ((0.6 ± 0.8)/√2)⁴: the mean of two values
    array(0.4804)
    """
    terms = np.asarray(energies, dtype=float) * np.abs(np.asarray(x)) ** 2
    most = moment_factor(field)
    return np.asarray(most * terms.sum(axis=-1) ** 2 - (most - 1) * (terms**2).sum(axis=-1))


def largest_fourth_moments(energies: npt.ArrayLike, *, field: str = "real") -> Array:
    """Return, for each row of R, the maximum of `fourth_moment` over all unit vectors x, exactly.

    With α = 3 for signs and 2 for phases, α(Σ a_j·p_j)² − (α−1)·Σ a_j²·p_j² is maximised over the
    simplex of p. By the conditions of Karush, Kuhn and Tucker, a maximum is supported on the k
    largest a_j, for some k, and has the value λ = (α−1)c/(α·h₁² − c·h₂), where c = αk − α + 1 and
    h_n = Σ a_j⁻ⁿ over this support; such a point exists if α·a_j·h₁ ≥ c for the least of these a_j,
    which is therefore at least 1/α times the greatest. The maximum is the largest of at most d
    values. For k equal a_j it is (α − (α−1)/k)·a².

    Parameters
    ----------
    energies : (rows, d)
        |R_ij|².
    field : {"real", "complex"}
        Random signs, or random phases.

    Returns
    -------
    (rows,)

    Examples
    --------
    >>> largest_fourth_moments([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    array([0.15625, 1.     ])
    """
    a = -np.sort(-np.asarray(energies, dtype=float), axis=-1)
    top = a[:, :1]
    a = np.divide(a, top, out=np.zeros_like(a), where=top > 0)
    most = moment_factor(field)
    candidates = a > 0.5 / most
    inverse = np.divide(1.0, a, out=np.zeros_like(a), where=candidates)
    c = most * np.arange(1, a.shape[-1] + 1) - (most - 1)
    h1, h2 = np.cumsum(inverse, axis=-1), np.cumsum(inverse**2, axis=-1)
    exists = candidates & (most * a * h1 >= c)
    value = np.divide((most - 1) * c, most * h1**2 - c * h2, out=np.zeros_like(a), where=exists)
    best: Array = value.max(axis=-1) * top[:, 0] ** 2
    return best


def haar_fourth_moment(width: int, *, field: str = "real") -> float:
    """Return E|y_i|⁴ for the image y of a unit vector under a Haar matrix.

    As y is uniform on the sphere, this is 3/(d(d+2)) for orthogonal and 2/(d(d+1)) for unitary
    matrices, that is, α/(d(d+α−1)).

    Examples
    --------
    >>> haar_fourth_moment(4), haar_fourth_moment(4, field="complex")
    (0.125, 0.1)
    """
    most = moment_factor(field)
    return most / (width * (width + most - 1))


def moment_factor(field: str) -> int:
    """Return α, 3 for signs and 2 for phases: E|Σ ε_j c_j|⁴ = α(Σ|c_j|²)² − (α−1)·Σ|c_j|⁴.

    Examples
    --------
    >>> moment_factor("real"), moment_factor("complex")
    (3, 2)
    """
    return 2 if checked_field(field) == "complex" else 3
