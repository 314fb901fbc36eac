"""Over random signs, E y_i⁴ = 3(Σ R_ij² x_j²)² − 2·Σ R_ij⁴ x_j⁴, with a known maximum over x.

Statement. Let y = R D x with independent random signs D. Then E y_i² = Σ_j R_ij² x_j² and
E y_i⁴ = α(Σ_j R_ij² x_j²)² − (α−1)·Σ_j R_ij⁴ x_j⁴ with α = 3; if R or x is complex and D consists
of independent uniform phases, this holds for the absolute values with α = 2. The maximum of the
second moment over unit vectors x is max_j |R_ij|². That of the fourth is max_k λ_k, where a_1 ≥ a_2
≥ … are the |R_ij|² of row i, c = αk − α + 1, h_n = Σ_{j≤k} a_j^(−n), λ_k = (α−1)c/(α·h_1² − c·h_2),
and k runs over those numbers with α·a_k·h_1 ≥ c. If all a_j = 1/d, it is (α − (α−1)/d)/d², compared
with 3/(d(d+2)) or 2/(d(d+1)) for a Haar matrix.

Proof. Expand the power: only terms in which each sign occurs an even number of times, or each phase
as often as its conjugate, have a non-zero mean. With p_j = |x_j|² and s = Σ a_j p_j, the fourth
moment is f = αs² − (α−1)·Σ a_j² p_j², a quadratic form on the simplex. A maximum satisfies the
conditions of Karush, Kuhn and Tucker: α·a_j·s − (α−1)·a_j²·p_j = λ where p_j > 0, and α·a_j·s ≤ λ
where p_j = 0. So p_j > 0 exactly where a_j > λ/(αs): the support consists of the k largest a_j, for
some k. Multiply by p_j and add: λ = f. Divide by a_j, or by a_j², and add: s(α−1) = αks − λ·h_1 and
α−1 = α·s·h_1 − λ·h_2, so λ = λ_k; and p_j ≥ 0 on the support is the condition stated. Conversely,
for any k that satisfies it these p_j are in the simplex and f = λ_k, so none of the λ_k exceeds the
maximum. The second moment is linear in p.

Source: derived here; the moments of sums of signs are classical.
"""

from __future__ import annotations

import itertools

import numpy as np
import sympy

from structmat.analysis.sign_moments import fourth_moment, largest_fourth_moments

NUMBER = "T43"
STATUS = "proved"


def check() -> str:
    """Expand symbolically, solve the conditions symbolically, and search over grids of x."""
    for terms in range(1, 5):
        _check_expansion(terms)
    alpha, k, h1, h2, s, value = sympy.symbols("alpha k h1 h2 s lambda")
    c = alpha * k - alpha + 1
    (solution,) = sympy.solve(
        [s * (alpha - 1) - alpha * k * s + value * h1, alpha - 1 - alpha * s * h1 + value * h2],
        [s, value],
        dict=True,
    )
    expected = (alpha - 1) * c / (alpha * h1**2 - c * h2)
    assert sympy.simplify(solution[value] - expected) == 0
    d = sympy.Symbol("d", positive=True)
    even = expected.subs({k: d, h1: d * d, h2: d**3})
    assert sympy.simplify(even - (alpha - (alpha - 1) / d) / d**2) == 0
    points = _grid(4, 24)
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.dirichlet([scale] * 4, 40) for scale in (0.2, 1.0, 20.0)])
    for field in ("real", "complex"):
        largest = largest_fourth_moments(rows, field=field)
        found = np.array([fourth_moment(rows, x, field=field) for x in np.sqrt(points)])
        assert (found <= largest * (1 + 1e-12)).all()
        assert (found.max(axis=0) >= 0.97 * largest).all()
    return f"up to 4 terms and the maximum symbolically; {len(rows)} rows, {len(points)} vectors"


def _check_expansion(terms: int) -> None:
    """Compare the mean over all signs, and over uniform phases, with the formulas."""
    u = sympy.symbols(f"u:{terms}", real=True)
    total = sum(
        sympy.expand(sum(e * v for e, v in zip(signs, u, strict=True)) ** 4)
        for signs in itertools.product([1, -1], repeat=terms)
    )
    second, fourth = sum(v**2 for v in u), sum(v**4 for v in u)
    assert sympy.expand(total / 2**terms - 3 * second**2 + 2 * fourth) == 0
    mean = 0
    for i, j, k, m in itertools.product(range(terms), repeat=4):
        if sorted((i, j)) == sorted((k, m)):  # E[ε_i ε_j conj(ε_k ε_m)] = 1, and otherwise 0
            mean += u[i] * u[j] * u[k] * u[m]
    assert sympy.expand(mean - 2 * second**2 + fourth) == 0


def _grid(terms: int, steps: int) -> np.ndarray:
    """Return the points of the simplex whose coordinates are multiples of 1/steps."""
    found = [p for p in itertools.product(range(steps + 1), repeat=terms) if sum(p) == steps]
    return np.array(found) / steps
