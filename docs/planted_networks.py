"""Compare learned topologies with others: `python docs/planted_networks.py`.

The program prints the table of docs/learned-topologies.md within a few minutes. Each target is a
matrix of a random network whose topology is not given to the method. The optional argument is the
number of seeds.
"""

import sys

import numpy as np
import numpy.typing as npt

import structmat as sm
from structmat.nn import learn_topology
from structmat.search.edits import edited, swap_wires
from structmat.search.objectives import objective

SHAPES = ((8, 3, 2), (16, 3, 2), (16, 2, 4))  # width, depth, block
SEEDS = 4
RANDOM = 8  # random networks to compare with
SWAPS = 80  # steps of hill climbing by edits, which take about as long as learning

Matrix = npt.NDArray[np.float64]


def climbed(net: sm.Network, target: Matrix, swaps: int, seed: int) -> sm.Network:
    """Return a network after random swaps of wires, each kept if it does not increase the error."""
    rng = np.random.default_rng(seed)
    error = objective("fit_error", target=target)
    least = error.measure(net)
    for _ in range(swaps):
        first, second = rng.choice(net.width, 2, replace=False).tolist()
        near = edited(net, swap_wires(net, int(rng.integers(net.depth)), first, second))
        found = error.measure(near)
        if found <= least:
            net, least = near, found
    return net


def errors(width: int, depth: int, block: int, seed: int) -> list[float]:
    """Return the errors for one target, in the order of the columns of the table."""
    hidden = sm.random(width, block, depth, rng=1000 + seed)
    target = sm.Rotation(hidden, sm.random_blocks(hidden, seed)).matrix()

    def learned(*, straight_through: bool) -> sm.Network:
        return learn_topology(
            width,
            target,
            depth=depth,
            block=block,
            straight_through=straight_through,
            generator=seed,
            progress=False,
        ).network

    others = [sm.random(width, block, depth, rng=k) for k in range(RANDOM)]
    soft = learned(straight_through=False)
    networks = [
        soft,
        learned(straight_through=True),
        climbed(soft, target, SWAPS, seed),
        climbed(others[0], target, 2 * SWAPS, seed),
        *others,
    ]
    found = [sm.fit(net, target, rng=seed, progress=False).error for net in networks]
    return [*found[:4], min(found[4:]), float(np.median(found[4:]))]


def main() -> None:
    """Print a row of the table for each shape: the means over all seeds."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS
    for shape in SHAPES:
        found = np.array([errors(*shape, seed) for seed in range(seeds)])
        better = f"{np.sum(found[:, 0] < found[:, 4])} of {seeds}"
        cells = (
            ", ".join(map(str, shape)),
            *(f"{mean:.2f}" for mean in found.mean(axis=0)),
            better,
        )
        sys.stdout.write("| " + " | ".join(cells) + " |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
