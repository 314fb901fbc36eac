"""Fit a random 512×512 orthogonal matrix on many networks: `python docs/fit_512.py`.

The program writes docs/results/fit-512.json, the results of docs/fitting.md. It takes about 40
minutes on one core, saves each seed, and resumes where it was interrupted.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from tqdm import tqdm

import structmat as sm

PATH = Path(__file__).parent / "results" / "fit-512.json"
WIDTH, SEEDS, SWEEPS = 512, 10, 60
EQUAL = (2304, 3840, 7680, 11520, 23040)
ON = 0.001  # within this distance a network counts as on the paper's curve
DEPTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 18, 24, 30, 45, 60, 90)


def series() -> dict[str, list[tuple[str, sm.Network]]]:
    """Return the networks by topology, each with the expression that constructs it."""
    cycled, marks = sm.butterfly(WIDTH).repeat(10), sm.ruler(WIDTH)
    eights = sm.mixed_radix(WIDTH, (8, 8, 8)).repeat(4)
    found: dict[str, list[tuple[str, sm.Network]]] = {}
    for block, deepest in ((2, 9), (4, 8), (16, 6)):
        found[f"BOFT, blocks of {block}"] = [
            (f"butterfly(512, block={block}, depth={k})", sm.butterfly(WIDTH, block, k))
            for k in range(1, deepest + 1)
        ]
    found["butterfly, cycled"] = [
        (f"butterfly(512).repeat(10)[:{k}]", cycled[:k]) for k in DEPTHS if k > 8
    ]
    found["ruler, first stages"] = [(f"ruler(512)[:{k}]", marks[:k]) for k in DEPTHS]
    for block, depths in ((2, DEPTHS), (4, range(1, 9)), (16, range(1, 7))):
        found[f"random, blocks of {block}"] = [
            (f"random(512, block={block}, depth={k}, rng=0)", sm.random(WIDTH, block, k, rng=0))
            for k in depths
        ]
    # up to a relabelling of wires, shuffle with blocks of 2 is BOFT with blocks of 2
    for block, deepest in ((4, 8), (16, 6)):
        found[f"shuffle, blocks of {block}"] = [
            (f"shuffle(512, block={block}, depth={k})", sm.shuffle(WIDTH, block, k))
            for k in range(1, deepest + 1)
        ]
    found["mixed radix, once"] = [
        (f"mixed_radix(512, {radices})", sm.mixed_radix(WIDTH, radices))
        for radices in ((2, 4, 4, 4, 4), (8, 8, 8), (4, 8, 16), (16, 32))
    ]
    found["mixed radix 8, cycled"] = [
        (f"mixed_radix(512, (8, 8, 8)).repeat(4)[:{k}]", eights[:k]) for k in range(1, 13)
    ]
    return found


def target(seed: int, width: int = WIDTH) -> np.ndarray:
    """Return a Haar random orthogonal matrix in single precision."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))
    return (q * np.sign(np.diagonal(r))).astype(np.float32)


def fitted(net: sm.Network, seed: int) -> dict[str, float]:
    """Return the error after all sweeps and after half of them, and the lower bound."""
    begin = sm.random_blocks(net, rng=seed, dtype=np.float32)
    found = sm.fit(net, target(seed), start=begin, sweeps=SWEEPS, tolerance=0, progress=False)
    half = found.history[: SWEEPS // 2][-1]
    return {"error": found.error, "half": half, "lower_bound": found.lower_bound}


def medians(record: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Return (parameters, median error) of the networks of each topology."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in record["networks"]:
        points = found.setdefault(row["topology"], [])
        points.append((row["parameters"], statistics.median(row["error"])))
    return found


def frontier(record: dict[str, Any]) -> list[tuple[int, float]]:
    """Return the paper's curve: the BOFT networks on the Pareto frontier."""
    paper = [p for t, points in medians(record).items() if t.startswith("BOFT") for p in points]
    best: list[tuple[int, float]] = []
    for parameters, error in sorted(paper):
        if not best or error < best[-1][1]:
            best.append((parameters, error))
    return best


def equal_rows(record: dict[str, Any]) -> list[list[str]]:
    """Return a row for each topology: the median errors at the parameter counts `EQUAL`."""
    rows = []
    for topology, points in medians(record).items():
        errors = dict(points)
        cells = [f"{errors[p]:.3f}" if p in errors else "—" for p in EQUAL]
        if any(cell != "—" for cell in cells):
            rows.append([topology, *cells])
    return rows


def verdict_rows(record: dict[str, Any]) -> list[list[str]]:
    """Return for each other topology how many of its networks lie below the paper's curve.

    The curve is interpolated linearly; networks outside its range do not count, and
    those within 0.001 of it count as on it.
    """
    x, y = zip(*frontier(record), strict=True)
    rows = []
    for topology, points in medians(record).items():
        inside = [(p, error - np.interp(p, x, y)) for p, error in points if x[0] <= p <= x[-1]]
        if topology.startswith("BOFT"):
            continue
        below = sum(gap < -ON for _, gap in inside)
        above = sum(gap > ON for _, gap in inside)
        most, where = min((gap, p) for p, gap in inside)
        rows.append(
            [
                topology,
                *map(str, (below, len(inside) - below - above, above)),
                f"{most:+.3f}",
                f"{where:,}",
            ]
        )
    return rows


def main() -> None:
    """Perform the fits that the file does not contain yet, and print the tables of the page."""
    record = json.loads(PATH.read_text("utf-8")) if PATH.exists() else {"networks": []}
    record |= {
        "description": "relative Frobenius errors of fits to Haar random orthogonal matrices",
        "width": WIDTH,
        "seeds": SEEDS,
        "sweeps": SWEEPS,
        "dtype": "float32",
        "versions": {m.__name__: m.__version__ for m in (np, scipy, sm)},
    }
    known = {(row["topology"], row["network"]): row for row in record["networks"]}
    rows = []
    for topology, networks in series().items():
        for name, net in networks:
            counts = {"depth": net.depth, "parameters": net.parameters, "dense": sm.is_dense(net)}
            empty = {"topology": topology, "network": name, **counts}
            empty |= {"error": [], "half": [], "lower_bound": []}
            rows.append((known.get((topology, name), empty), net))
    record["networks"] = [row for row, _ in rows]
    with tqdm(total=len(rows) * SEEDS, unit="fit") as bar:
        for seed in range(SEEDS):
            for row, net in rows:
                if len(row["error"]) == seed:
                    for key, value in fitted(net, seed).items():
                        row[key].append(round(value, 5))
                bar.update()
            fresh = PATH.with_suffix(".new")
            fresh.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            fresh.replace(PATH)
    for row in equal_rows(record) + verdict_rows(record):
        tqdm.write(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
