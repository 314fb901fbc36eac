"""Learned topologies against random ones: `python docs/planted_networks.py`.

It prints the table of docs/learned-topologies.md, in a few minutes. Each target is a matrix of a
random network whose topology is not given to the method. An argument is the number of seeds.
"""

import sys

import numpy as np

import structmat as sm
from structmat.nn import learn_topology
from structmat.search.edits import edited, swap_wires
from structmat.search.objectives import objective

SHAPES = ((8, 3, 2), (16, 3, 2), (16, 2, 4))  # width, depth, block
SEEDS = 8
STARTS = 8  # of the learning, and random networks to compare with
SWAPS = 80  # of a climb by edits, which takes about as long as the learning
EXACT = 1e-6


def climbed(net: sm.Network, target: np.ndarray, seed: int) -> sm.Network:
    """Return a network after random swaps of wires, each kept if it does not increase the error."""
    rng = np.random.default_rng(seed)
    error = objective("fit_error", target=target)
    least = error.measure(net)
    for _ in range(SWAPS):
        first, second = rng.choice(net.width, 2, replace=False).tolist()
        near = edited(net, swap_wires(net, int(rng.integers(net.depth)), first, second))
        found = error.measure(near)
        if found <= least:
            net, least = near, found
    return net


def row(width: int, depth: int, block: int, seeds: int, *, straight_through: bool) -> str:
    """Return a row of the table: the errors over all seeds."""
    learned, climbs, random, better = [], [], [], 0
    for seed in range(seeds):
        hidden = sm.random(width, block, depth, rng=1000 + seed)
        target = sm.Rotation(hidden, sm.random_blocks(hidden, seed)).matrix()
        found = learn_topology(
            width,
            target,
            depth=depth,
            block=block,
            starts=STARTS,
            straight_through=straight_through,
            generator=seed,
            progress=False,
        )
        others = [sm.random(width, block, depth, rng=k) for k in range(STARTS)]
        errors = [sm.fit(net, target, rng=seed, progress=False).error for net in others]
        near = climbed(others[0], target, seed)
        climbs.append(sm.fit(near, target, rng=seed, progress=False).error)
        learned.append(sm.fit(found.network, target, rng=seed, progress=False).error)
        random.append(errors)
        better += learned[-1] < min(errors)
    exact = sum(error < EXACT for error in learned)
    method = "straight-through" if straight_through else "soft"
    cells = (
        f"{width}, {depth}, {block}",
        method,
        f"{np.mean(learned):.2f}",
        f"{np.mean(climbs):.2f}",
        f"{np.mean(np.min(random, axis=1)):.2f}",
        f"{np.mean(np.median(random, axis=1)):.2f}",
        f"{better} of {seeds}",
        f"{exact} of {seeds}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS
    for shape in SHAPES:
        for straight_through in (False, True):
            sys.stdout.write(row(*shape, seeds, straight_through=straight_through) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
