"""Draw the logo and the icon, which are butterfly networks: `make pictures`.

The colours contrast with white and with black, and the background is transparent, so that one file
serves light and dark pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import structmat as sm

STATIC = Path(__file__).parent / "_static"
COLOURS = ("#0072B2", "#D55E00", "#009E73")  # Okabe and Ito; one per stage, as in structmat.viz
QUIET = "#8A8F98"  # of edges and wires that the input does not influence
GAP, EDGE = 22, 9  # between wires, around the picture


def logo() -> str:
    """Return the butterfly of eight wires as SVG, with the paths from one input in colour."""
    return drawn(sm.butterfly(8), source=0, thin=2.0, thick=4.0, dot=4.5)


def icon() -> str:
    """Return the butterfly of two wires, a single switch, which can be seen at 16 pixels."""
    return drawn(sm.butterfly(2), source=0, thin=4.0, thick=5.0, dot=6.0)


def drawn(net: sm.Network, *, source: int, thin: float, thick: float, dot: float) -> str:
    """Return the grid graph of a network; the paths from `source` are drawn last, in colour."""
    reached = [np.arange(net.width) == source]
    reached += [sm.reach(net[: t + 1])[:, source] for t in range(net.depth)]
    wide = (net.width - 1) * GAP + 2 * EDGE  # a square
    across = (wide - 2 * EDGE) / net.depth

    def at(column: int, wire: int) -> tuple[float, float]:
        return EDGE + column * across, EDGE + wire * GAP

    quiet, coloured = [], []
    for t, stage in enumerate(net.stages):
        for start, end in edges(stage):
            (x, y), (u, v) = at(t, start), at(t + 1, end)
            path = f'<path d="M{x:g} {y:g}L{u:g} {v:g}"'
            if reached[t][start]:
                coloured.append(f'{path} stroke="{COLOURS[t % len(COLOURS)]}"/>')
            else:
                quiet.append(f"{path}/>")
    dots: dict[bool, list[str]] = {True: [], False: []}
    for t, wires in enumerate(reached):
        for wire, influenced in enumerate(wires):
            x, y = at(t, wire)
            colour = COLOURS[max(t - 1, 0) % len(COLOURS)] if influenced else QUIET
            dots[bool(influenced)].append(
                f'<circle cx="{x:g}" cy="{y:g}" r="{dot:g}" fill="{colour}"/>'
            )
    lines = "".join(coloured)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {wide:g}" role="img">',
            f"<title>structmat: a butterfly network of {net.width} wires</title>",
            f'<g fill="none" stroke="{QUIET}" stroke-width="{thin:g}">{"".join(quiet)}</g>',
            "".join(dots[False]),
            f'<g fill="none" stroke-width="{thick:g}" stroke-linecap="round">{lines}</g>',
            "".join(dots[True]),
            "</svg>\n",
        ]
    )


def edges(stage: sm.Stage) -> Iterator[tuple[int, int]]:
    """Yield the edges of the switches of a stage, each from a wire to a wire."""
    for bank in stage.banks:
        for reads, writes in zip(bank.reads.tolist(), bank.writes.tolist(), strict=True):
            yield from ((start, end) for start in reads for end in writes)


if __name__ == "__main__":
    for draw in (logo, icon):
        (STATIC / f"{draw.__name__}.svg").write_text(draw(), encoding="utf-8")
