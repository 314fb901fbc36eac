"""Perfect mixing needs (d/2)·log₂ d parameters, and each prime factor of d must divide some radix.

Statement. Let W_t be the averaging projection of stage t: each wire is replaced by the mean over
its switch, and an idle wire is unchanged. If W = W_m ⋯ W_1 is exactly J/d, with every entry 1/d,
then the network has at least (d/2)·log₂ d parameters, and each prime factor of d divides some
radix. The radix-2 butterfly attains this bound. For density, fewer parameters suffice if d > 8
(T7). A mixed-radix network mixes perfectly at every width d. If its blocks are flat, that is, all
entries of a block of radix r have the modulus r^(−1/2), all entries of R have the modulus d^(−1/2).

Proof. Rows of products of the W_t are distributions on the inputs. Initially each is a point mass,
of entropy 0; if W = J/d, each has entropy log₂ d in the end, d·log₂ d in total. A switch of r wires
replaces r rows by their mean. This raises the sum of their entropies by r times the Jensen–Shannon
divergence of the rows, which is at most log₂ r. So d·log₂ d ≤ Σ r·log₂ r over the switches; and
log₂ r ≤ r − 1, so this is at most Σ r(r−1), twice the parameters. As for the prime factors: entries
of W are sums of products of 1/r, and 1/d is such a sum only if each prime factor of d divides some
r. In a mixed-radix network each W_t averages over one digit, so W = J/d; with radix 2 it has
(d/2)·log₂ d parameters. There is one path from each input to each output, so an entry of R is a
product of one entry of each stage, of modulus ∏ r_t^(−1/2) = d^(−1/2) if the blocks are flat.

Source: derived here.
"""

from __future__ import annotations

from fractions import Fraction
from math import log2

import numpy as np
from scipy.linalg import dft

import structmat as sm
from structmat.linalg.factors import matrix_of
from theory._tools import every_network, switches

NUMBER = "T9"
STATUS = "proved"
TINY = 1e-12  # the non-zero values here are at least 1/8


def averages(net: sm.Network) -> list[list[Fraction]]:
    """Return W, in rational arithmetic."""
    rows = [[Fraction(int(i == j)) for j in range(net.width)] for i in range(net.width)]
    for stage in switches(net):
        for wires in stage:
            mean = [
                sum(column) / len(wires) for column in zip(*(rows[w] for w in wires), strict=True)
            ]
            for w in wires:
                rows[w] = mean
    return rows


def mixes(net: sm.Network) -> bool:
    """Return whether W is exactly J/d."""
    return all(x == Fraction(1, net.width) for row in averages(net) for x in row)


def entropy(rows: np.ndarray) -> float:
    """Return the sum of the entropies of the rows, in bits."""
    return float(-(rows * np.log2(np.where(rows > 0, rows, 1))).sum())


def check() -> str:
    """Enumerate small networks, follow the entropy through large ones, test mixed radices."""
    small = [net for d, m in [(2, 2), (3, 3), (4, 2)] for net in every_network(d, m)]
    perfect = [net for net in small if mixes(net)]
    for net in small:
        assert (sm.mixing(net) < TINY) == mixes(net), net
    for net in perfect:
        least = net.width * log2(net.width) / 2
        assert net.parameters >= least, net
        assert _has_the_primes(net), net
    assert not any(mixes(sm.brickwall(3).repeat(k)) for k in range(1, 9)), "3 divides no radix"
    for width in range(2, 49):
        net = sm.mixed_radix(width)
        assert mixes(net), width
        if width & (width - 1) == 0:
            assert 2 * net.parameters == width * (width.bit_length() - 1), width
    for net in (sm.butterfly(256), sm.shuffle(48, 4), sm.random(60, 5, 4, rng=0), sm.gossip(64)):
        rows = np.eye(net.width)
        for stage in net.stages:
            before = entropy(rows)
            for bank in stage.banks:
                rows[bank.reads] = rows[bank.reads].mean(axis=1, keepdims=True)
            gain = sum(b.count * b.radix * log2(b.radix) for b in stage.banks)
            assert entropy(rows) - before <= gain + 1e-9 * net.width, net
    rng = np.random.default_rng(0)
    for width in range(2, 49):
        r = flat_rotation(sm.mixed_radix(width), rng)
        assert np.abs(np.abs(r) * width**0.5 - 1).max() <= TINY, width
    return f"{len(small)} small networks, {len(perfect)} of which mix perfectly; widths to 256"


def flat_rotation(net: sm.Network, rng: np.random.Generator) -> np.ndarray:
    """Return the matrix of a network with Fourier blocks and random phases of their inputs."""
    blocks = []
    for bank in net.banks:
        phases = np.exp(2j * np.pi * rng.random((bank.count, 1, bank.radix)))
        blocks.append(dft(bank.radix, scale="sqrtn") * phases)
    return matrix_of(net, blocks)


def _has_the_primes(net: sm.Network) -> bool:
    radices = {bank.radix for bank in net.banks}
    primes = (p for p in range(2, net.width + 1) if all(p % k for k in range(2, p)))
    return all(any(r % p == 0 for r in radices) for p in primes if net.width % p == 0)
