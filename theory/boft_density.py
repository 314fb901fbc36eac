"""The block butterfly BOFT(m, b) on d wires is dense exactly when d = b·2^(m−1).

Statement. Let b be even and let b·2^(m−1) divide d. Stage i of BOFT(m, b) joins the half-blocks (of
b/2 neighbouring wires) that lie 2^i apart, i = 0 … m−1. Every input influences every output if and
only if d = b·2^(m−1).

Proof. Number the 2d/b half-blocks. 2^m divides 2d/b, so stage i joins half-block h to h with bit i
flipped, without carries. After all m stages a wire of half-block h influences exactly the
half-blocks whose numbers differ from h in the last m bits only: 2^m of them, with all their wires.
These are all half-blocks exactly when 2d/b = 2^m.

Source: Liu et al., arXiv 2311.06243, section 4.
"""

from __future__ import annotations

import structmat as sm

NUMBER = "T24"
STATUS = "proved"
WIDEST = 256


def check() -> str:
    """Follow every input through every BOFT(m, b) up to a maximum width."""
    cases = 0
    for block in range(2, 19, 2):
        for width in range(block, WIDEST + 1, block):
            depth = 1
            while width % (block << (depth - 1)) == 0:
                net = sm.butterfly(width, block, depth)
                assert sm.is_dense(net) == (width == block << (depth - 1)), net
                reached = sm.reach(net).sum(axis=1)
                assert set(reached.tolist()) == {block << (depth - 1)}, net
                cases += 1
                depth += 1
    return f"all {cases} networks of up to {WIDEST} wires with blocks up to 18"
