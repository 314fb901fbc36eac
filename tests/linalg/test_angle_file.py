"""Rotation angles of switches, compared with those of the torch layer and with plane rotations."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given

import structmat as sm
from structmat.errors import BlockError, FileError
from structmat.linalg.angle_file import blocks_of, read, written
from structmat.nn.parametrizations.givens_householder import givens
from structmat.testing import networks, seeds


def drawn(net, seed):
    """Angles for each switch of each stage."""
    rng = np.random.default_rng(seed)
    return [
        [
            rng.uniform(-4, 4, bank.radix * (bank.radix - 1) // 2).tolist()
            for bank in stage.banks
            for _ in range(bank.count)
        ]
        for stage in net.stages
    ]


def by_planes(net, angles):
    """The matrix, as a product of plane rotations of single pairs of wires."""
    matrix = np.eye(net.width)
    for stage, given_angles in zip(net.stages, angles, strict=True):
        factor = np.zeros((net.width, net.width))
        start, end = stage.passing
        factor[end, start] = 1
        rows = [(r, w) for b in stage.banks for r, w in zip(b.reads, b.writes, strict=True)]
        for (reads, writes), switch in zip(rows, given_angles, strict=True):
            block = np.eye(len(reads))
            for (i, j), angle in zip(zip(*np.triu_indices(len(reads), 1)), switch, strict=True):  # noqa: B905
                plane = np.eye(len(reads))
                plane[[i, j], [i, j]] = np.cos(angle)
                plane[i, j], plane[j, i] = np.sin(angle), -np.sin(angle)
                block = block @ plane
            factor[np.ix_(writes, reads)] = block
        matrix = factor @ matrix
    return matrix


@given(networks(screens=True), seeds())
def test_angles_rotate_planes_in_lexicographic_order(net, seed):
    angles = drawn(net, seed)
    rotation = sm.Rotation(net, blocks_of(net, angles))
    assert np.allclose(
        rotation.matrix(), by_planes(net, angles), rtol=0, atol=1e-13 * (1 + net.depth)
    )


@given(networks(screens=True), seeds())
def test_angles_are_the_generators_of_givens_blocks_in_torch(net, seed):
    angles = drawn(net, seed)
    flat = iter([switch for stage in angles for switch in stage])
    for bank, blocks in zip(net.banks, blocks_of(net, angles), strict=True):
        rows = torch.tensor([next(flat) for _ in range(bank.count)], dtype=torch.float64)
        expected = givens(rows.reshape(bank.count, -1), bank.radix)
        assert np.allclose(blocks, expected.numpy(), rtol=0, atol=1e-14 * bank.radix)


@given(networks(screens=True), seeds())
def test_the_json_of_angles_is_read_back(net, seed):
    angles = drawn(net, seed)
    again, blocks = read(written(net, angles))
    assert again == net
    assert all(map(np.array_equal, blocks, blocks_of(net, angles)))


def test_a_rotation_is_loaded_from_a_file(tmp_path):
    net = sm.benes(8)
    angles = drawn(net, 0)
    path = tmp_path / "rotation.json"
    path.write_text(written(net, angles))
    rotation = sm.Rotation.load(path)
    assert rotation.network == net
    assert np.array_equal(rotation.matrix(), sm.Rotation(net, blocks_of(net, angles)).matrix())
    path.write_text(net.to_json())
    with pytest.raises(FileError, match=r'rotation\.json: rotation JSON lacks "format"'):
        sm.Rotation.load(path)
    with pytest.raises(FileError, match=r"missing\.json"):
        sm.Rotation.load(tmp_path / "missing.json")
    path.write_bytes(b"\xff")
    with pytest.raises(FileError, match=r"rotation\.json"):
        sm.Rotation.load(path)


@pytest.mark.parametrize(
    ("angles", "words"),
    [
        ([], "0 entries, but there are 1 stages"),
        ([[]], "0 entries, but there are 2 switches"),
        ([[[0.5], [1.0, 2.0]]], "needs 3 finite numbers"),
        ([[[0.5, 1.0, float("nan")], [0.5]]], "needs 3 finite numbers"),
        ([[[0.5, 1.0, "x"], [0.5]]], "needs 3 finite numbers"),
        ([[[0.5, 1.0, 10**400], [0.5]]], "needs 3 finite numbers"),
        ([5], "give a list"),
        (None, "give a list"),
    ],
)
def test_angles_that_do_not_fit_are_refused(angles, words):
    net = sm.Network.of(5, [[[0, 1, 2], [3, 4]]])
    with pytest.raises(BlockError, match=words):
        blocks_of(net, angles)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "schema version 2"),
        ({"network": None}, "network JSON"),
        ({"angles": 7}, "damaged"),
        ({"angles": [[[0.5, 0.5]]]}, "damaged"),
    ],
)
def test_damaged_json_is_refused(change, words):
    data = json.loads(written(sm.Network.of(2, [[[0, 1]]]), [[[0.5]]]))
    with pytest.raises(FileError, match=words):
        read(json.dumps(data | change))
    with pytest.raises(FileError, match="rotation JSON"):
        read(json.dumps(data)[:-5])
