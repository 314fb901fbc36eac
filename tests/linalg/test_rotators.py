"""Rotators: exact mixing, orthogonality at any width, and the same bits from a description."""

import copy
import hashlib
import inspect
import math
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import structmat as sm
from structmat.errors import FileError, StructmatError, WidthError
from structmat.families.number_theory import factorizations, prime_factors
from structmat.linalg import rotators
from structmat.linalg.flat_blocks import flat_block, unevenness
from structmat.linalg.rotators import drawn_seed, factors, topology
from structmat.linalg.shared_blocks import distinct

MODELS = (96, 384, 768, 1000, 1032, 1536, 3072, 4096, 11008, 13696, 14336, 28672, 29568, 50257)
FIELDS = ("real", "complex")


def described(rotation):
    """Return a digest of the network and the blocks, independent of the machine's byte order."""
    digest = hashlib.sha256()
    for bank, blocks in zip(rotation.network.banks, rotation.blocks, strict=True):
        digest.update(bank.reads.astype("<i8").tobytes())
        kind = "<c16" if np.iscomplexobj(blocks) else "<f8"
        digest.update(distinct(blocks).astype(kind).tobytes())
    return digest.hexdigest()


def check_orthogonal(r, seed):
    """Compare norms, inner products and the inverse with those of two random vectors."""
    source = np.random.default_rng(seed)
    x = source.standard_normal((2, r.network.width))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = r(x)
    tolerance = 10 * r.network.depth * np.finfo(float).eps
    assert np.abs(y @ y.conj().T - x @ x.T).max() <= tolerance
    assert np.abs(r.H(y) - x).max() <= tolerance
    assert np.isfinite(y).all()


# Exact mixing -------------------------------------------------------------------------------


@given(st.integers(2, 400), st.sampled_from([2, 4, 8, 16, 24]), st.sampled_from(FIELDS))
@example(768, 16, "real")
def test_factors_are_the_best_factorization(width, block, field):
    found = factors(width, block, field=field)
    smooth = max(prime_factors(width)) <= block
    assert (found is not None) == smooth
    if not smooth:
        return
    rated = [
        (sum(unevenness(r, field=field) for r in radices), len(radices), [-r for r in radices])
        for radices in factorizations(width)
        if max(radices) <= block
    ]
    assert min(rated)[2] == [-r for r in found]


@pytest.mark.parametrize("width", [96, 384, 768, 1000, 1536, 3072, 14336])
def test_mixing_is_exact_and_no_entry_exceeds_the_product_of_the_largest_block_entries(width):
    r = sm.rotator(width, rng=1)
    assert sm.mixing(r.network) == 0 if width > 512 else sm.mixing(r.network) < 1e-14
    radices = [stage.banks[0].radix for stage in r.network.stages]
    assert math.prod(radices) == width
    bound = math.prod(np.abs(flat_block(radix)).max() for radix in radices)
    columns = np.eye(width, 3)
    assert np.abs(r @ columns).max() == pytest.approx(bound, rel=1e-12)
    if set(prime_factors(width)) == {2, 3}:  # Hadamard matrices throughout
        assert np.abs(r @ columns) == pytest.approx(width**-0.5, rel=1e-12)


@given(st.integers(2, 120), st.integers(0, 9))
def test_entries_of_complex_rotators_of_smooth_width_have_equal_modulus(width, seed):
    if max(prime_factors(width)) > 16:
        return
    matrix = sm.rotator(width, rng=seed, field="complex").matrix()
    assert np.abs(matrix) == pytest.approx(np.full((width, width), width**-0.5), rel=1e-12)


@pytest.mark.parametrize("width", [17, 114, 185, 251, 1009, 1032, 3060, 7919, 11008, 13696, 29569])
def test_mixing_is_below_two_per_cent_at_widths_with_a_large_prime_factor(width):
    net = topology(width, 16)
    assert sm.mixing(net) < 0.02
    assert max(bank.radix for bank in net.banks) <= 16
    assert all(len(stage.idle) == 0 for stage in net.stages)


# Orthogonality ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [251, 1009, 1032])
def test_dealt_rotators_have_the_moments_of_a_random_rotation(width):
    entries = sm.rotator(width, rng=0).matrix() * width**0.5
    assert np.abs(entries).max() < 5.5
    assert (entries**4).mean(axis=0).max() < 4.5  # 3 for normally distributed entries


def test_rotators_are_orthogonal_at_500_random_widths():
    source = np.random.default_rng(2026)  # wider ones are those of models
    widths = np.exp(source.uniform(math.log(2), math.log(3000), 500)).astype(int)
    assert widths.min() == 2
    assert widths.max() > 2900
    for seed, width in enumerate(widths.tolist()):
        field = "complex" if seed % 10 == 0 else "real"
        check_orthogonal(sm.rotator(width, rng=seed, field=field), seed)


@pytest.mark.parametrize("width", MODELS)
def test_rotators_are_orthogonal_at_the_widths_of_models(width):
    check_orthogonal(sm.rotator(width, rng=width), 0)


@given(
    st.integers(2, 80),
    st.sampled_from([2, 3, 5, 16, 64]),
    st.integers(1, 3),
    st.integers(0, 2**64),
    st.sampled_from(FIELDS),
)
def test_the_matrix_is_the_product_of_signs_and_flat_blocks(width, block, rounds, seed, field):
    r = sm.rotator(width, block=block, rounds=rounds, rng=seed, field=field)
    matrix = r.matrix()
    gram = matrix @ matrix.conj().T
    assert np.abs(gram - np.eye(width)).max() <= 10 * r.network.depth * 2.3e-16 * width**0.5
    net = topology(width, block, field=field)
    product = np.eye(width, dtype=r.dtype)
    for k in range(rounds):
        for t, stage in enumerate(net.stages):
            if t == 0 or factors(width, block, field=field) is None:
                signs = bits_of(f"{r.description} round {k} stage {t}", width, field)
                busy = np.setdiff1d(np.arange(width), stage.idle)
                product[busy] = signs[busy, None] * product[busy]
            dense = np.eye(width, dtype=r.dtype)
            for bank in stage.banks:
                for wires in bank.reads:
                    dense[np.ix_(wires, wires)] = flat_block(bank.radix, field=field)
            product = dense @ product
    assert np.abs(matrix - product).max() <= 1e-13


def bits_of(text, width, field):
    """Return the signs that a text determines, one bit (or two) at a time."""
    per = 2 if field == "complex" else 1
    data = hashlib.shake_256(text.encode()).digest(width)
    bits = [(byte >> (7 - k)) & 1 for byte in data for k in range(8)]
    if per == 1:
        return np.array([(-1.0) ** bit for bit in bits[:width]])
    table = {(0, 0): 1, (1, 0): -1, (0, 1): 1j, (1, 1): -1j}
    return np.array([table[pair] for pair in zip(bits[::2], bits[1::2], strict=True)][:width])


def test_a_hadamard_rotator_is_scipys_matrix_with_signs():
    r = sm.rotator(64, rng=3)
    signs = bits_of(f"{r.description} round 0 stage 0", 64, "real")
    assert r.matrix() == pytest.approx(scipy.linalg.hadamard(64) / 8 * signs, abs=1e-15)


def test_half_precision_vectors_are_rotated_in_double_precision():
    r = sm.rotator(96, rng=2)
    x = np.full(96, 6e4, dtype=np.float16)
    y = r(x)
    assert y.dtype == np.float64
    assert y == pytest.approx(r(x.astype(float)), rel=1e-14)
    assert np.abs(y).max() > 65504  # beyond the range of float16
    assert np.isnan(r(np.full(96, np.nan, dtype=np.float16))).all()


def test_depth_keeps_the_first_stages_and_rounds_repeat_with_new_signs():
    whole, first = sm.rotator(768, rng=5), sm.rotator(768, depth=1, rng=5)
    assert first.network == whole.network[:1]
    matrix = first.matrix()
    assert np.count_nonzero(matrix) == 768 * 16
    assert (np.abs(matrix[matrix != 0]) == 0.25).all()
    twice = sm.rotator(768, rounds=2, rng=5)
    assert twice.network == whole.network.repeat(2)
    halves = [twice.blocks[0], twice.blocks[3]]
    assert (halves[0] != halves[1]).any()
    assert [b.strides[0] == 0 for b in twice.blocks] == [False, True, True] * 2


# Descriptions -------------------------------------------------------------------------------

LINES = """
rotator(2, block=16, seed=0, version=1)
    237edb80c4a225abb35bc10fc5bb437c78e00a8a9a415523dd95610551877616
rotator(96, block=16, seed=1, version=1)
    56df2c6feb724a45f55487894f574ba7a36f9dc6a08434c7457d6fe02bd0928e
rotator(384, block=8, seed=2, version=1)
    0fa40c05000ab1694ed65c498aa69fbca869c2248f540168e0a66f7bd9ca07f2
rotator(768, block=16, seed=0, version=1)
    4f90fb69e8b9e676008d1b51aa395953b58bd3d65e3d05270aa7cdb1f6545271
rotator(768, block=16, depth=1, seed=0, version=1)
    c4ab8ede56dd692f0488d7e4aaab8154c8a6fb504edfb1a010c6c14f1f4cfeda
rotator(1000, block=16, rounds=2, seed=3, version=1)
    0cb4aebf807fa92f734b940f5be93a8dd2b14a83321c28347c929e60a4a51bd6
rotator(1009, block=16, seed=4, version=1)
    b8b2af35b6ba2211451a6c410436b64c23ec9b3cdecd54cbe456e874c87004bc
rotator(1032, block=16, seed=5, version=1)
    5e1b0b3610dd36275695baee8404ce28f8c04808a1fd6c07dfb89386912f6bba
rotator(1032, block=43, field=complex, seed=6, version=1)
    fb0e6b12f446540c9de554c44b43ade890c973666f44166fa6313492bbf3373c
rotator(1536, block=32, rounds=2, depth=2, field=complex, seed=7, version=1)
    9c6d7b0ee6d1d86cab77717d96e9b46cdc3c006c60428c5299034363599b3939
rotator(4096, block=64, seed=340282366920938463463374607431768211455, version=1)
    7bde6c594b90cf05cb3d265c792720bc3929f9bd766017beaaca0c3b5c8fc45e
rotator(13696, block=16, seed=8, version=1)
    e2d968d003bf2d853d021033a38d241db9d86be5211977e3380bd0fc27370154
rotator(29568, block=24, seed=9, version=1)
    8959b46744d6b83dd5d860fda0f31d73cebfc0d270fcb98470793cc4381ff533
rotator(17, block=2, seed=10, version=1)
    2eee435695194fa300a63c2f7d46509849402fe4ffec76f2b0a0a37b24d78f0a
""".splitlines()[1:]
GOLDEN = {text: digest.strip() for text, digest in zip(LINES[::2], LINES[1::2], strict=True)}


def test_descriptions_make_the_same_bits_in_every_release():
    assert {text: described(sm.Rotator.from_description(text)) for text in GOLDEN} == GOLDEN


def test_descriptions_make_the_same_bits_in_another_process():
    few = [text for text in GOLDEN if int(re.search(r"\d+", text)[0]) < 2000]
    code = f"""
import hashlib, sys; sys.path[:0] = {sys.path!r}
import numpy as np
from structmat.linalg.rotators import Rotator
from structmat.linalg.shared_blocks import distinct
{inspect.getsource(described)}
print(*[described(Rotator.from_description(text)) for text in {few!r}])
"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.split() == [GOLDEN[text] for text in few]


@given(
    st.integers(2, 200),
    st.integers(2, 20),
    st.integers(1, 3),
    st.integers(0, 2**128 - 1),
    st.sampled_from(FIELDS),
    st.booleans(),
)
def test_a_rotator_is_rebuilt_from_its_description(width, block, rounds, seed, field, first):
    options = {"depth": 1} if first else {}
    r = sm.rotator(width, block=block, rounds=rounds, rng=seed, field=field, **options)
    for again in (
        sm.Rotator.from_description(r.description),
        pickle.loads(pickle.dumps(r)),  # noqa: S301 (our own bytes)
        copy.deepcopy(r),
    ):
        assert isinstance(again, sm.Rotator)
        assert again.description == r.description
        assert again.network == r.network
        assert described(again) == described(r)
    assert len(pickle.dumps(r)) < 300


@pytest.mark.parametrize("field", FIELDS)
def test_a_saved_rotator_is_loaded_with_its_description(tmp_path, field):
    r = sm.rotator(60, rng=1, block=5, rounds=2, field=field)
    r.save(tmp_path / "r")
    again = sm.Rotation.load(tmp_path / "r")
    assert type(again) is sm.Rotator
    assert again.description == r.description
    assert described(again) == described(r)
    r.T.save(tmp_path / "transposed")
    assert type(sm.Rotation.load(tmp_path / "transposed")) is sm.Rotation


def test_a_file_whose_blocks_are_not_those_of_its_description_is_rejected(tmp_path):
    path, r = tmp_path / "r", sm.rotator(12, rng=1)
    r.save(path)
    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        about = file.metadata()
    for change, tensor, message in (
        ({"description": sm.rotator(12, rng=2).description}, 1.0, "damaged .*not those of rotator"),
        ({"description": sm.rotator(15, rng=1).description}, 1.0, "not those of rotator"),
        ({"description": r.description.replace("version=1", "version=2")}, 1.0, "upgrade structma"),
        ({"description": "rotator"}, 1.0, "a description has the form"),
        ({}, -1.0, "not those of rotator"),
        ({"dtype": "float32"}, 1.0, "not those of rotator"),
    ):
        changed = {key: tensor * value for key, value in tensors.items()}
        save_file(changed, path, metadata=about | change)
        with pytest.raises(FileError, match=message):
            sm.Rotation.load(path)
    del about["description"]
    save_file(tensors, path, metadata=about)
    assert type(sm.Rotation.load(path)) is sm.Rotation


def test_seeds_come_from_any_numpy_source():
    assert drawn_seed(np.int64(7)) == 7
    draws = [drawn_seed(np.random.default_rng(5)) for _ in range(2)]
    assert draws[0] == draws[1]
    source = np.random.default_rng(5)
    assert drawn_seed(source) != drawn_seed(source)
    assert drawn_seed(np.random.SeedSequence(1)) == drawn_seed(np.random.SeedSequence(1))
    fresh = sm.rotator(8, rng=None), sm.rotator(8, rng=None)
    assert fresh[0].description != fresh[1].description
    again = sm.Rotator.from_description(fresh[0].description)
    assert described(again) == described(fresh[0])


# Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"width": 0}, "width=0: width must be an integer ≥ 2"),
        ({"width": 1}, "width=1: width must be an integer ≥ 2"),
        ({"width": -4}, "width=-4: width must be an integer ≥ 2"),
        ({"width": math.nan}, "width=nan: width must be an integer"),
        ({"width": 768.0}, "width=768.0: width must be an integer"),
        ({"width": True}, "width=True: width must be an integer"),
        ({"width": "768"}, "width='768': width must be an integer"),
        ({"width": 10**6 + 1}, "width=1000001: a rotator has at most 1,000,000 wires"),
        ({"block": 1}, "block=1: block must be an integer ≥ 2"),
        ({"block": 257}, "block=257: block must be at most 256"),
        ({"block": 8.0}, "block=8.0: block must be an integer"),
        ({"rounds": 0}, "rounds=0: rounds must be an integer ≥ 1"),
        ({"rounds": 10**9}, "rounds=1000000000: .* 4,096 stages, .* rounds must be at most 1,365"),
        ({"width": 17, "depth": 9}, "a round of this rotator has 3 stages"),
        ({"width": 12, "depth": 2}, "a round of this rotator has 1 stage, so"),
        ({"field": np.array("real")}, 'it must be "real"'),
        ({"depth": 0}, "depth=0: depth must be an integer ≥ 1"),
        ({"depth": 4}, "depth=4: a round of this rotator has 3 stages"),
        ({"rng": -1}, r"rng=-1: it must be an integer from 0 to 2\^128 − 1 or a numpy Generator"),
        ({"rng": 2**128}, r"rng=3402.*it must be an integer from 0 to 2\^128"),
        ({"rng": 1.0}, "rng=1.0: it must be an integer"),
        ({"rng": True}, "rng=True: it must be an integer"),
        ({"rng": "seed"}, "rng='seed': it must be an integer"),
        ({"rng": math.nan}, "rng=nan: it must be an integer"),
        ({"rng": [1, 2]}, r"rng=\[1, 2\]: it must be an integer"),
        ({"rng": np.random.RandomState(0)}, "rng=RandomState.*: it must be an integer"),
        ({"field": "quaternion"}, r"field='quaternion': it must be .real"),
        ({"field": None}, 'field=None: it must be "real"'),
    ],
)
def test_bad_input_is_rejected_in_one_line(given, message):
    with pytest.raises(StructmatError, match=message) as caught:
        sm.rotator(**{"width": 768, **given})
    assert "\n" not in str(caught.value)


def test_the_number_of_block_entries_is_limited(monkeypatch):
    entries = sm.rotator(12, block=4).network.nonzeros
    monkeypatch.setattr(rotators, "_ENTRIES", 2 * entries)
    assert sm.rotator(12, block=4, rounds=2).network.nonzeros == 2 * entries
    with pytest.raises(StructmatError, match=r"block entries, .* rounds must be at most 2"):
        sm.rotator(12, block=4, rounds=3)
    with pytest.raises(
        StructmatError, match=r"would have 289 block entries.* a smaller block or depth"
    ):
        sm.rotator(17, block=17)


def test_a_width_beyond_the_maximum_is_a_width_error():
    text = sm.rotator(768).description
    with pytest.raises(StructmatError, match=r"a description; use Rotator\.from_description"):
        sm.rotator(text)
    with pytest.raises(WidthError, match="width=10000000: a rotator has at most"):
        sm.rotator(10**7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'': a description has the form rotator"),
        (768, "768: a description has the form rotator"),
        (None, "None: a description has the form rotator"),
        ("rotator(768)", "a description has the form rotator"),
        ("rotator(768, block=16, seed=0)", "a description has the form rotator"),
        ("rotator(768, seed=0, block=16, version=1)", "a description has the form rotator"),
        ("rotator(768, block=16, seed=0, version=1) ", "a description has the form rotator"),
        ("rotator(768,block=16,seed=0,version=1)", "a description has the form rotator"),
        ("rotator(768, block=16, seed=0, seed=1, version=1)", "a description has the form rotator"),
        ("rotator(768, block=16, seed=-1, version=1)", "a description has the form rotator"),
        ("rotator(768, block=16, seed=x, version=1)", "a description has the form rotator"),
        ("rotator(768, block=16, size=3, seed=0, version=1)", "a description has the form rotator"),
        ("rotator(٧, block=16, seed=0, version=1)", "a description has the form rotator"),
        ("__import__('os')", "a description has the form rotator"),
        ("rotator(768, block=16, seed=0, version=2)", "version 2 is unknown; .* upgrade structmat"),
        ("rotator(768, block=16, seed=00, version=1)", "the description of this rotator is 'rotat"),
        ("rotator(768, block=16, rounds=1, seed=0, version=1)", "the description of this rotator"),
        ("rotator(768, block=16, depth=3, seed=0, version=1)", "the description of this rotator"),
        ("rotator(1, block=16, seed=0, version=1)", "width=1: width must be"),
        (f"rotator(2, block=2, rounds={'9' * 40}, seed=0, version=1)", "rounds=.* at most 4,096"),
        ("rotator(768, block=16, field=odd, seed=0, version=1)", r"field='odd': it must be .real"),
    ],
)
def test_invalid_descriptions_are_rejected(text, message):
    with pytest.raises(StructmatError, match=message):
        sm.Rotator.from_description(text)
