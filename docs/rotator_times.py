"""Time fixed rotations: `python docs/rotator_times.py`.

It prints the tables of docs/rotators.md. For each width, a rotator is compared with a fast
Walsh–Hadamard transform of the next power of two, run by the same compiled kernels, with a copy of
the vectors, and with a dense product. All are timed in turn, in one thread; the shortest processor
times are compared.
"""

import argparse
import sys
import time

import torch

import structmat as sm
from structmat.bench.interleaved import interleaved
from structmat.linalg.flat_blocks import flat_block
from structmat.linalg.shared_blocks import repeated
from structmat.nn import FixedRotation

WIDTHS = (96, 384, 768, 1000, 1032, 1536, 3072, 11008, 13696, 14336, 29568)
WIDEST_DENSE = 4096


def walsh_hadamard(width: int) -> FixedRotation:
    """Return the Walsh–Hadamard transform of a power of two."""
    net = sm.mixed_radix(width, largest=16)
    blocks = [repeated(flat_block(bank.radix)[None], bank.count) for bank in net.banks]
    return FixedRotation(sm.Rotation(net, blocks))


@torch.no_grad()
def times(width: int, tokens: int, *, rounds: int, seconds: float) -> dict[str, float]:
    """Return the shortest time of each step in seconds."""
    power = 1 << (width - 1).bit_length()
    rotation, transform = FixedRotation(sm.rotator(width)), walsh_hadamard(power)
    x, padded = torch.randn(tokens, width), torch.randn(tokens, power)
    steps = {
        "rotator": lambda: rotation(x),
        "transform": lambda: transform(padded),
        "copy": lambda: x.clone(),
    }
    if width <= WIDEST_DENSE:
        dense = rotation.matrix().T.contiguous()
        steps["dense"] = lambda: x @ dense
    found = interleaved(steps, rounds=rounds, seconds=seconds, warmup=2, clock=time.thread_time)
    return {name: min(values) for name, values in found.items()}


def main() -> None:
    """Print a table for many vectors and one for a single vector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--tokens", type=int, nargs="+", default=(2048, 1))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for tokens in given.tokens:
        say(f"\n{tokens} vectors, float32\n")
        say("| width | rotator | Walsh–Hadamard | ratio | copy | dense |")
        say("|---|---|---|---|---|---|")
        for width in given.widths:
            t = times(width, tokens, rounds=given.rounds, seconds=given.seconds)
            power = 1 << (width - 1).bit_length()
            cells = (
                f"{width:,}",
                _shown(t["rotator"]),
                f"{_shown(t['transform'])} ({power:,})",
                f"{t['rotator'] / t['transform']:.2f}",
                _shown(t["copy"]),
                _shown(t["dense"]) if "dense" in t else "—",
            )
            say(f"| {' | '.join(cells)} |")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _shown(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} µs"


if __name__ == "__main__":
    main()
