"""Beam-splitter angles and phases of unitary matrices: the meshes of Reck, Clements, Bell–Walmsley.

A mesh of Mach–Zehnder interferometers is a network of switches of radix 2 between phase screens. A
unitary block has four parameters, an interferometer only two, because phases can be moved along the
wires: `beam_splitters` moves them to the outputs of any network, `symmetric` to its inputs, outputs
and edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from structmat.errors import StructmatError, abbreviated
from structmat.families.meshes import brickwall, triangle
from structmat.fitting.givens_nulling import givens_blocks
from structmat.fitting.procrustes import polar
from structmat.linalg.blocks import Array, adjoint, by_stage
from structmat.linalg.rotation import Rotation
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.networks.stage import Bank, Stage

_TOLERANCE = 1e-8  # |UᴴU − I| of a matrix that counts as unitary


@dataclass(frozen=True, eq=False)
class BeamSplitters:
    """A unitary matrix R = D ∏ T(θ, φ) as a mesh of beam splitters with phases at the outputs.

    On the wires m and n of a switch, in the order of its bank, T(θ, φ) is

        ⎡ e^(iφ) cos θ   −sin θ ⎤
        ⎣ e^(iφ) sin θ    cos θ ⎦,

    a phase φ on wire m and then a beam splitter of reflectivity cos² θ; D = diag(exp(iα)). This is
    the convention of Reck and of Clements.

    Attributes
    ----------
    network : Network
        A straight network of switches of radix 2.
    theta, phi : tuple of (n,) arrays
        The angles θ in [0, π/2] and φ in (−π, π] of each bank, in radians.
    phases : (width,) array
        The output phases α.

    References
    ----------
    W. R. Clements et al., Optimal design for universal multiport interferometers, Optica 3, 2016,
    arXiv 1603.08788.
    """

    network: Network
    theta: tuple[Array, ...]
    phi: tuple[Array, ...]
    phases: Array

    def rotation(self) -> Rotation:
        """Return the matrix in factored form; its last stage is the screen of output phases.

        Examples
        --------
        >>> clements(np.eye(4)).rotation()
        Rotation(width=4, depth=5, parameters=28, dtype=complex128)
        """
        blocks = [
            beam_splitter(theta, phi) for theta, phi in zip(self.theta, self.phi, strict=True)
        ]
        screen = Stage(self.network.width, [_screen(np.arange(self.network.width))])
        network = Network(
            self.network.width, [*self.network.stages, screen], labels=self.network.labels
        )
        return Rotation(network, [*blocks, _phased(self.phases)])


def beam_splitter(theta: npt.ArrayLike, phi: npt.ArrayLike) -> Array:
    """Return the matrices T(θ, φ) of `BeamSplitters`, (..., 2, 2).

    Examples
    --------
    >>> np.round(beam_splitter(np.pi / 4, 0).real, 4).tolist()
    [[0.7071, -0.7071], [0.7071, 0.7071]]
    """
    t, unit = np.asarray(theta, dtype=float), np.exp(1j * np.asarray(phi, dtype=float))
    t, unit = np.broadcast_arrays(t, unit)
    c, s = np.cos(t), np.sin(t)
    return np.stack([unit * c, -s + 0j, unit * s, c + 0j], axis=-1).reshape(*t.shape, 2, 2)


def beam_splitters(rotation: Rotation) -> BeamSplitters:
    """Return the beam splitters and output phases of a unitary matrix on any network of radix 2.

    The phases of a block that T(θ, φ) lacks are moved to the next switch on the same wire, and from
    the last switch to the output. Switches of radix 1 become part of these phases.

    Parameters
    ----------
    rotation : Rotation
        On a straight network of switches of radix 1 and 2, real or complex.

    Raises
    ------
    StructmatError
        If the network has larger switches, or is not straight.

    Examples
    --------
    >>> import structmat as sm
    >>> r = sm.Rotation(sm.butterfly(8), sm.random_blocks(sm.butterfly(8), 0, complex))
    >>> found = beam_splitters(r)
    >>> bool(abs(found.rotation().matrix() - r.matrix()).max() < 1e-14)
    True
    >>> sum(t.size for t in found.theta), found.phases.size
    (12, 8)
    """
    net = _network(rotation, "beam_splitters")
    carried = np.ones(net.width, dtype=complex)
    stages, theta, phi = [], [], []
    for wide in _through(rotation, carried, "beam_splitters"):
        stages.append(Stage(net.width, [bank for bank, _ in wide]))
        for bank, given in wide:
            blocks = given * carried[bank.reads][:, None, :]
            after = np.stack([_unit(-blocks[:, 0, 1]), _unit(blocks[:, 1, 1])], axis=1)
            theta.append(np.arctan2(_crossing(blocks), _passing(blocks)))
            phi.append(_angle(_larger(blocks[:, :, 0] * after.conj())))
            carried[bank.writes] = after
    network = Network(net.width, stages, labels=net.labels)
    return BeamSplitters(network, tuple(theta), tuple(phi), _angle(carried))


def clements(matrix: npt.ArrayLike | Rotation) -> BeamSplitters:
    """Return the beam splitters of a unitary matrix on the rectangular mesh of Clements.

    The mesh is the brick wall: d stages and d(d−1)/2 beam splitters, the fewest possible.

    Parameters
    ----------
    matrix : (d, d) real or complex, or Rotation, d at least 2
        An orthogonal or unitary matrix.

    Raises
    ------
    StructmatError
        If the matrix is not square, or not unitary up to the larger of 1e-8 and d machine epsilons
        of its dtype.

    References
    ----------
    W. R. Clements et al., Optimal design for universal multiport interferometers, Optica 3, 2016,
    arXiv 1603.08788.

    Examples
    --------
    >>> dft = np.fft.fft(np.eye(5), norm="ortho")
    >>> mesh = clements(dft)
    >>> bool(np.allclose(mesh.rotation().matrix(), dft, atol=1e-14))
    True
    >>> [t.round(2).tolist() for t in mesh.theta][:2]
    [[0.79, 0.55], [1.03, 1.09]]
    """
    return beam_splitters(_on_mesh(brickwall, matrix, "clements"))


def reck(matrix: npt.ArrayLike | Rotation) -> BeamSplitters:
    """Return the beam splitters of a unitary matrix on the triangular mesh of Reck.

    The mesh has 2d − 3 stages and d(d−1)/2 beam splitters.

    Parameters
    ----------
    matrix : (d, d) real or complex, or Rotation, d at least 2
        An orthogonal or unitary matrix.

    Raises
    ------
    StructmatError
        If the matrix is not square, or not unitary up to the larger of 1e-8 and d machine epsilons
        of its dtype.

    References
    ----------
    M. Reck et al., Experimental realization of any discrete unitary operator, Physical Review
    Letters 73, 1994.

    Examples
    --------
    >>> dft = np.fft.fft(np.eye(5), norm="ortho")
    >>> mesh = reck(dft)
    >>> bool(np.allclose(mesh.rotation().matrix(), dft, atol=1e-14)), mesh.network.depth
    (True, 7)
    """
    return beam_splitters(_on_mesh(triangle, matrix, "reck"))


def _on_mesh(
    family: Callable[[int], Network], matrix: npt.ArrayLike | Rotation, name: str
) -> Rotation:
    target = _unitary(matrix, name)
    net = family(len(target))
    blocks = givens_blocks(net, target)
    assert blocks is not None  # the mesh covers every unitary matrix
    return Rotation(net, blocks)


# Symmetric interferometers -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SymmetricMesh:
    """A unitary matrix as a mesh of symmetric interferometers, with phases at the ends and edges.

    A symmetric interferometer consists of a phase on each of its two wires, m and n, between two
    equal beam splitters [[1, i], [i, 1]]/√2. With their mean Σ and half their difference δ, it is

        i e^(iΣ) ⎡ sin δ    cos δ ⎤
                 ⎣ cos δ   −sin δ ⎦.

    The brick wall needs one layer of phases for each stage, one at the inputs and one at the
    outputs, d + 2 in all, compared with 2d + 1 for interferometers with an external phase.

    Attributes
    ----------
    network : Network
        A straight network of switches of radix 2.
    first, second : tuple of (n,) arrays
        The phases on both wires of each interferometer, for each bank, in radians.
    inputs, outputs : (width,) arrays
        The phases before the first stage and after the last.
    edges : (depth, width) array
        The phases on wires in no switch of a stage.

    References
    ----------
    B. A. Bell and I. A. Walmsley, Further compactifying linear optical unitaries, APL Photonics 6,
    2021, arXiv 2104.07561.
    """

    network: Network
    first: tuple[Array, ...]
    second: tuple[Array, ...]
    inputs: Array
    edges: Array
    outputs: Array

    @property
    def layers(self) -> int:
        """The number of layers of phases, one for each stage, the inputs and the outputs."""
        return self.network.depth + 2

    def rotation(self) -> Rotation:
        """Return the matrix in factored form, with a screen of phases at each end.

        Examples
        --------
        >>> bell_walmsley(np.eye(4)).rotation()
        Rotation(width=4, depth=6, parameters=36, dtype=complex128)
        """
        net = self.network
        every = _screen(np.arange(net.width))
        stages, blocks = [Stage(net.width, [every])], [_phased(self.inputs)]
        settings = zip(self.first, self.second, strict=True)
        for stage, edge in zip(net.stages, self.edges, strict=True):
            banks = list(stage.banks)
            blocks += [symmetric_interferometer(*next(settings)) for _ in banks]
            if len(stage.idle):
                banks.append(_screen(stage.idle))
                blocks.append(_phased(edge[stage.idle]))
            stages.append(Stage(net.width, banks))
        stages.append(Stage(net.width, [every]))
        return Rotation(
            Network(net.width, stages, labels=net.labels), [*blocks, _phased(self.outputs)]
        )


def symmetric_interferometer(first: npt.ArrayLike, second: npt.ArrayLike) -> Array:
    """Return the matrices of symmetric interferometers with these phases, (..., 2, 2).

    Examples
    --------
    >>> np.round(symmetric_interferometer(0.0, 0.0), 12).tolist()     # both beam splitters: a swap
    [[0j, 1j], [1j, 0j]]
    """
    a, b = np.exp(1j * np.asarray(first, dtype=float)), np.exp(1j * np.asarray(second, dtype=float))
    a, b = np.broadcast_arrays(a, b)
    entries = [a - b, 1j * (a + b), 1j * (a + b), b - a]
    return np.stack(entries, axis=-1).reshape(*a.shape, 2, 2) / 2


def symmetric(rotation: Rotation) -> SymmetricMesh:
    """Return the symmetric interferometers of a unitary matrix on any network of radix 2.

    A symmetric interferometer lacks the relative phase of its inputs. This phase comes from the
    mean phases Σ of the interferometers in the previous stage, and from phases on wires that are
    idle there. They do not suffice if the switches of two consecutive stages form a cycle, as in a
    butterfly network.

    Parameters
    ----------
    rotation : Rotation
        On a straight network of switches of radix 1 and 2, real or complex.

    Raises
    ------
    StructmatError
        If the network has larger switches, is not straight, or has two consecutive stages whose
        switches form a cycle.

    Examples
    --------
    >>> import structmat as sm
    >>> r = sm.Rotation(sm.brickwall(6), sm.random_blocks(sm.brickwall(6), 0, complex))
    >>> bool(abs(symmetric(r).rotation().matrix() - r.matrix()).max() < 1e-14)
    True
    """
    net = _network(rotation, "symmetric")
    carried = np.ones(net.width, dtype=complex)
    before: list[Index] = []  # switches of the previous stage, whose wires have a common phase
    stages: list[Stage] = []
    differences, layers = [], []
    for wide in _through(rotation, carried, "symmetric"):
        relative = np.ones(net.width, dtype=complex)  # first wire's phase minus the second's
        found = []
        for bank, given in wide:
            blocks = given * carried[bank.reads][:, None, :]
            after = np.stack([_unit(blocks[:, 0, 1]), _unit(-blocks[:, 1, 1])], axis=1)
            relative[bank.reads[:, 0]] = _unit(_larger(blocks[:, :, 0] * after.conj()))
            found.append((bank, after))
            differences.append(np.arctan2(_passing(blocks), _crossing(blocks)))
        pairs = [bank.reads for bank, _ in wide]
        supplied = _supplied(before, pairs, relative, len(stages))
        layers.append(_angle(supplied))
        carried /= supplied
        for bank, after in found:
            carried[bank.writes] = after / (1j * supplied[bank.reads[:, 1:]])
        stages.append(Stage(net.width, [bank for bank, _ in wide]))
        before = pairs
    phases = np.array([*layers, np.zeros(net.width)])  # before each stage, and after the last
    network = Network(net.width, stages, labels=net.labels)
    means = [
        common[bank.reads[:, 0]]
        for stage, common in zip(stages, phases[1:], strict=True)
        for bank in stage.banks
    ]
    settings = list(zip(means, differences, strict=True))
    edges = phases[1:].copy()
    for edge, stage in zip(edges, stages, strict=True):
        for bank in stage.banks:
            edge[bank.reads] = 0
    return SymmetricMesh(
        network,
        tuple(mean + half for mean, half in settings),
        tuple(mean - half for mean, half in settings),
        phases[0],
        edges,
        _angle(carried),
    )


def bell_walmsley(matrix: npt.ArrayLike | Rotation) -> SymmetricMesh:
    """Return the compact mesh of a unitary matrix: symmetric interferometers on the brick wall.

    Parameters
    ----------
    matrix : (d, d) real or complex, or Rotation, d at least 2
        An orthogonal or unitary matrix.

    Raises
    ------
    StructmatError
        If the matrix is not square, or not unitary up to the larger of 1e-8 and d machine epsilons
        of its dtype.

    References
    ----------
    B. A. Bell and I. A. Walmsley, Further compactifying linear optical unitaries, APL Photonics 6,
    2021, arXiv 2104.07561.

    Examples
    --------
    >>> dft = np.fft.fft(np.eye(6), norm="ortho")
    >>> mesh = bell_walmsley(dft)
    >>> bool(np.allclose(mesh.rotation().matrix(), dft, atol=1e-14)), mesh.layers
    (True, 8)
    """
    return symmetric(_on_mesh(brickwall, matrix, "bell_walmsley"))


def _supplied(before: Sequence[Index], pairs: Sequence[Index], relative: Array, t: int) -> Array:
    """Return phases with given ratios on the pairs, and equal on both wires of each pair before.

    In each connected component, one wire has phase 1: one that was in no switch, if there is one.
    """
    group = np.arange(len(relative))
    for wires in before:
        group[wires] = wires[:, :1]
    alone = np.bincount(group, minlength=len(group))[group] == 1
    links: dict[int, list[tuple[int, complex]]] = {}
    for wires in pairs:
        for m, n in wires.tolist():
            a, b = int(group[m]), int(group[n])
            links.setdefault(a, []).append((b, np.conj(relative[m])))
            links.setdefault(b, []).append((a, relative[m]))
    phases: dict[int, complex] = {}
    for root in sorted(links, key=lambda wire: (not alone[wire], wire)):
        if root in phases:
            continue
        phases[root] = 1.0
        left, edges, nodes = [root], 0, 1
        while left:
            here = left.pop()
            edges += len(links[here])
            for there, ratio in links[here]:
                if there not in phases:
                    phases[there] = phases[here] * ratio
                    left.append(there)
                    nodes += 1
        if edges != 2 * (nodes - 1):
            raise StructmatError(
                f"symmetric: the switches of stages {t} and {t + 1} form a cycle, so the mean"
                " phases of the former cannot supply all relative phases of the latter; use"
                " beam_splitters"
            )
    made = np.array([phases.get(int(root), 1.0) for root in group], dtype=complex)
    return np.asarray(made / np.abs(made))


# Shared parts --------------------------------------------------------------------------------


def _network(rotation: Rotation, name: str) -> Network:
    if not isinstance(rotation, Rotation):
        raise StructmatError(f"{name} of {abbreviated(rotation)}: it takes a Rotation")
    net = rotation.network
    largest = max((bank.radix for bank in net.banks), default=1)
    if largest > 2:
        raise StructmatError(
            f"{name}: a switch has {largest} wires, but a mesh has only switches of 2 wires; find"
            " a mesh for the matrix with structmat.fit"
        )
    if not net.is_straight:
        raise StructmatError(f"{name}: {net!r} is not straight; use net.straightened().network")
    return net


def _through(rotation: Rotation, carried: Array, name: str) -> Iterator[list[tuple[Bank, Array]]]:
    """Yield the switches of radix 2 of each stage; multiply `carried` by those of radix 1."""
    net = rotation.network
    blocks = [np.asarray(block, dtype=complex) for block in rotation._numpy(name)]
    for stage, arrays in zip(net.stages, by_stage(net, blocks), strict=True):
        wide = []
        for bank, array in zip(stage.banks, arrays, strict=True):
            if bank.radix == 1:
                carried[bank.reads[:, 0]] *= array[:, 0, 0]
            else:
                wide.append((bank, array))
        if wide or not stage.banks:
            yield wide


def _unitary(matrix: npt.ArrayLike | Rotation, name: str) -> Array:
    """Return a matrix in double precision after checking that it is unitary up to rounding."""
    try:
        target = np.asarray(matrix.matrix() if isinstance(matrix, Rotation) else matrix)
    except (TypeError, ValueError, RuntimeError):  # ragged, or a tensor with gradients
        raise StructmatError(
            f"{name} of {abbreviated(matrix)}: it takes a square array of numbers"
        ) from None
    if target.ndim != 2 or target.shape[0] != target.shape[1] or target.dtype.kind not in "biufc":
        raise StructmatError(
            f"{name}: matrix {target.shape} of dtype {target.dtype}: it must be square and numeric"
        )
    if len(target) < 2:
        raise StructmatError(f"{name}: a mesh has at least 2 wires, not {len(target)}")
    rounding = float(np.finfo(target.dtype).eps) if target.dtype.kind in "fc" else 0.0
    tolerance = max(_TOLERANCE, len(target) * rounding)
    target = target.astype(complex)
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = float(np.abs(adjoint(target) @ target - np.eye(len(target))).max())
    if not deviation <= tolerance:
        raise StructmatError(
            f"{name}: the matrix deviates from unitarity by {deviation:.2g}, more than"
            f" {tolerance:.2g}; use its polar factor, scipy.linalg.polar(matrix)[0]"
        )
    return target if deviation <= _TOLERANCE else polar(target)  # the former is kept as it is


def _unit(values: Array) -> Array:
    """Return the phase factors of complex numbers, 1 for zero."""
    return np.exp(1j * _angle(values))


def _angle(values: Array) -> Array:
    """Return angles in (−π, π], 0 for zero, whatever the signs of zeros."""
    angles: Array = np.angle(values + 0)  # adding 0 leaves no negative zero
    return np.where(angles == -np.pi, np.pi, angles)


def _larger(pairs: Array) -> Array:
    """Return the larger number of each pair (n, 2)."""
    return np.where(np.abs(pairs[:, 0]) >= np.abs(pairs[:, 1]), pairs[:, 0], pairs[:, 1])


def _passing(blocks: Array) -> Array:
    return np.hypot(np.abs(blocks[:, 0, 0]), np.abs(blocks[:, 1, 1]))


def _crossing(blocks: Array) -> Array:
    return np.hypot(np.abs(blocks[:, 0, 1]), np.abs(blocks[:, 1, 0]))


def _screen(wires: npt.ArrayLike) -> Bank:
    return Bank(np.asarray(wires)[:, None])


def _phased(angles: Array) -> Array:
    return np.exp(1j * angles)[:, None, None]
