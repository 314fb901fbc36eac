"""fit as a whole: what it returns, what it refuses, and that it can be interrupted."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given

import structmat as sm
from structmat.errors import BlockError, StructmatError
from structmat.fitting import searching
from structmat.testing import networks, seeds
from tests.fitting.targets import distance, haar


@given(networks(max_width=8), seeds())
@example(sm.Network.of(8, [[list(range(7))], [[0, 1, 2, 3], [4, 7]]]), 1)
def test_the_history_never_rises_and_ends_at_the_error(net, seed):
    target = haar(net.width, seed)
    found = sm.fit(net, target, rng=seed, starts=2, sweeps=20, progress=False)
    assert (np.diff(found.history) <= 0).all()
    assert found.history[-1] == found.error
    error = distance(sm.dense(net, found.blocks), target) / net.width**0.5
    assert found.error == pytest.approx(error, abs=1e-13)


@pytest.mark.parametrize(
    "net",
    [
        sm.random(16, 4, 3, rng=0),
        sm.benes(16),
        sm.shuffle(24, 4),
        sm.waksman(12),
        sm.gossip(10),
        sm.brickwall(10, depth=5),
    ],
)
def test_members_beyond_the_direct_methods_are_found_by_search(net):
    member = sm.dense(net, sm.random_blocks(net, rng=5))
    found = sm.fit(net, member, rng=0)
    assert not found.exact
    assert found.error < 1e-10


def test_a_random_target_needs_more_parameters():
    """Of ever more stages of the ruler; only all of them reach any target."""
    target = haar(16)
    errors = [sm.fit(sm.ruler(16)[:k], target, rng=0).error for k in (4, 8, 12, 14, 15)]
    assert (np.diff(errors) < 0).all()
    assert errors[-2] > 0.01
    assert errors[-1] < 1e-14


def test_the_same_seed_gives_the_same_fit():
    net, target = sm.random(12, 3, 2, rng=0), haar(12)
    one, other, third = (sm.fit(net, target, rng=seed, starts=1) for seed in (1, 1, 2))
    assert one.error == other.error
    assert all(map(np.array_equal, one.blocks, other.blocks))
    assert third.history[0] != one.history[0]


def test_more_starts_are_never_worse():
    net, target = sm.benes(8), haar(8)
    few, many = (
        min(sm.fit(net, target, rng=0, starts=n, sweeps=3).history) for n in (1, 8)
    )  # the first of eight starts is the one
    assert many <= few


@pytest.mark.parametrize("dtype", [np.float32, float, np.complex64, complex])
def test_the_blocks_have_the_dtype_of_the_target(dtype):
    for net in (sm.ruler(8), sm.butterfly(8), sm.omega(8)):
        found = sm.fit(net, haar(8, dtype=dtype), starts=1, sweeps=5)
        assert {b.dtype for b in found.blocks} == {np.dtype(dtype)}
    assert sm.fit(sm.ruler(8), haar(8, dtype=dtype)).error < 50 * np.finfo(dtype).eps
    assert sm.fit(sm.ruler(4), np.eye(4, dtype=int)[::-1]).blocks[0].dtype == float


def test_blocks_to_begin_with():
    net = sm.butterfly(16).repeat(2)
    blocks = sm.random_blocks(net, rng=0)
    member = sm.dense(net, blocks)
    near = [b + 1e-2 * np.random.default_rng(1).standard_normal(b.shape) for b in blocks]
    found = sm.fit(net, member, start=near)
    assert found.error < 1e-10  # where random starts end in a local minimum
    assert found.method.startswith("alternating Procrustes")


def test_an_interrupted_fit_returns_the_best_so_far(monkeypatch):
    net, target = sm.round_robin(9), haar(9)
    whole = sm.fit(net, target, rng=0, starts=1)

    def cut_short(*args, **options):
        for k, step in enumerate(swept(*args, **options)):
            if k == sweeps:
                raise KeyboardInterrupt
            yield step

    swept = searching.swept
    monkeypatch.setattr(searching, "swept", cut_short)
    sweeps = 3
    found = sm.fit(net, target, rng=0, starts=1)
    assert found.method == "alternating Procrustes, interrupted"
    assert found.history == whole.history[:3]
    assert found.error == pytest.approx(distance(sm.dense(net, found.blocks), target) / 3)
    sweeps = 0
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        sm.fit(net, target)


def test_a_network_without_switches():
    found = sm.fit(sm.Network(3), haar(3))
    assert found.blocks == []
    assert found.error == pytest.approx(found.floor)
    assert sm.fit(sm.Network(1), [[2.0]]).error == 0.5


def test_wired_networks_are_fitted_as_they_are():
    net = sm.omega(16)
    member = sm.dense(net, sm.random_blocks(net, rng=0))
    assert distance(sm.dense(net, sm.fit(net, member).blocks), member) < 1e-13


def test_a_bar_counts_the_sweeps_where_it_is_wanted_and_can_be_shown(monkeypatch):
    class Bar:
        def __init__(self, **options):
            bars.append((options["total"], self))
            self.steps = 0

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self):
            self.steps += 1

    bars = []
    net, target = sm.round_robin(9), haar(9)
    monkeypatch.setitem(sys.modules, "tqdm", SimpleNamespace(tqdm=Bar))
    sm.fit(net, target, starts=2, sweeps=3, progress=False)
    assert not bars
    sm.fit(net, target, starts=2, sweeps=3)
    ((total, shown),) = bars
    assert total == shown.steps == 6
    monkeypatch.setitem(sys.modules, "tqdm", None)  # not installed
    sm.fit(net, target, starts=2, sweeps=3)
    assert len(bars) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": np.eye(3)}, r"target of shape \(3, 3\): this network has matrices of shape"),
        ({"target": [[1], [1, 2]]}, "target of shape"),
        ({"target": np.full((4, 4), np.nan)}, "NaN or infinity"),
        ({"target": np.zeros((4, 4))}, "the target is zero"),
        ({"target": np.full((4, 4), "a")}, "real or complex"),
        ({"starts": 0}, "starts=0: starts must be an integer, at least 1"),
        ({"sweeps": 0.5}, "sweeps=0.5: sweeps must be an integer, at least 1"),
        ({"tolerance": 1.0}, "tolerance=1.0: it must be a number from 0 to below 1"),
        ({"tolerance": float("nan")}, "tolerance=nan"),
        ({"special": 1}, "special=1: special must be True or False"),
        ({"rng": -1}, "rng=-1"),
    ],
)
def test_what_is_refused(options, message):
    target = options.pop("target", np.eye(4))
    with pytest.raises(StructmatError, match=message):
        sm.fit(sm.butterfly(4), target, **options)


def test_blocks_that_do_not_fit_are_refused():
    with pytest.raises(BlockError, match="1 arrays of blocks: the network has 2 banks"):
        sm.fit(sm.butterfly(4), np.eye(4), start=[np.eye(2)])
    net = sm.butterfly(4)
    with pytest.raises(BlockError, match="complex blocks to start from"):
        sm.fit(net, np.eye(4), start=sm.random_blocks(net, dtype=complex))
