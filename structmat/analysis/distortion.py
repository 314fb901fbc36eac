"""Bounds on the distortion of lengths when the outputs of a rotation with signs are sampled."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from structmat.analysis.sign_moments import moment_factor
from structmat.errors import StructmatError, abbreviated, checked_integer


def rms_distortion(
    width: int, outputs: int, largest_quartic_sum: float, *, field: str = "real"
) -> float:
    """Return a bound on the root mean square of ‖S R D x‖²·d/m − 1, for every unit vector x.

    S selects m of the d outputs, uniformly without replacement, and D consists of independent
    random signs, with R and x real, or of random phases. With y = R D x, the mean square over S and
    D is exactly (d−m)/((d−1)·m)·(d·Σ E|y_i|⁴ − 1), and Σ E|y_i|⁴ ≤ α·max_j Σ_i |R_ij|⁴, α = 3 for
    signs and 2 for phases (`structmat.analysis.sign_moments.fourth_moment`).

    Parameters
    ----------
    width, outputs : int
        d, and m from 1 to d.
    largest_quartic_sum : float
        The maximum over j of Σ_i |R_ij|⁴, from 1/d to 1.
    field : {"real", "complex"}
        Random signs, or random phases.

    Raises
    ------
    StructmatError
        If the number of outputs is not from 1 to the width.

    Examples
    --------
    >>> round(rms_distortion(768, 128, 1 / 768), 3)               # all |R_ij|² = 1/d
    0.114
    >>> rms_distortion(768, 768, 1.0)
    0.0
    """
    m = _checked_outputs(outputs, width)
    if m == width:
        return 0.0
    spread = width * moment_factor(field) * largest_quartic_sum - 1
    return math.sqrt((width - m) / ((width - 1) * m) * spread)


def distortion(
    width: int, outputs: int, coherence: float, *, vectors: int = 1, failure: float = 0.01
) -> float:
    """Return an ε such that ‖S R D x‖²·d/m is within ε of ‖x‖² for each of N vectors.

    S and D are as for `rms_distortion`. The bound holds simultaneously for N vectors chosen
    independently of S and D, with probability at least 1 − δ. With the coherence K = √d·max |R_ij|,
    Hoeffding's inequality over the signs bounds all d·|y_i|² by L = min(d, 2K²·ln(4dN/δ)), except
    with probability δ/2. The variance of d·|y_i|² over the outputs i is then at most L − 1, and by
    Bernstein's inequality for samples without replacement, except with probability δ/2,
    ε = (b·ℓ/3 + √((b·ℓ/3)² + 2m(L−1)ℓ))/m with b = max(L − 1, 1) and ℓ = ln(4N/δ).
    The result is at most max(1, d/m − 1), which always holds, because the energy of the sample is
    between 0 and ‖x‖².

    Parameters
    ----------
    width, outputs : int
        d, and m from 1 to d.
    coherence : float
        From 1 to √d.
    vectors : int
        N.
    failure : float
        δ, between 0 and 1.

    Returns
    -------
    float
        0 for m = d. Values from 1 on do not bound ‖S R D x‖ from below.

    Raises
    ------
    StructmatError
        If an argument is out of range.

    References
    ----------
    W. Hoeffding, Probability inequalities for sums of bounded random variables, Journal of the
    American Statistical Association 58, 1963 (with section 6 on sampling without replacement).
    N. Ailon, B. Chazelle, The fast Johnson–Lindenstrauss transform and approximate nearest
    neighbors, SIAM Journal on Computing 39, 2009. S. Foucart, H. Rauhut, A mathematical
    introduction to compressive sensing, 2013 (for random phases).

    Examples
    --------
    >>> round(distortion(2**20, 2**14, 1.0, vectors=1000), 3)
    0.302
    """
    m = _checked_outputs(outputs, width)
    count = checked_integer(vectors, "vectors", 1)
    if count >= 2**64:
        raise StructmatError(f"vectors={abbreviated(count)}: it must be at most 2^64 − 1")
    log = math.log(4 * count) - math.log(checked_failure(failure))
    if m == width:
        return 0.0
    largest = min(width, 2 * coherence**2 * (math.log(width) + log))
    variance = largest - 1
    step = max(variance, 1) * log / 3
    bound = (step + math.sqrt(step**2 + 2 * m * variance * log)) / m
    return min(bound, max(1.0, width / m - 1))


def checked_failure(failure: Any) -> float:
    """Return a probability of failure as a float.

    Raises
    ------
    StructmatError
        If it is not a number between 0 and 1.

    Examples
    --------
    >>> checked_failure(0.01)
    0.01
    """
    probability = float(failure) if isinstance(failure, Real) else 0.0
    if not 0 < probability < 1:
        raise StructmatError(
            f"failure={abbreviated(failure)}: it must be a probability between 0 and 1, such as"
            " 0.01"
        )
    return probability


def _checked_outputs(outputs: int, width: int) -> int:
    m = checked_integer(outputs, "outputs", 1)
    if m > width:
        raise StructmatError(f"outputs={m}: it must be at most the width {width}")
    return m
