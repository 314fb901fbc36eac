"""Angles of interferometers: exact, complete, and in the conventions of the field."""

import cmath

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError
from structmat.fitting.interferometers import (
    beam_splitter,
    beam_splitters,
    bell_walmsley,
    clements,
    reck,
    symmetric,
    symmetric_interferometer,
)
from structmat.testing import networks, seeds

MESHES = {"clements": clements, "reck": reck, "bell_walmsley": bell_walmsley}


@st.composite
def unitary(draw):
    """Draw unitary matrices: Haar, orthogonal, diagonal, and permutations with phases."""
    d, seed = draw(st.integers(2, 9)), draw(seeds())
    rng = np.random.default_rng(seed)
    phases = np.exp(1j * rng.uniform(-4, 4, d))
    return draw(
        st.sampled_from(
            [
                scipy.stats.unitary_group.rvs(d, random_state=rng),
                scipy.stats.ortho_group.rvs(d, random_state=rng),
                np.diag(phases),
                np.eye(d)[rng.permutation(d)],
                phases[:, None] * np.eye(d)[rng.permutation(d)],
                np.fft.fft(np.eye(d), norm="ortho"),
            ]
        )
    )


@pytest.mark.parametrize("name", MESHES)
@given(target=unitary())
def test_every_unitary_matrix_is_recovered(name, target):
    found = MESHES[name](target).rotation()
    assert abs(found.matrix() - target).max() < 1e-13


@pytest.mark.parametrize("name", MESHES)
def test_single_precision_and_rotations_are_accepted(name):
    rng = np.random.default_rng(0)
    for target in (
        scipy.stats.unitary_group.rvs(9, random_state=rng).astype(np.complex64),
        scipy.stats.ortho_group.rvs(9, random_state=rng).astype(np.float32),
    ):
        found = MESHES[name](target).rotation().matrix()
        assert abs(found - target).max() < 1e-6
        assert abs(found.conj().T @ found - np.eye(9)).max() < 1e-14
    rotation = sm.Rotation(sm.butterfly(8), sm.random_blocks(sm.butterfly(8), 0, complex))
    assert abs(MESHES[name](rotation).rotation().matrix() - rotation.matrix()).max() < 1e-13


@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize("size", [5e-324, 1e-320, 1e-300, 1e-160, 1e-17])
def test_entries_near_underflow_are_zeroed_by_unitary_blocks(name, size):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((5, 5)) + 1j * rng.standard_normal((5, 5))
    target = np.eye(5) + size * noise
    assert abs(MESHES[name](target).rotation().matrix() - target).max() < 1e-15
    assert abs(MESHES[name](target.real).rotation().matrix() - target.real).max() < 1e-15


@pytest.mark.parametrize("mesh", [clements, reck])
def test_the_identity_has_no_phases_and_angles_are_in_range(mesh):
    found = mesh(np.eye(5))
    assert not any(part.any() for part in (*found.theta, *found.phi, found.phases))
    for target in (-np.eye(4), np.eye(4)[::-1], np.diag([1, -1, 1j, -1j])):
        found = mesh(target)
        assert abs(found.rotation().matrix() - target).max() < 1e-15
        for angles in (*found.phi, found.phases):
            assert ((angles > -np.pi) & (angles <= np.pi)).all()


def light(d, elements, phases):
    """Multiply plane transformations given by scalars, wire by wire, as in the papers."""
    u = np.eye(d, dtype=complex)
    for m, n, (top, bottom) in elements:
        u[m], u[n] = top[0] * u[m] + top[1] * u[n], bottom[0] * u[m] + bottom[1] * u[n]
    return np.exp(1j * np.asarray(phases))[:, None] * u


@given(unitary())
def test_angles_follow_the_convention_of_clements(target):
    d = len(target)
    for mesh, depth in ((clements(target), d if d > 2 else 1), (reck(target), 2 * d - 3)):
        assert mesh.network.depth == depth
        assert sum(t.size for t in mesh.theta) == d * (d - 1) // 2
        elements = []
        for bank, theta, phi in zip(mesh.network.banks, mesh.theta, mesh.phi, strict=True):
            assert ((theta >= 0) & (theta <= np.pi / 2)).all()
            assert ((phi > -np.pi) & (phi <= np.pi)).all()
            for (m, n), t, p in zip(bank.reads.tolist(), theta, phi, strict=True):
                assert n == m + 1
                unit, c, s = cmath.exp(1j * p), np.cos(t), np.sin(t)
                elements.append((m, n, ((unit * c, -s), (unit * s, c))))
        assert abs(light(d, elements, mesh.phases) - target).max() < 1e-13


@given(unitary())
def test_the_compact_mesh_has_few_layers_of_phases(target):
    """Beam splitter, a phase on each wire, beam splitter; edges only on wires in no switch."""
    d = len(target)
    mesh = bell_walmsley(target)
    depth = d if d > 2 else 1
    assert mesh.layers == depth + 2
    assert mesh.edges.shape == (depth, d)
    half = np.array([[1, 1j], [1j, 1]]) / 2**0.5
    u = np.diag(np.exp(1j * mesh.inputs))
    settings = zip(mesh.first, mesh.second, strict=True)
    for stage, edge in zip(mesh.network.stages, mesh.edges, strict=True):
        factor = np.diag(np.exp(1j * edge))
        for bank in stage.banks:
            assert (edge[bank.reads] == 0).all()
            for wires, a, b in zip(bank.reads, *next(settings), strict=True):
                middle = np.diag(np.exp(1j * np.array([a, b])))
                factor[np.ix_(wires, wires)] = half @ middle @ half
        u = factor @ u
    assert abs(np.exp(1j * mesh.outputs)[:, None] * u - target).max() < 1e-13
    if d % 2:  # the wire that is idle in a stage needs no phase there
        assert (mesh.edges == 0).all()


@given(networks(max_width=8, wired=False, screens=True), seeds(), st.booleans())
def test_phases_move_to_the_outputs_of_any_network(net, seed, real):
    blocks = sm.random_blocks(net, seed, float if real else complex, special=False)
    rotation = sm.Rotation(net, blocks)
    if any(bank.radix > 2 for bank in net.banks):
        with pytest.raises(StructmatError, match="a mesh has only switches of 2 wires"):
            beam_splitters(rotation)
        return
    found = beam_splitters(rotation)
    assert abs(found.rotation().matrix() - rotation.matrix()).max() < 1e-13
    again = beam_splitters(found.rotation())
    assert again.network == found.network
    for one, other in zip((*found.theta, *found.phi), (*again.theta, *again.phi), strict=True):
        assert abs(np.exp(1j * one) - np.exp(1j * other)).max() < 1e-7  # noise where sin θ is 0


@pytest.mark.parametrize("spec", ["brickwall(depth=3)", "brickwall(depth=20)", "triangle"])
def test_symmetric_interferometers_on_other_networks(spec):
    net = sm.parse(spec)(7)
    rotation = sm.Rotation(net, sm.random_blocks(net, 0, complex))
    found = symmetric(rotation)
    assert abs(found.rotation().matrix() - rotation.matrix()).max() < 1e-13


def test_cycles_of_switches_are_refused():
    net = sm.Network.of(4, [[[0, 1], [2, 3]], [[0, 2], [1, 3]]])
    rotation = sm.Rotation(net, sm.random_blocks(net, 0, complex))
    with pytest.raises(StructmatError, match=r"stages 1 and 2 form a cycle.*use beam_splitters"):
        symmetric(rotation)
    twice = sm.Network.of(2, [[[0, 1]]] * 2)
    with pytest.raises(StructmatError, match="form a cycle"):
        symmetric(sm.Rotation(twice, sm.random_blocks(twice, 0, complex)))


@given(st.floats(-7, 7), st.floats(-7, 7))
def test_beam_splitters_and_interferometers_are_unitary(a, b):
    for made in (beam_splitter(a, b), symmetric_interferometer(a, b)):
        assert abs(made.conj().T @ made - np.eye(2)).max() < 1e-15
    mean, half = (a + b) / 2, (a - b) / 2
    s, c = np.sin(half), np.cos(half)
    expected = 1j * np.exp(1j * mean) * np.array([[s, c], [c, -s]])
    assert abs(symmetric_interferometer(a, b) - expected).max() < 1e-14


@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.ones((2, 2)), "deviates from unitarity by 2, more than 1e-08"),
        (np.eye(2)[:1], r"matrix \(1, 2\).*square"),
        ([["a"]], "square and numeric"),
        ([[1.0]], "at least 2 wires, not 1"),
        (np.full((2, 2), np.nan), "deviates from unitarity by nan"),
        (np.diag([1, np.inf]), "deviates from unitarity by nan"),
        (np.diag([1, 1e300]), r"deviates from unitarity by inf.*scipy\.linalg\.polar"),
        ([[0, 1], [1]], r"of \[\[0, 1\], \[1\]\]: it takes a square array of numbers"),
    ],
)
def test_matrices_that_are_not_unitary_are_refused(name, matrix, words):
    with pytest.raises(StructmatError, match=f"^{name}.*{words}"):
        MESHES[name](matrix)


def test_only_rotations_on_straight_networks_are_accepted():
    wired = sm.families.omega(4)
    with pytest.raises(StructmatError, match="is not straight"):
        beam_splitters(sm.Rotation(wired, sm.random_blocks(wired, 0)))
    with pytest.raises(StructmatError, match="it takes a Rotation"):
        symmetric(np.eye(4))
