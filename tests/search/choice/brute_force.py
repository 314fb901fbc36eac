"""Compare choices with all families, from networks that are built and measured independently.

`python -m tests.search.choice.brute_force` compares at 300 widths; the tests do so at a few.
"""

from __future__ import annotations

import math
import sys
import time

import networkx as nx
import numpy as np

import structmat as sm
from structmat.search.choice.ranking import DEFAULT, choose
from structmat.search.dense_networks import dense_member, dense_members

MODELS = (192, 384, 768, 1000, 1024, 1032, 1536, 2304, 3072, 4096, 4304, 11008, 13696, 14336, 29568)
VECTORS, SPEED, ARITHMETIC, BLOCKS, LAUNCH = (
    2048,
    5e10,
    3e11,
    2e10,
    1.5e-5,
)  # parameters of the time model


def averaging(net):
    """Return the product of the averaging matrices, by wires and switches instead of banks."""
    spread = np.eye(net.width)
    for stage in net.stages:
        after = spread.copy()
        for bank in stage.banks:
            for reads, writes in zip(bank.reads, bank.writes, strict=True):
                after[writes] = spread[reads].mean(axis=0)
        for source, to in stage.moves:
            after[to] = spread[source]
        spread = after
    return spread


def deviation(net):
    """Return the distance from perfect mixing, from all singular values."""
    return np.linalg.norm(averaging(net) - 1 / net.width, 2)


def is_dense(net):
    """Return whether every output is reached from every input, by graph search."""
    graph = nx.DiGraph()
    for t, stage in enumerate(net.stages):
        for bank in stage.banks:
            for s, (reads, writes) in enumerate(zip(bank.reads, bank.writes, strict=True)):
                switch = ("switch", t, id(bank), s)
                graph.add_edges_from(((t, int(w)), switch) for w in reads)
                graph.add_edges_from((switch, (t + 1, int(w))) for w in writes)
        graph.add_edges_from(((t, int(w)), (t + 1, int(v))) for w, v in stage.moves)
        graph.add_edges_from(((t, int(w)), (t + 1, int(w))) for w in stage.idle)
    last = {(net.depth, wire) for wire in range(net.width)}
    return all(last <= nx.descendants(graph, (0, wire)) for wire in range(net.width))


def modelled(net):
    """Return the modelled time, counted from the blocks of the network."""
    nonzeros = sum(b.count * b.radix**2 for s in net.stages for b in s.banks)
    nonzeros += sum(len(s.idle) + len(s.moves) for s in net.stages)
    passed = 2 * VECTORS * net.width * 4 / SPEED
    work = 2 * VECTORS * nonzeros / ARITHMETIC
    return net.depth * (passed + 2 * LAUNCH) + max(net.depth * passed, work) + nonzeros * 4 / BLOCKS


def largest(net):
    return max(bank.radix for bank in net.banks)


def mixing_class(sigma):
    return 0 if sigma < 1e-12 else 1 if sigma <= 0.2 else 2


def values(net, purpose):
    """Return the values that a purpose compares, or None if the network does not suit it."""
    parameters = sum(b.count * math.comb(b.radix, 2) for b in net.banks)
    if purpose == "finetune":
        if largest(net) > 16 or not net.is_straight:
            return None
        return mixing_class(deviation(net)), modelled(net), parameters
    if purpose == "mix":
        if largest(net) > 16:
            return None
        return mixing_class(deviation(net)), parameters, net.depth
    if purpose == "fast":
        return modelled(net), parameters
    assert purpose == "universal"
    if largest(net) > 2 or parameters < math.comb(net.width, 2):
        return None
    return parameters, net.depth


def best(width, purpose, budget=None):
    """Return the best values over all families, with their spec."""
    rated = []
    for member in dense_members(width, budget):
        proved = member.depth == 1 or member.family.name in ("brickwall", "ruler", "triangle")
        if purpose == "universal" and not proved:
            continue
        net = member.family(width)
        own = values(net, purpose)
        if own is not None:
            rated.append((own, str(member.family)))
    return min(rated)


def least_depth(width):
    """Return the smallest depth of a straight dense network of small switches."""
    nets = (rule(width) for rule in sm.dense_networks(width))
    return min(net.depth for net in nets if net.is_straight and largest(net) <= 16)


def is_better(one, other):
    """Return whether values are smaller than others by more than rounding."""
    for a, b in zip(one, other, strict=True):
        if abs(a - b) > 1e-9 * max(1, abs(b)) * (abs(b) < 1) + 1e-9 * abs(b):
            return a < b
    return False


def check(width, purpose, budget=None):
    """Compare a choice with all families; raise AssertionError if one is better."""
    choice = choose(width, purpose=purpose, budget=budget, rows=1)
    net = choice.best.network
    own = values(net, purpose)
    other, spec = best(width, purpose, budget)
    assert not is_better(other, own), (width, purpose, choice.best.spec, own, spec, other)
    assert budget is None or net.parameters <= budget
    return net


# 300 widths, by claims ---------------------------------------------------------------------------


def check_default(width):
    """Compare the default with every family of small straight switches, by their claims.

    Mixing is computed only for those that are at least as fast. Returns the default's mixing.
    """
    default = sm.parse(DEFAULT)
    own = dense_member(default, width)
    net = default(width)
    spread = sm.mixing(net)
    assert sm.is_dense(net)
    assert net.is_straight
    assert largest(net) <= 16
    least_depth = next(depth for depth in range(1, 30) if 16**depth >= width)
    # At the least depth, no network has fewer stages, and one with more parameters is no better.
    budget = own.parameters if own.depth == least_depth else None
    for member in dense_members(width, budget):
        least = own.parameters * (1 if spread < 1e-12 else 0.97)
        if member.depth > own.depth or (member.depth == own.depth and member.parameters >= least):
            continue
        if member.depth < own.depth and width >= 0.9 * 16**member.depth:
            continue
        other = member.family(width)
        if largest(other) > 16 or not other.is_straight:
            continue
        assert mixing_class(sm.mixing(other)) > mixing_class(spread), (width, str(member.family))
    return spread


def main():
    """Check 300 widths, and print the largest deviation from perfect mixing."""
    rng = np.random.default_rng(0)
    drawn = np.exp(rng.uniform(math.log(2), math.log(20_000), 2000)).astype(int)
    others = sorted({*drawn.tolist()} - {1, *MODELS})
    widths = [*MODELS, *rng.choice(others, 300 - len(MODELS), replace=False).tolist()]
    worst, failures = (0.0, 0), 0
    for k, width in enumerate(rng.permutation(widths).tolist(), 1):
        try:
            worst = max(worst, (check_default(width), width))
        except AssertionError as error:
            failures += 1
            print(f"width {width:,}: {error}", flush=True)  # noqa: T201
        print(f"{k} of {len(widths)}, {time.process_time():.0f} s", file=sys.stderr)  # noqa: T201
    print(f"{len(widths)} widths; mixing at most {worst[0]:.4f}, at {worst[1]:,}")  # noqa: T201
    if failures:
        sys.exit(f"at {failures} widths, a family is better")


if __name__ == "__main__":
    main()
