"""Compare meshes with Perceval's circuits: `python docs/perceval_check.py`.

It requires `pip install perceval-quandela`, which structmat does not depend on, and prints the
largest error of an entry of the matrix: of circuits that Perceval builds from the angles of
structmat, and of meshes that structmat builds from the parameters of Perceval's own decompositions.
docs/unitary.md contains the output.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy

import structmat as sm
from structmat.fitting.interferometers import (
    BeamSplitters,
    SymmetricMesh,
    beam_splitters,
    bell_walmsley,
    clements,
    reck,
)

WIDTHS = (2, 3, 5, 8, 12)


class _Perceval:
    """The library, imported when it is first used, for the documentation is built without it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked by tools that examine the module
            raise AttributeError(name)
        return getattr(importlib.import_module("perceval"), name)


pcvl = _Perceval()


def circuit_of(mesh: BeamSplitters) -> Any:
    """Return the circuit of a mesh: T(θ, φ) is a phase shifter and the beam splitter BS.Ry(2θ)."""
    circuit = pcvl.Circuit(mesh.network.width)
    for bank, theta, phi in zip(mesh.network.banks, mesh.theta, mesh.phi, strict=True):
        for (m, _), t, p in zip(bank.reads.tolist(), theta.tolist(), phi.tolist(), strict=True):
            circuit.add(m, pcvl.PS(p)).add(m, pcvl.BS.Ry(2 * t))
    for wire, phase in enumerate(mesh.phases.tolist()):
        circuit.add(wire, pcvl.PS(phase))
    return circuit


def symmetric_circuit_of(mesh: SymmetricMesh) -> Any:
    """Return the circuit of symmetric interferometers, with Perceval's default beam splitter Rx."""
    circuit = pcvl.Circuit(mesh.network.width)
    for wire, phase in enumerate(mesh.inputs.tolist()):
        circuit.add(wire, pcvl.PS(phase))
    settings = zip(mesh.first, mesh.second, strict=True)
    for stage, edge in zip(mesh.network.stages, mesh.edges.tolist(), strict=True):
        for bank in stage.banks:
            first, second = next(settings)
            rows = zip(bank.reads.tolist(), first.tolist(), second.tolist(), strict=True)
            for (m, n), a, b in rows:
                circuit.add(m, pcvl.BS()).add(m, pcvl.PS(a)).add(n, pcvl.PS(b)).add(m, pcvl.BS())
        for wire in stage.idle.tolist():
            circuit.add(wire, pcvl.PS(edge[wire]))
    for wire, phase in enumerate(mesh.outputs.tolist()):
        circuit.add(wire, pcvl.PS(phase))
    return circuit


def rotation_of(circuit: Any) -> sm.Rotation:
    """Return a circuit of phase shifters, beam splitters and exchanges as a rotation."""
    stages, blocks = [], []
    for wires, component in circuit:
        assert isinstance(component, pcvl.BS | pcvl.PS | pcvl.PERM)
        stages.append([list(wires)])
        blocks.append(np.array(component.compute_unitary(), dtype=complex)[None])
    return sm.Rotation(sm.Network.of(circuit.m, stages), blocks)


def decomposed(target: np.ndarray) -> Any:
    """Return Perceval's own triangular decomposition, into interferometers with two phases."""
    first, second = pcvl.PS(pcvl.P("a")), pcvl.PS(pcvl.P("b"))
    element = pcvl.Circuit(2) // pcvl.BS() // first // pcvl.BS() // second
    found = pcvl.Circuit.decomposition(
        pcvl.Matrix(target), element, phase_shifter_fn=pcvl.PS, max_try=10
    )
    assert found is not None
    return found


def checks() -> Iterator[str]:
    """Yield a line for each check, with the largest error over all widths."""
    meshes: list[tuple[str, Callable[[np.ndarray], Any]]] = [
        ("clements", lambda u: circuit_of(clements(u))),
        ("reck", lambda u: circuit_of(reck(u))),
        ("bell_walmsley", lambda u: symmetric_circuit_of(bell_walmsley(u))),
    ]
    targets = [scipy.stats.unitary_group.rvs(d, random_state=d) for d in WIDTHS]
    for name, build in meshes:
        error = max(abs(np.array(build(u).compute_unitary()) - u).max() for u in targets)
        yield f"{name}, as a Perceval circuit: {error:.0e}"
    errors = []
    for u in targets[:4]:
        circuit = decomposed(u)
        matrix = np.array(circuit.compute_unitary())
        mesh = beam_splitters(rotation_of(circuit))
        errors.append((abs(mesh.rotation().matrix() - matrix).max(), abs(matrix - u).max()))
    ours, theirs = np.max(errors, axis=0)
    yield f"Perceval's triangle, as a structmat mesh: {ours:.0e}"
    yield f"Perceval's triangle, compared with the target: {theirs:.0e}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in checks())
