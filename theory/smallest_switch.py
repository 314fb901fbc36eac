"""A dense network of radices up to b in m stages satisfies s·b^(m−1) ≥ d with s = ⌊d/⌈d/b⌉⌋.

Statement. If no switch has more than b wires and every input influences every output after m
stages, then s·b^(m−1) ≥ d with s = ⌊d/⌈d/b⌉⌋. The least such m is ⌈log_b d⌉ or one more; for b = 2
and odd d it is one more (T39). If b divides d, s = b, and this is the bound of T6.

Proof. The first stage partitions the d wires into switches of at most b wires and idle wires, at
least ⌈d/b⌉ parts in total, so the smallest part has at most d/⌈d/b⌉ wires. An input in that part
influences at most s wires after the first stage, and each further stage multiplies their number by
at most b. Since s ≥ 1, m = ⌈log_b d⌉ + 1 satisfies the inequality.

Source: derived here; W. Knödel 1975 for b = 2.
"""

from __future__ import annotations

import numpy as np

import structmat as sm
from theory._tools import layers

NUMBER = "T55"
STATUS = "proved"


def least(width: int, block: int) -> int:
    """Return the least m of the statement."""
    smallest, depth = width // -(-width // block), 1
    while smallest * block ** (depth - 1) < width:
        depth += 1
    return depth


def check() -> str:
    """Try all networks of few wires, and compare the bound with `deal` and with T6."""
    for width, block in [(3, 2), (5, 2), (5, 3), (5, 4)]:
        stages = layers(width, block).astype(bool)
        reached = {np.eye(width, dtype=bool).tobytes()}
        for _ in range(least(width, block) - 1):
            after = set()
            for one in reached:
                before = np.frombuffer(one, dtype=bool).reshape(width, width)
                after |= {(stage @ before).tobytes() for stage in stages}
            reached = after
            assert np.ones((width, width), dtype=bool).tobytes() not in reached
    met = 0
    for block in range(2, 9):
        for width in range(block, 200):
            bound = least(width, block)
            simple = least(-(-width // block) * block, block) if width % block == 0 else 0
            assert bound >= simple
            assert block**bound >= width
            assert block ** (bound - 2) < width
            (row,) = [
                r
                for r in sm.lower_bounds(width, block=block).rows
                if r.quantity == "depth" and r.goal == "dense"
            ]
            assert row.least == bound
            depth = sm.parse(f"deal(block={block})").claims(width).depth
            assert depth is not None
            assert depth >= bound
            met += depth == bound
    return f"all networks of up to 5 wires; deal meets the bound in {met} of 1,365 cases"
