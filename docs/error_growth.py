"""Errors of beam splitters against the error of the matrix: `python docs/error_growth.py`.

It prints the tables of docs/unitary.md, in about a minute. Every number is the root mean square, or
the mean, over five seeds.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import scipy

import structmat as sm
from structmat.analysis.jacobian import component_error
from structmat.families import benes, brickwall, butterfly, ruler, triangle
from structmat.fitting.interferometers import BeamSplitters, beam_splitters, clements

SEEDS = range(5)
SIGMA = 0.01  # standard deviation of the angle θ of each beam splitter, in radians
SPLITTER = 0.02  # the same for the two splitters of each Mach–Zehnder interferometer
DRAWS = 40  # of the errors of all splitters, for each target
FAMILIES = (butterfly, benes, brickwall, triangle, ruler)


def moved(mesh: BeamSplitters, change: list[np.ndarray]) -> np.ndarray:
    """Return the matrix of a mesh with other angles θ."""
    theta = tuple(t + c for t, c in zip(mesh.theta, change, strict=True))
    return np.asarray(replace(mesh, theta=theta).rotation().matrix())


def errors(width: int, family: object) -> Iterator[tuple[float, float]]:
    """Yield the relative Frobenius error and the infidelity of random matrices of a family."""
    net = family(width).straightened().network  # type: ignore[operator]
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        mesh = beam_splitters(sm.Rotation(net, sm.random_blocks(net, rng, complex)))
        exact = mesh.rotation().matrix()
        near = moved(mesh, [SIGMA * rng.standard_normal(t.shape) for t in mesh.theta])
        fidelity = abs(np.vdot(exact, near)) ** 2 / width**2
        yield float(np.linalg.norm(near - exact)) / width**0.5, 1 - float(fidelity)


def corrected(width: int) -> Iterator[tuple[float, float, float]]:
    """Yield relative errors on Haar matrices: uncorrected, corrected, corrected with crossings."""
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        target = scipy.stats.unitary_group.rvs(width, random_state=rng)
        mesh = clements(target)
        for _ in range(DRAWS):
            plain, clipped, crossed = [], [], []
            for theta in mesh.theta:
                one, other = SPLITTER * rng.standard_normal((2, theta.size))
                plain.append(one + other)
                cross, bar = abs(one + other), abs(one - other)
                clipped.append(np.clip(theta, bar, np.pi / 2 - cross) - theta)
                crossed.append(np.clip(theta, 2 * abs(one), np.pi / 2) - theta)  # equal splitters
            made = (moved(mesh, change) for change in (plain, clipped, crossed))
            found = [float(np.linalg.norm(m - target)) / width**0.5 for m in made]
            yield found[0], found[1], found[2]


def tables() -> Iterator[str]:
    """Yield the lines of both tables."""
    yield "| family | wires | beam splitters | error / σ | first order | infidelity / σ² |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for family in FAMILIES:
        for width in (16, 64, 256):
            found = np.array(list(errors(width, family)))
            net = family(width)
            error = np.sqrt((found[:, 0] ** 2).mean()) / SIGMA
            row = f"{family.__name__} | {width} | {net.parameters:,} | {error:.2f}"
            yield f"| {row} | {component_error(net):.2f} | {found[:, 1].mean() / SIGMA**2:.1f} |"
    yield ""
    yield "| wires | uncorrected / σ | √(2(d−1)) | corrected / σ² | √(2(d²−1)/3) | crossing / σ² |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for width in (16, 32, 64, 128):
        found = np.sqrt((np.array(list(corrected(width))) ** 2).mean(axis=0))
        first, second, third = found / (SPLITTER, SPLITTER**2, SPLITTER**2)
        one, other = np.sqrt(2 * (width - 1)), np.sqrt(2 * (width**2 - 1) / 3)
        yield f"| {width} | {first:.2f} | {one:.2f} | {second:.1f} | {other:.1f} | {third:.1f} |"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in tables())
