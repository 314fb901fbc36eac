"""Certificates against brute force over the matrix, and two rotations that concentrate energy."""

import itertools
import json
import math
import pickle
import re

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis import certificates
from structmat.analysis.energies import haar_limit
from structmat.analysis.mixing import fourth_moments, mixing
from structmat.analysis.sign_moments import fourth_moment, haar_fourth_moment
from structmat.errors import BlockError, StructmatError, WiringError
from structmat.linalg.factors import factors
from structmat.testing import blocks_for, networks, seeds


@st.composite
def rotations(draw, max_width=8):
    net = draw(networks(max_width=max_width))
    dtype = draw(st.sampled_from([float, complex, np.float32]))
    special = draw(st.booleans())
    return sm.Rotation(net, draw(blocks_for(net, dtype, special=special)))


def tolerance(r):
    return 1e-5 if r.dtype == np.float32 else 1e-12


# Certified values and brute force ----------------------------------------------------------------


@given(rotations())
def test_energies_are_the_largest_of_the_matrix(r):
    found, d = sm.certify(r), r.network.width
    energies = np.abs(r.matrix().astype(complex)) ** 2
    close = {"abs": tolerance(r)}
    assert found.one.energy == pytest.approx(energies.max(), **close)
    assert energies[found.one.output, found.one.inputs[0]] == pytest.approx(
        found.one.energy, **close
    )
    if d == 1:
        assert found.two is None
    else:
        pairs = itertools.combinations(range(d), 2)
        assert found.two.energy == pytest.approx(
            max((energies[:, j] + energies[:, k]).max() for j, k in pairs), **close
        )
        (j, k), i = found.two.inputs, found.two.output
        assert j < k
        assert energies[i, j] + energies[i, k] == pytest.approx(found.two.energy, **close)
    assert found.mixing == pytest.approx(np.linalg.norm(energies - 1 / d, 2), abs=d * tolerance(r))
    assert found.quartic_sum == pytest.approx((energies**2).sum(axis=0).max(), **close)
    assert found.coherence == pytest.approx(math.sqrt(d * energies.max()), abs=d * tolerance(r))
    assert found.complete


@given(rotations(), seeds())
def test_no_unit_vector_on_one_or_two_inputs_leaves_more_energy(r, seed):
    rng, d = np.random.default_rng(seed), r.network.width
    found = sm.certify(r)
    for extreme, count in ((found.one, 1), (found.two, 2)):
        if extreme is not None:
            for _ in range(10):
                x = np.zeros(d, complex)
                x[rng.choice(d, count, replace=False)] = rng.standard_normal((2, count)).T @ [1, 1j]
                energy = np.abs(r.matrix() @ x) ** 2 / np.linalg.norm(x) ** 2
                assert energy.max() <= extreme.energy + tolerance(r)
            row = r.matrix()[extreme.output, list(extreme.inputs)]
            x = np.conj(row) / np.linalg.norm(row)
            assert np.abs(row @ x) ** 2 == pytest.approx(extreme.energy, abs=tolerance(r))


@given(rotations())
def test_expected_energies_are_products_of_squares(r):
    found, d = sm.certify(r), r.network.width
    expected = np.eye(d)
    for factor in factors(r.network, r.blocks):
        expected = np.abs(factor.toarray().astype(complex)) ** 2 @ expected
    assert found.expected.energy == pytest.approx(expected.max(), abs=tolerance(r))
    (j,), i = found.expected.inputs, found.expected.output
    assert expected[i, j] == pytest.approx(expected.max(), abs=tolerance(r))
    deviation = np.linalg.norm(expected - 1 / d, 2)
    assert found.expected_mixing == pytest.approx(deviation, abs=d * tolerance(r))


@given(networks(max_width=4, max_depth=2), seeds())
@settings(max_examples=20)
def test_expected_energies_are_means_over_all_signs_before_every_stage(net, seed):
    r = sm.Rotation(net, sm.random_blocks(net, rng=seed))
    signs = [np.array(s) for s in itertools.product([1.0, -1.0], repeat=net.width)]
    mean = np.zeros((net.width, net.width))
    for chosen in itertools.product(signs, repeat=net.depth):
        matrix = np.eye(net.width)
        for factor, sign in zip(r.factors(), chosen, strict=True):
            matrix = factor @ (sign[:, None] * matrix)
        mean += matrix**2 / len(signs) ** net.depth
    assert sm.certify(r).expected.energy == pytest.approx(mean.max(), abs=1e-12)


@given(rotations(), seeds())
def test_fourth_moments_are_never_above_the_certified_one(r, seed):
    found, d = sm.certify(r), r.network.width
    energies = np.abs(r.matrix().astype(complex)) ** 2
    rng = np.random.default_rng(seed)
    haar = haar_fourth_moment(d, field=found.field)
    vectors = [*np.eye(d), *rng.standard_normal((20, d))]
    vectors += [np.sqrt(row / row.sum()) for row in energies]
    for x in vectors:
        moments = fourth_moment(energies, x / np.linalg.norm(x), field=found.field)
        assert moments.max() <= found.fourth * haar + 10 * tolerance(r)
    assert found.fourth * haar >= energies.max() ** 2 - tolerance(r)
    expected = fourth_moments(r.network, field=found.field).max()
    assert found.haar_blocks_fourth * haar == pytest.approx(expected, rel=1e-12)


@given(rotations(), st.integers(1, 12))
def test_no_choice_of_blocks_is_better_than_the_bound_of_the_topology(r, deeper):
    found, d = sm.certify(r), r.network.width
    assert found.reached == sm.reach(r.network).sum(axis=0).min()
    assert sm.reach(r.network)[:, found.reached_from].sum() == found.reached
    assert found.one.energy >= 1 / found.reached - tolerance(r)
    assert found.expected.energy >= 1 / found.reached - tolerance(r)
    assert found.topology_mixing == sm.mixing(r.network)
    most = math.prod(
        max((bank.radix for bank in stage.banks), default=1) for stage in r.network.stages
    )
    assert found.reached <= min(d, most)


@given(st.integers(1, 40), st.sampled_from(["real", "complex"]))
@settings(max_examples=20)
def test_the_haar_limit_has_the_stated_probability(width, field):
    limit = haar_limit(width, field=field)
    one, rest = (1, width - 1) if field == "complex" else (0.5, (width - 1) / 2)
    if width > 1:
        tail = scipy.stats.beta.sf(limit, one, rest)
        assert tail * width**2 == pytest.approx(1e-3, rel=1e-4)
    assert 0 < limit <= 1


@pytest.mark.parametrize("dtype", [float, complex])
def test_haar_matrices_rarely_have_a_fault(dtype):
    """With a probability of at most 0.1 %, and about that."""
    width, count = 12, 10_000
    many = sm.Network.of(width * count, [np.arange(width * count).reshape(count, width)])
    (blocks,) = sm.random_blocks(many, 0, dtype)
    limit = haar_limit(width, field="complex" if dtype is complex else "real")
    faulty = (np.abs(blocks) ** 2).max(axis=(1, 2)) > limit
    assert 1 <= faulty.sum() <= 10 + 5 * 10**0.5
    net = sm.Network.of(width, [[range(width)]])
    for k in (int(faulty.argmax()), int(faulty.argmin())):
        assert bool(sm.certify(sm.Rotation(net, [blocks[k : k + 1]])).faults) == faulty[k]


@pytest.mark.parametrize("unitary", [False, True])
def test_flat_blocks_on_a_perfectly_mixing_network_have_ideal_values(unitary):
    net = sm.mixed_radix(64, (4, 4, 4))
    block = scipy.linalg.dft(4) / 2 if unitary else scipy.linalg.hadamard(4) / 2
    found = sm.certify(sm.Rotation(net, [np.tile(block, (16, 1, 1))] * 3))
    assert found.faults == ()
    for value in (found.topology_mixing, found.expected_mixing, found.mixing):
        assert value == pytest.approx(0, abs=1e-12)
    assert found.one.energy == pytest.approx(1 / 64)
    assert found.two.energy == pytest.approx(2 / 64)
    assert found.coherence == pytest.approx(1)
    most, haar = (2, 2 / 65) if unitary else (3, 3 / 66)
    assert found.fourth == pytest.approx((most - (most - 1) / 64) / 64 / haar)


# Large widths ------------------------------------------------------------------------------------


@given(rotations(max_width=10), st.data())
def test_values_for_a_sample_of_inputs_bound_those_for_all_inputs(r, data):
    d = r.network.width
    inputs = data.draw(st.lists(st.integers(0, d - 1), min_size=1, max_size=2 * d))
    some, whole = sm.certify(r, inputs=inputs), sm.certify(r)
    for name in ("mixing", "fourth", "quartic_sum", "coherence"):
        assert getattr(some, name) <= getattr(whole, name) + 1e-9
    for name in ("one", "expected"):
        assert getattr(some, name).energy <= getattr(whole, name).energy + 1e-12
        assert set(getattr(some, name).inputs) <= set(inputs)
    assert some.reached >= whole.reached
    assert (some.topology_mixing, some.expected_mixing) == (
        whole.topology_mixing,
        pytest.approx(whole.expected_mixing, abs=1e-12),
    )
    assert some.complete == (len(set(inputs)) == d)


@given(rotations(max_width=10))
@settings(max_examples=30)
def test_lanczos_and_chunks_agree_with_the_dense_computation(r):
    if r.network.width < 3:
        return
    whole = sm.certify(r)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("structmat.analysis.energies._DENSE", 2)
        patch.setattr("structmat.analysis.energies._CHUNK", 3)
        patch.setattr(certificates, "_CHUNK", 3)
        found = sm.certify(r)
        patch.setattr(certificates, "_COMPLETE", 2)
        patch.setattr(certificates, "_SAMPLED", 2)
        sampled = sm.certify(r)
    assert sampled.examined == 2
    assert found.mixing == pytest.approx(whole.mixing, abs=1e-7)
    for some in (found, sampled):
        assert some.expected_mixing == pytest.approx(whole.expected_mixing, abs=1e-7)
    for name in ("fourth", "quartic_sum", "coherence"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    for name in ("one", "two", "expected"):
        energies = [getattr(one, name).energy for one in (found, whole)]
        assert energies[0] == pytest.approx(energies[1], rel=1e-12)


def test_wide_rotations_are_sampled():
    net = sm.mixed_radix(6144, largest=16)
    r = sm.Rotation(net, sm.random_blocks(net, rng=0))
    found = sm.certify(r)
    assert (found.examined, found.complete) == (256, False)
    assert (found.topology_mixing, found.reached) == (0, 6144)
    (j,), i = found.one.inputs, found.one.output
    x = np.zeros(6144)
    x[j] = 1
    assert (r @ x)[i] ** 2 == pytest.approx(found.one.energy)
    assert "256 inputs examined" in str(found)
    assert re.search(r"energy of one input +≥ 0\.\d+ .*this matrix", str(found))
    with pytest.raises(StructmatError, match="distortion: 256 of 6,144 inputs were examined"):
        found.distortion(100)


def test_shared_blocks_are_computed_once(monkeypatch):
    net, flat = sm.mixed_radix(64, (4, 4, 4)), scipy.linalg.hadamard(4)[None] / 2
    original, given = certificates.expected_energies, []

    def recorded(net, squares, inputs):
        given.append(squares)
        return original(net, squares, inputs)

    monkeypatch.setattr(certificates, "expected_energies", recorded)
    banks = [np.broadcast_to(flat, (16, 4, 4)), np.tile(flat, (16, 1, 1))]
    found = [sm.certify(sm.Rotation(net, [bank] * 3)) for bank in banks]
    shared, separate = given
    assert [square.strides[0] for square in shared] == [0, 0, 0]
    assert min(square.strides[0] for square in separate) > 0
    np.testing.assert_array_equal(shared, separate)
    assert found[0] == found[1]


def test_too_many_inputs_are_rejected(monkeypatch):
    monkeypatch.setattr(certificates, "_MOST", 100)
    net = sm.butterfly(16)
    r = sm.Rotation(net, sm.random_blocks(net, rng=0))
    with pytest.raises(StructmatError, match="up to 100 entries; give at most 6 inputs"):
        sm.certify(r, inputs=range(7))
    assert sm.certify(r, inputs=range(6)).examined == 6


# Output ------------------------------------------------------------------------------------------


@given(rotations())
def test_text_html_and_json_agree(r):
    found = sm.certify(r)
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    assert found == pickle.loads(pickle.dumps(found))  # noqa: S301
    assert list(found.to_dict()["faults"]) == list(found.faults)
    for fault in found.faults:
        assert fault in " ".join(str(found).split())
    html = found._repr_html_()
    assert html.count("<tr>") == 1 + len(found._rows())
    table = str(found).split("\n\n")[1]
    assert max(map(len, str(found).splitlines())) <= 100
    assert len(table.splitlines()) == 2 + len(found._rows())


def test_the_remedies_for_matrices_and_layers_work():
    from structmat.nn import Orthogonal

    matrix = scipy.stats.ortho_group.rvs(7, random_state=0)
    r = sm.Rotation(sm.Network.of(7, [[range(7)]]), [matrix[None]])
    assert sm.certify(r).one.energy == pytest.approx((matrix**2).max(), rel=1e-12)
    layer = Orthogonal(sm.butterfly(4))
    with pytest.raises(StructmatError, match=r"such as the result of its method rotation\(\)$"):
        sm.certify(layer)
    assert sm.certify(layer.rotation()).one.energy == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((sm.butterfly(4),), StructmatError, r"certify of .*: it takes a Rotation, such as"),
        ((np.eye(4),), StructmatError, r"with this matrix: Rotation\(Network\.of\(4, \[\[range"),
        ((np.eye(99),), StructmatError, r"^certify of ndarray of shape \(99, 99\): it takes"),
        ((sm.fit(sm.butterfly(4), np.eye(4)),), StructmatError, "such as its attribute rotation$"),
        ((None,), StructmatError, r"certify of None"),
    ],
)
def test_only_rotations_are_certified(arguments, error, message):
    with pytest.raises(error, match=message):
        sm.certify(*arguments)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [([4], "wire 4: the network has wires 0 to 3"), ([], "at least one"), ([0.5], "inputs")],
)
def test_invalid_inputs_are_rejected(inputs, message):
    net = sm.butterfly(4)
    with pytest.raises(WiringError, match=message):
        sm.certify(sm.Rotation(net, sm.random_blocks(net, rng=0)), inputs=inputs)


def test_blocks_of_other_libraries_are_rejected():
    torch = pytest.importorskip("torch")
    net = sm.butterfly(4)
    blocks = [torch.as_tensor(b) for b in sm.random_blocks(net, rng=0)]
    with pytest.raises(BlockError, match="certify: the blocks are torch arrays"):
        sm.certify(sm.Rotation(net, blocks))


def test_distortion_bounds_follow_from_the_values_of_the_certificate():
    found = sm.certify(sm.rotator(64))
    rms = found.rms_distortion(16)
    assert found.distortion(16, vectors=4, failure=0.25) == pytest.approx(4 * rms)
    assert found.distortion(64) == 0
    assert found.distortion(16, failure=1e-9) == 3  # never more than d/m − 1
    assert found.distortion(16, vectors=2**64 - 1, failure=5e-324) == 3
    assert found.distortion(63, failure=5e-324) == 1
    with pytest.raises(StructmatError, match="failure=0: it must be a probability"):
        found.distortion(16, failure=0)
    with pytest.raises(StructmatError, match="outputs=65: it must be at most the width 64"):
        found.distortion(65)


def test_a_certificate_has_faults_instead_of_a_verdict():
    net = sm.butterfly(4)
    found = sm.certify(sm.Rotation(net, sm.random_blocks(net, rng=0)))
    with pytest.raises(AttributeError, match="a Certificate has no ok: use its attribute faults"):
        _ = found.ok
    with pytest.raises(AttributeError, match="a Certificate has no attribute 'fault'"):
        _ = found.fault
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 (our own bytes)


# Two rotations that concentrate energy -----------------------------------------------------------


def hadamard_rotation(net, rng):
    """Hadamard blocks with random signs of all wires before every stage."""
    blocks = []
    for bank in net.banks:
        flat = scipy.linalg.hadamard(bank.radix) / math.sqrt(bank.radix)
        blocks.append(flat * rng.choice([-1.0, 1.0], (bank.count, 1, bank.radix)))
    return sm.Rotation(net, blocks)


@pytest.mark.parametrize(("depth", "mixes", "share"), [(2, 0.645, 0.0605), (4, 0.118, 0.98)])
def test_two_rounds_of_blocks_of_8_reach_64_wires(depth, mixes, share):
    """Width 1,032 = 8·129, with a random permutation before each round."""
    for seed in range(3):
        net = sm.random(1032, 8, depth, rng=seed)
        assert mixing(net) == pytest.approx(mixes, abs=0.015)
        assert sm.reach(net).mean() == pytest.approx(share, abs=0.005)
    found = sm.certify(hadamard_rotation(net, np.random.default_rng(0)))
    assert found.reached <= 8**depth
    assert found.faults[0].startswith(
        f"input {found.reached_from} reaches {found.reached} of 1,032"
    )
    assert found.one.energy >= 1 / 64 if depth == 2 else found.one.energy > 1 / 1032


def test_a_transposition_reaches_all_wires_in_four_rounds():
    """In two rounds it reaches 64, the most possible, but the others not at all."""
    two, four = sm.shuffle(1032, 8, 2), sm.shuffle(1032, 8, 4)
    assert (sm.reach(two).sum(axis=0) == 64).all()
    assert sm.is_dense(four)
    assert sm.mixing(two) == pytest.approx(0.994, abs=5e-4)
    assert sm.mixing(four) == pytest.approx(0.008, abs=5e-4)


def two_ended(width, rounds=4):
    """Hadamard transforms of the first and the last 2^k wires in turn, each before a Kac step."""
    k, half = 1 << (width.bit_length() - 1), width // 2
    kac = [[i, i + half] for i in range(half)]
    ends = [range(k), range(width - k, width)]
    return sm.Network.of(width, [s for t in range(rounds) for s in ([ends[t % 2]], kac)])


def two_ended_rotation(width, rng):
    """As published: random signs of all wires before each transform, none before the Kac steps."""
    net = two_ended(width)
    k, half = 1 << (width.bit_length() - 1), width // 2
    transform = scipy.linalg.hadamard(k) / math.sqrt(k)
    pair = scipy.linalg.hadamard(2) / math.sqrt(2)
    blocks = []
    for t in range(net.depth // 2):
        signs = rng.choice([-1.0, 1.0], width)
        end = slice(0, k) if t % 2 == 0 else slice(width - k, width)
        blocks.append((transform * signs[end])[None])
        signs[end] = 1  # the signs of the other wires belong to the columns of the Kac blocks
        blocks.append(pair * np.stack([signs[:half], signs[half:]], axis=1)[:, None])
    return sm.Rotation(net, blocks)


def test_hadamard_transforms_of_both_ends_leave_a_sixteenth_on_one_wire():
    """At 768, inputs 512 to 639, one in six, and not the others."""
    expected = np.zeros(768)
    for seed in range(4):
        r = two_ended_rotation(768, np.random.default_rng(seed))
        found = sm.certify(r)
        assert found.reached == 768
        assert found.expected.energy == pytest.approx(1 / 16, rel=0.02)
        assert found.expected_above == 128
        (j,), i = found.expected.inputs, found.expected.output
        assert 512 <= j < 640
        assert i in (j, j - 384)
        assert found.above >= 120
        assert f"input {j} leaves on average 0.06" in found.faults[0]
        assert "128 of 768 inputs examined leave more than 0.0" in found.faults[0]
        energies = r.matrix() ** 2
        keep = energies.max(axis=0) > 1 / 30
        expected += energies[:, 512:640].max(axis=1)
        assert keep[512:640].all()
        assert keep.sum() <= 140
    assert set(np.flatnonzero(expected > 4 / 20)) <= set(range(128, 256)) | set(range(512, 640))


def test_the_published_seeds_leave_the_certified_energy_on_average():
    """The mean over 40 seeds, without signs before the Kac steps, at a quarter of the width."""
    width, draws = 192, 40
    squares = [
        two_ended_rotation(width, np.random.default_rng(seed)).matrix() ** 2
        for seed in range(draws)
    ]
    found = sm.certify(two_ended_rotation(width, np.random.default_rng(0)))
    (j,), i = found.expected.inputs, found.expected.output
    values = np.array([s[i, j] for s in squares])
    error = values.std() / math.sqrt(draws)
    assert abs(values.mean() - found.expected.energy) <= 5 * error
    assert found.expected.energy == pytest.approx(1 / 16, rel=0.1)
    assert found.expected_mixing == pytest.approx(sm.mixing(two_ended(width)), abs=1e-9)
