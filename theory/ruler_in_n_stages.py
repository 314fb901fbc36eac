"""Refuted: the ruler network of 2^n wires is dense after n stages.

Statement. After n = log₂ d stages of the ruler every input influences every output.

Refutation. In the sequence of strides 1, 2, 1, 4, … the first d/2 is at stage d/2, and before it
the two halves are not connected. At that stage the network is dense, because by induction the
preceding stages are dense on each half. So the ruler first becomes dense at stage d/2, which is n
only for d = 2 and 4. (The butterfly is dense after n stages.)

Source: derived here.
"""

from __future__ import annotations

import structmat as sm

NUMBER = "T35"
STATUS = "refuted"


def check() -> str:
    """Find the first dense stage."""
    for n in range(1, 11):
        net = sm.ruler(1 << n)
        dense = max(1, (1 << n) // 2)
        assert sm.is_dense(net[:dense]), n
        assert dense == 1 or not sm.is_dense(net[: dense - 1]), n
        assert sm.is_dense(net[:n]) == (n <= 2), n
        assert sm.is_dense(sm.butterfly(1 << n)[:n]), n
    return "rulers up to 1024 wires: dense at stage d/2"
