"""Blocks of b need ⌈log_b d⌉ stages to be dense; the perfect shuffle attains this if b divides d.

Statement. If no switch has more than b wires, at most b^m inputs influence an output after m
stages, so density needs b^m ≥ d, whatever the wiring. With blocks of b contiguous wires and the
shuffle i → (i mod r)·b + ⌊i/r⌋ between stages, r = d/b, the network is dense exactly when b^m ≥ d,
for every width d that is a multiple of b.

Proof. Backwards from an output, each stage multiplies the number of wires by at most b. Forwards,
let a signal be in block g. Its switch may put it on any of the wires gb + k, 0 ≤ k < b, and the
shuffle takes wire i into block i mod r, so the signal moves to block (gb + k) mod r: this is a walk
in a generalised de Bruijn graph. By induction, in stage m the signal may be in the blocks
(g·b^(m−1) + k) mod r, 0 ≤ k < b^(m−1): these are b^(m−1) consecutive residues, or all r of them.
The last switch takes it to every wire of its block, so every input influences every output exactly
when b^(m−1) ≥ r, that is, b^m ≥ d.

Source: Gorbunov et al., arXiv 2406.10019 (GSOFT); the graph is that of Reddy, Pradhan and Kuhl
(1980) and of Imase and Itoh (1981).
"""

from __future__ import annotations

import structmat as sm

NUMBER = "T6"
STATUS = "proved"
WIDEST = 240


def check() -> str:
    """Compare the residues of the proof with structmat's networks, for every width."""
    cases = 0
    for block in range(2, 9):
        for width in range(block, WIDEST + 1, block):
            groups = width // block
            for depth in range(1, sm.shuffle(width, block).depth + 2):
                blocks = {k % groups for k in range(min(groups, block ** (depth - 1)))}
                dense = sm.is_dense(sm.shuffle(width, block, depth))
                assert dense == (block**depth >= width) == (len(blocks) == groups), (width, block)
                cases += 1
    return f"{cases} networks: all widths to {WIDEST}, blocks to 8, depths to one past the bound"
