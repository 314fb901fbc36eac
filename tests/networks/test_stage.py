"""Banks and stages: counts, rejected input and immutability."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structmat import Bank, Stage, StructmatError
from structmat.errors import WiringError
from structmat.testing import networks

stages = networks(max_depth=1).filter(lambda net: net.depth == 1).map(lambda net: net[0])


@pytest.mark.parametrize(
    ("reads", "writes", "message"),
    [
        ([[0]], None, "radix 1: a switch joins at least 2 wires"),
        ([[]], None, "radix 0"),
        ([], None, r"\(n, r\)"),
        ([0, 1], None, r"shape \(2,\)"),
        ([[[0, 1]]], None, r"shape \(1, 1, 2\)"),
        ([[0, -1]], None, "wire -1 is negative"),
        ([[0, 1.5]], None, "integers, not float64"),
        ([[0, float("nan")]], None, "integers, not float64"),
        ([[0, 1], [2]], None, "of equal length"),
        ([["a", "b"]], None, "must be integers"),
        ([[True, False]], None, "integers, not bool"),
        ([[0, 1]], [[0, 1, 2]], r"reads \(1, 2\) and writes \(1, 3\)"),
        ([[0, 1]], [[0, 1], [2, 3]], "as many wires"),
    ],
)
def test_invalid_banks_are_refused(reads, writes, message):
    with pytest.raises(WiringError, match=message):
        Bank(reads, writes)


@pytest.mark.parametrize(
    ("width", "banks", "moves", "message"),
    [
        (4, [Bank([[0, 1], [1, 2]])], None, "wire 1 is read 2 times.*disjoint"),
        (4, [Bank([[0, 1]]), Bank([[1, 2, 3]])], None, "wire 1 is read 2 times"),
        (4, [Bank([[0, 0]])], None, "wire 0 is read 2 times"),
        (4, [Bank([[0, 1]], [[2, 2]])], None, "wire 2 is written 2 times"),
        (4, [Bank([[0, 1]], [[2, 3]])], None, "wire 0 is read but not written"),
        (4, [Bank([[0, 1]])], [[0, 2], [2, 0]], "wire 0 is read 2 times"),
        (4, [], [[0, 1]], "wire 0 is read but not written"),
        (4, [], [[0, 1], [1, 4]], "wire 4: a stage of width 4 has wires 0 to 3"),
        (4, [], [[-1, 1]], "wire -1"),
        (4, [Bank([[3, 4]])], None, "wire 4: a stage of width 4 has wires 0 to 3"),
        (4, [Bank([[3, 10**15]])], None, "wire 1000000000000000"),
        (4, [], [0, 1], r"moves of shape \(2,\)"),
        (4, [], [[0, 1, 1, 0]], r"moves of shape \(1, 4\)"),
        (4, [], [[0, 1.5]], "moves: wires must be integers"),
        (4, [[[0, 1]]], None, "made of Bank objects"),
    ],
)
def test_invalid_stages_are_refused(width, banks, moves, message):
    with pytest.raises(WiringError, match=message):
        Stage(width, banks, moves)


@pytest.mark.parametrize("width", [0, -1, 2.0, float("nan"), True, "4", None])
def test_invalid_widths_are_refused(width):
    with pytest.raises(StructmatError, match="width must be an integer ≥ 1"):
        Stage(width)


@pytest.mark.parametrize(("switches", "message"), [([0, 1], "a list of wires"), ([[0]], "radix 1")])
def test_invalid_switches_are_refused(switches, message):
    with pytest.raises(WiringError, match=message):
        Stage.of(4, switches)


def test_stage_of_makes_one_bank_per_radix():
    stage = Stage.of(9, [[0, 1], (2, 3, 4), np.array([5, 6])])
    assert stage.banks == (Bank([[2, 3, 4]]), Bank([[0, 1], [5, 6]]))
    assert stage.idle.tolist() == [7, 8]
    assert (stage.parameters, stage.nonzeros) == (3 + 1 + 1, 9 + 4 + 4 + 2)


@given(stages)
def test_parameters_and_nonzeros_agree_with_the_pattern(stage):
    """Parameters are the pairs that share a switch; non-zeros are the edges of the layer."""
    edges = set()
    pairs = 0
    for bank in stage.banks:
        for reads, writes in zip(bank.reads, bank.writes, strict=True):
            edges |= {(int(i), int(j)) for i in writes for j in reads}
            pairs += len(reads) * (len(reads) - 1) // 2
    start, end = stage.passing
    edges |= set(zip(end.tolist(), start.tolist(), strict=True))
    assert stage.nonzeros == len(edges)
    assert stage.parameters == pairs
    assert {i for i, _ in edges} == {j for _, j in edges} == set(range(stage.width))


@given(stages)
def test_passing_wires_are_the_idle_and_the_moved_wires(stage):
    start, end = stage.passing
    moved = dict(stage.moves.tolist())
    assert set(start.tolist()) == set(stage.idle.tolist()) | set(moved)
    assert all(moved.get(j, j) == i for j, i in zip(start.tolist(), end.tolist(), strict=True))


@given(stages, st.data())
def test_relabelling_is_inverted_by_the_inverse(stage, data):
    p = np.array(data.draw(st.permutations(range(stage.width))))
    assert stage.rewired(p, p).rewired(np.argsort(p), np.argsort(p)) == stage
    assert stage.inverse().inverse() == stage


def test_moves_are_sorted_and_exclude_idle_wires():
    there = Stage(4, moves=[[0, 1], [1, 0]])
    assert there == Stage(4, moves=[[1, 0], [3, 3], [0, 1]])
    assert hash(there) == hash(Stage(4, moves=[[1, 0], [0, 1]]))
    assert Stage(4, moves=[[2, 2]]) == Stage(4)
    assert Stage(4).is_straight
    assert not there.is_straight


def _arrays(stage):
    return [stage.moves, *(a for bank in stage.banks for a in (bank.reads, bank.writes))]


@given(stages)
def test_values_are_frozen(stage):
    for twin in (stage, copy.copy(stage), copy.deepcopy(stage), pickle.loads(pickle.dumps(stage))):  # noqa: S301 - our own bytes
        assert twin == stage
        assert hash(twin) == hash(stage)
        for array in _arrays(twin):
            assert not array.flags.writeable
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
        with pytest.raises(AttributeError, match="immutable"):
            twin.width = 3
        with pytest.raises(AttributeError, match="immutable"):
            del twin.width


def test_a_bank_copies_its_input():
    wires = np.array([[0, 1]])
    bank = Bank(wires)
    wires[0, 0] = 5
    assert bank.reads.tolist() == [[0, 1]]


def test_equality_compares_every_part():
    bank = Bank([[0, 1]])
    assert bank == Bank([[0, 1]], [[0, 1]])
    assert bank.is_straight
    assert Bank([[0, 1]], [[0, 1]]).is_straight
    assert bank != Bank([[1, 0]])
    assert bank != Bank([[0, 1]], [[1, 0]])
    assert Bank([[0, 1], [2, 3]]) != Bank([[0, 1, 2, 3]])
    assert bank != Stage(2, [bank])
    assert bank != "bank"
    assert Stage(3, [bank]) != Stage(2, [bank])


def test_reprs_are_informative():
    assert repr(Bank([[0, 1]], [[1, 0]])) == "Bank(1 switch of radix 2, wired)"
    assert repr(Stage.of(5, [[0, 1], [2, 3, 4]])) == "Stage(width=5, 1×3 + 1×2)"
    assert repr(Stage(2)) == "Stage(width=2, no switches)"
