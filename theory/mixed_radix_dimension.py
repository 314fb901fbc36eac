"""Mixed-radix networks have no redundant parameter: the dimension is (d/2)·Σ(r_t − 1).

Statement. Let d = ∏r_t, write the number of each wire in the mixed-radix system with radices r_t,
and let stage t join the wires that differ in digit t only. The dimension of the network is its
number of parameters, d·Σ(r_t − 1)/2. Radix-2 butterflies and Monarch networks are of this kind, and
the stages may be in any order.

Proof. Two wires that share a switch of stage t differ in digit t and in no other, so they share no
switch in another stage: the E_t are disjoint, and by T2 the dimension is Σ|E_t|.

Source: derived here, with T2.
"""

from __future__ import annotations

import itertools

import structmat as sm
from theory._tools import pairs

NUMBER = "T5"
STATUS = "proved"
WIDEST = 64
MOST = 300  # parameters: a prime width is one large block


def check() -> str:
    """Verify disjoint pairs and exact dimensions at many widths and in several stage orders."""
    cases = 0
    nets = [sm.mixed_radix(width) for width in range(2, WIDEST + 1)]
    nets = [net for net in nets if net.parameters <= MOST]
    nets += [sm.mixed_radix(60, radices) for radices in itertools.permutations((3, 4, 5))]
    nets += [sm.monarch(64), sm.butterfly(64), sm.mixed_radix(96, largest=4, reverse=True)]
    for net in nets:
        met = pairs(net)
        assert sum(map(len, met)) == len(set().union(*met)) == net.parameters, net
        radices = [stage.banks[0].radix for stage in net.stages]
        assert 2 * net.parameters == net.width * sum(r - 1 for r in radices), net
        found = sm.dimension(net)
        assert found.proved, net
        assert found.value == net.parameters, net
        cases += 1
    return f"{cases} networks of up to 96 wires, in several stage orders"
