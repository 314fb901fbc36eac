"""Rotations agree with the reference implementation and with dense matrices."""

import copy
import pickle

import array_api_compat
import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import BlockError, FileError, StructmatError
from structmat.linalg.block_powers import powers
from structmat.linalg.factors import matrix_of
from structmat.testing import networks, seeds

DTYPES = (np.float64, np.float32, np.complex128, np.complex64)


def made(net, seed, dtype=np.float64, *, special=True):
    return sm.Rotation(net, sm.random_blocks(net, seed, dtype, special=special))


def near(ours, theirs, dtype=np.float64, scale=1.0):
    eps = np.finfo(dtype).eps
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max(initial=0) <= 200 * eps * scale * max(1, len(theirs))


@given(networks(wired=True), seeds(), st.sampled_from(DTYPES))
def test_a_rotation_has_the_matrix_of_the_reference(net, seed, dtype):
    r = made(net, seed, dtype)
    matrix = matrix_of(net, r.blocks)
    assert r.shape == matrix.shape
    assert r.dtype == (matrix.dtype if net.banks else float)
    near(r.matrix(), matrix, dtype)
    source = np.random.default_rng(seed)
    x = source.standard_normal((2, 3, net.width)).astype(dtype)
    scale = 1 + np.abs(x).max()
    near(r(x), x @ matrix.T, dtype, scale)
    near(r @ x[0].T, matrix @ x[0].T, dtype, scale)
    near(r @ x[0, 0], matrix @ x[0, 0], dtype, scale)
    near(x[0] @ r, x[0] @ matrix, dtype, scale)
    product = np.eye(net.width)
    for factor in r.factors():
        product = factor @ product
    near(product, matrix, dtype)


@given(networks(wired=True, max_width=8), seeds(), st.sampled_from(DTYPES), st.integers(0, 3))
def test_operations_on_rotations_agree_with_those_on_matrices(net, seed, dtype, times):
    r, s = made(net, seed, dtype), made(net, seed + 1, dtype)
    for rotation, matrix in (
        (r @ s, r.matrix() @ s.matrix()),
        (r.T, r.matrix().T),
        (r.H, r.matrix().conj().T),
        (r**times, np.linalg.matrix_power(r.matrix(), times)),
    ):
        assert isinstance(rotation, sm.Rotation)
        near(rotation.matrix(), matrix, dtype)
    near((r.H @ r).matrix(), np.eye(net.width), dtype)
    assert (r @ s).network == s.network.then(r.network)


@given(networks(), seeds())
def test_scipy_accepts_a_rotation_as_an_operator(net, seed):
    r = made(net, seed)
    x = np.random.default_rng(seed).standard_normal((net.width, 2))
    assert scipy.sparse.linalg.aslinearoperator(r) is r
    near(r.matmat(x), r.matrix() @ x, scale=10)
    near(r.rmatmat(x), r.matrix().T @ x, scale=10)
    near(r.matvec(x[:, 0]), r.matrix() @ x[:, 0], scale=10)
    near(r.rmatvec(x[:, 0]), r.matrix().T @ x[:, 0], scale=10)
    near((2 * r + r.H) @ x, 2 * r.matrix() @ x + r.matrix().T @ x, scale=30)
    near(r.dot(x), r @ x, scale=10)


@given(networks(max_width=8), seeds(), st.floats(-2, 2), st.sampled_from(DTYPES))
def test_powers_are_geodesics_of_blocks(net, seed, t, dtype):
    r = made(net, seed, dtype)
    half = r.power(t)
    for block, part in zip(r.blocks, half.blocks, strict=True):
        assert part.dtype == block.dtype
        near(part, np.stack([block_power(b, t) for b in block]), dtype, 1e3)
    near((r.power(t) @ r.power(t).H).matrix(), np.eye(net.width), dtype, 10)
    near(r.power(1).matrix(), r.matrix(), dtype)
    near(r.power(0).matrix(), made_identity(net), dtype)


def block_power(block, t):
    """scipy's logarithm is the oracle; random blocks have no eigenvalue near −1."""
    logarithm = scipy.linalg.logm(block.astype(complex))
    found = scipy.linalg.expm(t * logarithm)
    return found if np.iscomplexobj(block) else found.real


def made_identity(net):
    return sm.Rotation(net, sm.identity_blocks(net)).matrix()


def test_a_half_turn_has_powers_and_a_reflection_has_none():
    half = powers(-np.eye(2)[None], 0.5)[0]
    near(half @ half, -np.eye(2))
    near(half @ half.T, np.eye(2))
    assert powers(np.diag([-1.0, 1.0, -1.0])[None], 0.25)[0, 1, 1] == pytest.approx(1)
    reflection = np.diag([1.0, -1.0])[None]
    near(powers(reflection, -3), reflection)
    near(powers(reflection.astype(complex), 0.5)[0], np.diag([1, 1j]))
    with pytest.raises(BlockError, match=r"determinant −1 to the power 0\.5"):
        powers(reflection, 0.5)
    with pytest.raises(StructmatError, match="t=nan: a power must be a finite"):
        made(sm.butterfly(4), 0).power(float("nan"))


def libraries():
    import jax
    import torch

    return {
        "torch": lambda a: torch.tensor(a),
        "jax": lambda a: jax.numpy.asarray(a),
        "array_api_strict": pytest.importorskip("array_api_strict").asarray,
    }


@pytest.mark.parametrize("library", ["torch", "jax", "array_api_strict"])
@pytest.mark.parametrize("spec", ["butterfly(block=4)", "benes", "random(block=2, depth=3)"])
def test_every_array_library_is_supported(library, spec):
    array = libraries()[library]
    net = sm.parse(spec)(16)
    blocks = sm.random_blocks(net, 0, np.float32)
    ours = sm.Rotation(net, [array(b) for b in blocks])
    x = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    wanted = x @ matrix_of(net, blocks).T
    kind = type(array(x))
    for y in (ours(array(x)), ours(x), (ours @ array(x).T).T, sm.Rotation(net, blocks)(array(x))):
        assert isinstance(y, kind)
        near(y, wanted, np.float32, 10)
    near(ours.matrix(), matrix_of(net, blocks), np.float32)
    near(ours.T(ours(array(x))), x, np.float32, 10)
    assert array_api_compat.is_array_api_obj(ours.H.blocks[0])


@pytest.mark.parametrize("kind", [np.float64, np.complex64])
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_numpy_blocks_take_the_precision_of_vectors_of_another_library(library, kind):
    array = libraries()[library]
    net = sm.butterfly(8)
    r = sm.Rotation(net, sm.random_blocks(net, 0, kind))
    x = np.random.default_rng(0).standard_normal(8)
    single = "complex64" if kind is np.complex64 else "float32"
    wide = {"float64": single.replace("32", "64").replace("x64", "x128")}
    names = ["float32", "float16", "bfloat16", "complex64"] + ["float64"] * (library == "torch")
    for name in names:
        xp = array_api_compat.array_namespace(array(x))
        given = xp.astype(array(x), getattr(xp, name))
        expected = "complex64" if name == "complex64" else wide.get(name, single)
        for y in (r(given), r @ given):
            assert str(y.dtype).removeprefix("torch.") == expected
        near(xp.astype(r(given), xp.complex64), r(x), np.float16, 10)
    blocks = [array(b) for b in r.blocks]
    if library == "torch":  # the rules of torch
        assert sm.Rotation(net, blocks)(array(x.astype(np.float32))).dtype == blocks[0].dtype
        assert r(array(np.ones(8, dtype=np.int64))).dtype == blocks[0].dtype


def test_vectors_without_arithmetic_are_rejected_in_one_line():
    import torch

    r = made(sm.butterfly(8), 0)
    with pytest.raises(BlockError, match=r"x of dtype torch\.float8_e5m2: .*float16 or wider"):
        r(torch.ones(8).to(torch.float8_e5m2))
    with pytest.raises(BlockError, match=r"x of dtype torch\.float8_e4m3fn: .*float16 or wider"):
        sm.Rotation(r.network, [torch.tensor(b) for b in r.blocks]) @ torch.ones(8).to(
            torch.float8_e4m3fn
        )


def test_torch_differentiates_through_a_rotation():
    import torch

    net = sm.butterfly(8, block=4)
    blocks = [torch.tensor(b, requires_grad=True) for b in sm.random_blocks(net, 0)]
    x = torch.arange(8.0, dtype=torch.float64)
    (sm.Rotation(net, blocks)(x) ** 3).sum().backward()
    again = [b.detach().clone().requires_grad_() for b in blocks]
    matrix = torch.eye(8, dtype=torch.float64)
    rest = iter(again)
    for stage in net.stages:
        factor = torch.eye(8, dtype=torch.float64)
        for bank in stage.banks:
            for reads, writes, block in zip(bank.reads, bank.writes, next(rest), strict=True):
                place = torch.meshgrid(torch.tensor(writes), torch.tensor(reads), indexing="ij")
                factor = factor.index_put(place, block)
        matrix = factor @ matrix
    ((matrix @ x) ** 3).sum().backward()
    for ours, theirs in zip(blocks, again, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-10)


def test_jax_compiles_and_differentiates_a_rotation():
    import jax

    net = sm.shuffle(16, block=4)
    blocks = [jax.numpy.asarray(b) for b in sm.random_blocks(net, 0, np.float32)]
    x = jax.numpy.linspace(-1, 1, 16)

    def loss(blocks, x):
        return (sm.Rotation(net, blocks)(x) ** 3).sum()

    slope = jax.jit(jax.grad(loss))(blocks, x)
    weight = 3 * np.asarray(sm.Rotation(net, blocks)(x), dtype=float) ** 2
    for k, block in enumerate(blocks):
        step = np.zeros(block.shape)
        step[0, 0, 1] = 1e-3
        moved = [np.asarray(b, dtype=float) for b in blocks]
        up, down = moved.copy(), moved.copy()
        up[k], down[k] = moved[k] + step, moved[k] - step
        change = (matrix_of(net, up) - matrix_of(net, down)) @ np.asarray(x) / 2e-3
        assert float(slope[k][0, 0, 1]) == pytest.approx(float(weight @ change), rel=2e-2, abs=1e-3)
    columns = jax.vmap(lambda v: sm.Rotation(net, blocks)(v))(jax.numpy.eye(16))
    near(columns.T, sm.Rotation(net, blocks).matrix(), np.float32)


def test_a_rotation_is_immutable():
    r = made(sm.butterfly(4), 0)
    with pytest.raises(AttributeError, match="a Rotation is immutable"):
        r.network = sm.butterfly(8)
    with pytest.raises(AttributeError, match="a Rotation is immutable"):
        del r.blocks
    with pytest.raises(ValueError, match="read-only"):
        r.blocks[0][0, 0, 0] = 2.0
    given_blocks = sm.random_blocks(sm.butterfly(4), 0)
    r = sm.Rotation(sm.butterfly(4), given_blocks)
    before = r.matrix()
    given_blocks[0][:] = 0
    near(r.matrix(), before)
    for other in (pickle.loads(pickle.dumps(r)), copy.deepcopy(r)):  # noqa: S301 (our own bytes)
        near(other.matrix(), r.matrix())
        assert other.network == r.network


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sm.Rotation("benes", []), "Rotation of 'benes': it takes a network"),
        (
            lambda: sm.mixing(sm.transforms.dct(4)),
            r"^mixing of dct\(4.*; use its attribute network",
        ),
        (
            lambda: sm.network(sm.choose(8), 8),
            r"^topology=Choice.*: it has a network; use its attribute best\.network",
        ),
        (
            lambda: sm.symbolic(sm.transforms.dct(4)),
            r"^topology=dct\(4.*: it has a network; use its",
        ),
        (lambda: sm.Rotation(sm.butterfly(4), []), "0 arrays of blocks: the network has 2 banks"),
        (lambda: sm.Rotation(sm.butterfly(4), [np.ones((2, 2, 2))] * 2), "must be orthogonal"),
        (lambda: sm.Rotation(sm.butterfly(4), [np.eye(2)[None]] * 2), r"this bank needs \(2, 2, 2"),
        (lambda: made(sm.butterfly(4), 0)([1.0, 2.0]), r"shape \(2,\): its last axis must be"),
        (lambda: made(sm.butterfly(4), 0) @ np.ones((2, 4)), r"r\(x\)"),
        (lambda: made(sm.butterfly(4), 0) @ ["a"] * 4, "x of dtype <U1"),
        (lambda: made(sm.butterfly(4), 0) ** -1, r"r \*\* -1: the inverse is r\.H"),
        (lambda: made(sm.butterfly(4), 0) @ made(sm.butterfly(8), 0), "same width"),
    ],
)
def test_invalid_rotations_are_rejected(call, message):
    with pytest.raises(StructmatError, match=message):
        call()


def test_arrays_of_other_libraries_are_checked_by_shape():
    import torch

    net = sm.butterfly(4)
    with pytest.raises(BlockError, match=r"blocks 1 of shape \(1, 2, 2\): this bank needs"):
        sm.Rotation(net, [torch.zeros(2, 2, 2), torch.zeros(1, 2, 2)])
    with pytest.raises(BlockError, match="1 arrays of blocks"):
        sm.Rotation(net, [torch.zeros(2, 2, 2)])
    with pytest.raises(BlockError, match="blocks of several libraries"):
        sm.Rotation(net, [torch.zeros(2, 2, 2), np.zeros((2, 2, 2))])
    r = sm.Rotation(net, [torch.eye(2).expand(2, 2, 2)] * 2)
    with pytest.raises(BlockError, match="save: the blocks are torch arrays"):
        r.save("never")
    with pytest.raises(BlockError, match="arrays of one library"):
        r(__import__("jax").numpy.ones(4))


@given(networks(wired=True, max_width=6), seeds(), st.sampled_from(DTYPES))
def test_a_rotation_round_trips_through_a_file(tmp_path_factory, net, seed, dtype):
    path = tmp_path_factory.mktemp("rotation") / "r.safetensors"
    r = made(net, seed, dtype)
    r.save(path)
    again = sm.Rotation.load(path)
    assert (again.network, again.dtype) == (r.network, r.dtype)
    for ours, theirs in zip(again.blocks, r.blocks, strict=True):
        assert np.array_equal(ours, theirs)


def test_invalid_files_are_rejected(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "r.safetensors"
    with pytest.raises(FileError, match="cannot be read as safetensors"):
        sm.Rotation.load(path)
    made(sm.butterfly(4), 0).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(FileError, match="cannot be read as safetensors"):
        sm.Rotation.load(path)
    save_file({"a": np.ones(2)}, path)
    with pytest.raises(FileError, match="None is not the format of a rotation; expected a"):
        sm.Rotation.load(path)
    about = {"format": "structmat.rotation", "version": "2"}
    save_file({"a": np.ones(2)}, path, metadata=about)
    with pytest.raises(FileError, match=r"version '2'.*upgrade structmat"):
        sm.Rotation.load(path)
    net = sm.butterfly(4)
    about |= {"version": "1", "network": net.to_json(), "dtype": "float64"}
    save_file({"blocks.0": np.ones((2, 2, 2))}, path, metadata=about)
    with pytest.raises(FileError, match=r"damaged .*blocks\.1"):
        sm.Rotation.load(path)
    save_file({f"blocks.{k}": np.ones((2, 2, 2)) for k in (0, 1)}, path, metadata=about)
    with pytest.raises(FileError, match=r"damaged .*must be orthogonal"):
        sm.Rotation.load(path)
    with pytest.raises(FileError, match="cannot create the directory"):
        made(net, 0).save(path / "inside" / "r.safetensors")
    with pytest.raises(FileError, match="is a directory; give the name of a file"):
        made(net, 0).save(tmp_path)
    with pytest.raises(FileError, match="File name too long"):
        made(net, 0).save(tmp_path / ("a" * 300))
    made(net, 0).save(tmp_path / "new" / "r.safetensors")
    assert sm.Rotation.load(tmp_path / "new" / "r.safetensors").network == net


def test_the_notebook_representation_shows_the_matrix():
    assert "data:image/png;base64," in made(sm.butterfly(8), 0)._repr_html_()
    assert "4 × 4 matrix" in made(sm.butterfly(4), 0, complex)._repr_html_()
    wide = sm.Rotation(sm.butterfly(2048), sm.identity_blocks(sm.butterfly(2048)))
    assert "<img" not in wide._repr_html_()


def test_errors_for_missing_arguments_and_attributes_name_a_remedy():
    net = sm.butterfly(4)
    with pytest.raises(BlockError, match=r"needs blocks, such as random_blocks\(net, rng=0\)"):
        sm.Rotation(net)
    r = sm.Rotation(net, sm.identity_blocks(net))
    with pytest.raises(AttributeError, match=r"a Rotation has no toarray: use r\.matrix\(\)"):
        _ = r.toarray
    with pytest.raises(AttributeError, match=r"a Rotation has no width: use r\.network\.width"):
        _ = r.width
    with pytest.raises(AttributeError, match="a Rotation has no attribute 'widht'"):
        _ = r.widht
