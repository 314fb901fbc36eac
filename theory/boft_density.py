"""The block butterfly BOFT(m, b) on d wires is dense exactly when d = b·2^(m−1).

Statement. Let b be even and let b·2^(m−1) divide d. Number the half-blocks of b/2 neighbouring
wires from 0. Stage i of BOFT(m, b), i = 0 … m−1, joins those half-blocks whose numbers differ in
bit i only. Every input influences every output if and only if d = b·2^(m−1).

Proof. There are 2d/b half-blocks, a multiple of 2^m, so flipping any of the last m bits of a number
yields the number of a half-block. After all m stages a wire of half-block h influences exactly the
wires of the 2^m half-blocks whose numbers differ from h at most in the last m bits. These are all
half-blocks exactly when 2d/b = 2^m.

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
