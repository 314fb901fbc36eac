"""Refuted: the dimension is the parameters minus the gauge redundancy of neighbouring stages.

Statement. The dimension of a straight network is always min(d(d−1)/2, Σ|E_t| − Σ|E_t ∩ E_(t+1)|).

Refutation. On six wires the stages {0, 2, 3, 5}, {1, 4}; {0, 3}, {1, 2}, {4, 5}; {1, 2, 3, 4}, {0,
5} have 7 + 3 + 7 parameters and a gauge redundancy of two between neighbouring stages, so the
formula yields 15 = 6·5/2, whereas the dimension is 14. The reason is that switch {0, 3} can be
absorbed into {0, 2, 3, 5} before it, and {1, 2} into {1, 2, 3, 4} after it, which accounts for the
redundancy of two. Wires 2 and 3 then lead directly from {0, 2, 3, 5} to {1, 2, 3, 4}, which is one
more redundancy. The dimension is 6 + 1 + 1 + 6 + 1 − 1 = 14. The statement holds if every pair is
joined in consecutive stages only (T2).

Source: derived here.
"""

from __future__ import annotations

import itertools

import structmat as sm
from structmat.analysis.switch_lists import upper_bound
from theory._tools import pairs

NUMBER = "T34"
STATUS = "refuted"


def check() -> str:
    """Compute the bound and the dimension."""
    stages = [[[0, 2, 3, 5], [1, 4]], [[0, 3], [1, 2], [4, 5]], [[1, 2, 3, 4], [0, 5]]]
    net = sm.Network.of(6, stages)
    met = pairs(net)
    plain = sum(map(len, met)) - sum(len(a & b) for a, b in itertools.pairwise(met))
    assert plain == 15
    found = sm.dimension(net, points=3)
    assert found.proved
    assert found.value == upper_bound(net) == 14
    return "six wires: the formula yields 15, the dimension is 14"
