"""Banks of equal blocks share memory in rotations, and mean the same as copies of the block."""

import copy
import pickle
import tracemalloc

import jax
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.linalg.shared_blocks import distinct, repeated_in
from structmat.testing import networks, seeds

DTYPES = (np.float64, np.float32, np.complex128)


def shared(net, seed, dtype=np.float64):
    """Return a rotation whose banks each have one block, and the same one with copies of it."""
    blocks = [b[:1] for b in sm.random_blocks(net, seed, dtype)]
    views = repeated_in(net, blocks)
    return sm.Rotation(net, views), sm.Rotation(net, [b.copy() for b in views])


def bits(rotation):
    return [b.tobytes() for b in rotation.blocks]


def shares(rotation):
    return [len(b) == 1 or b.strides[0] == 0 for b in rotation.blocks]


@given(networks(wired=True), seeds(), st.sampled_from(DTYPES), st.floats(-1, 1))
def test_operations_keep_shared_blocks_and_their_values(net, seed, dtype, t):
    views, copies = shared(net, seed, dtype)
    pairs = [
        (views, copies),
        (views.T, copies.T),
        (views.H, copies.H),
        (views @ views, copies @ copies),
        (views**2, copies**2),
        (views.power(t), copies.power(t)),
        (copy.deepcopy(views), copies),
    ]
    for ours, theirs in pairs:
        assert ours.network == theirs.network
        assert bits(ours) == bits(theirs)
        assert all(shares(ours))
        assert not any(b.flags.writeable for b in ours.blocks)
    scale = 100 * net.width * max(1, net.depth) * np.finfo(dtype).eps
    assert np.abs(views.matrix() - copies.matrix()).max() <= scale
    for ours, theirs in zip(views.factors(), copies.factors(), strict=True):
        assert (ours != theirs).nnz == 0


@given(networks(), seeds(), st.sampled_from(DTYPES))
def test_files_contain_a_shared_block_once(tmp_path_factory, net, seed, dtype):
    folder = tmp_path_factory.mktemp("shared")
    views, copies = shared(net, seed, dtype)
    views.save(folder / "views")
    copies.save(folder / "copies")
    again = sm.Rotation.load(folder / "views")
    assert bits(again) == bits(sm.Rotation.load(folder / "copies")) == bits(copies)
    assert all(shares(again))
    assert again.dtype == views.dtype
    saved = sum(b.nbytes - distinct(b).nbytes for b in views.blocks)
    sizes = [(folder / name).stat().st_size for name in ("copies", "views")]
    assert abs(sizes[0] - sizes[1] - saved) < 200 * (1 + len(net.banks))  # the header differs


def test_a_product_with_shared_blocks_needs_memory_for_the_vectors_only():
    width = 2**16
    net = sm.mixed_radix(width, largest=16)
    r, _ = shared(net, 0)
    x = np.ones((1, width))
    back = r.H
    back(r(x))  # the schedules are cached
    tracemalloc.start()
    back(r(x))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * x.nbytes  # copies of the blocks of a bank would take 16 times x
    plain = len(pickle.dumps(net))
    assert len(pickle.dumps(r)) < plain + 4 * 16**2 * 8 + 2000


def test_a_shared_block_is_checked_once_and_rejected_if_it_is_not_orthogonal():
    net = sm.mixed_radix(16, largest=4)
    wrong = np.broadcast_to(np.ones((4, 4)), (4, 4, 4))
    with pytest.raises(sm.errors.BlockError, match=r"blocks 0: \|BᴴB − I\| is 4"):
        sm.Rotation(net, [wrong, wrong])
    with pytest.raises(sm.errors.BlockError, match="blocks 0 contain NaN"):
        sm.Rotation(net, [wrong * np.nan, wrong])


def test_other_libraries_take_shared_blocks():
    net = sm.mixed_radix(64, largest=4)
    views, copies = shared(net, 0, np.float32)
    x = np.ones((2, 64), dtype=np.float32)
    for library in (torch.tensor, jax.numpy.asarray):
        assert np.allclose(np.asarray(views(library(x))), copies(x), atol=1e-5)
