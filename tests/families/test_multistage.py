"""Omega, baseline, Beneš, Waksman and Clos networks, each against its definition."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError, WidthError
from structmat.linalg import factors as stagewise


def carried(net):
    """Return the output that each input reaches through identity blocks."""
    return np.argsort(net.straightened().outputs).tolist()


def digits(number, base, count):
    return [number // base**k % base for k in range(count)]


def powers(most=700):
    """Draw (block, n) with block^n at most `most`."""
    pairs = [(b, n) for b in range(2, 12) for n in range(1, 10) if b**n <= most]
    return st.sampled_from(pairs)


# Omega and baseline ---------------------------------------------------------------------------


@given(powers())
def test_omega_rotates_the_digits_and_joins_wires_that_differ_in_the_last_digit(case):
    block, n = case
    net = sm.families.omega(block**n, block)
    assert net.depth == n
    for stage in net.stages:
        (bank,) = stage.banks
        assert bank.writes.tolist() == np.arange(block**n).reshape(-1, block).tolist()
        for read, written in zip(bank.reads.ravel(), bank.writes.ravel(), strict=True):
            low, high = digits(int(read), block, n), digits(int(written), block, n)
            assert high == [low[-1], *low[:-1]]
    assert carried(net) == list(range(block**n))
    assert (sm.path_counts(net) == 1).all()


@given(powers())
def test_baseline_reverses_the_digits(case):
    block, n = case
    net = sm.families.baseline(block**n, block)
    assert carried(net) == [
        sum(digit * block ** (n - 1 - k) for k, digit in enumerate(digits(i, block, n)))
        for i in range(block**n)
    ]
    assert (sm.path_counts(net) == 1).all()


@given(powers())
def test_baseline_is_recursive(case):
    block, n = case
    net = sm.families.baseline(block**n, block)
    if n == 1:
        assert net == sm.block_diagonal(block, block)
        return
    smaller = sm.families.baseline(block ** (n - 1), block)
    blocks = smaller
    for _ in range(block - 1):
        blocks = blocks.direct_sum(smaller)
    # The direct sum may divide the switches into other banks, so the edges are compared.
    assert net[1:].to_networkx().edges == blocks.to_networkx().edges
    part = block ** (n - 1)
    (bank,) = net.stages[0].banks
    for k, (reads, writes) in enumerate(zip(bank.reads, bank.writes, strict=True)):
        assert reads.tolist() == list(range(k * block, (k + 1) * block))
        assert writes.tolist() == [k + part * j for j in range(block)]


# Beneš and Clos -------------------------------------------------------------------------------


@pytest.mark.parametrize("power", range(1, 7))
def test_benes_has_the_known_depth_parameters_and_symmetries(power):
    width = 2**power
    net = sm.benes(width)
    assert [stage.banks[0].radix for stage in net] == [2] * (2 * power - 1)
    assert 2 * net.parameters == (2 * power - 1) * width
    assert carried(net) == list(range(width))
    assert np.array_equal(stagewise.matrix_of(net, sm.identity_blocks(net)), np.eye(width))
    assert sm.dense_depth("benes", width) == power
    assert net.inverse() == net
    assert net[:power] == sm.families.baseline(width)
    assert net == sm.families.clos(width, (2,) * power)


@pytest.mark.parametrize("width", [2, 4, 8])
def test_benes_routes_every_permutation(width):
    """Collect the permutations for all settings of the switches, stage by stage."""
    net = sm.benes(width)
    made = np.arange(width)[None]
    for stage in net.stages:
        settings = []
        (bank,) = stage.banks
        for crossed in itertools.product([False, True], repeat=bank.count):
            gather = np.empty(width, dtype=int)
            for cross, reads, writes in zip(crossed, bank.reads, bank.writes, strict=True):
                gather[writes] = reads[::-1] if cross else reads
            settings.append(gather)
        made = np.unique(made[:, np.array(settings)].reshape(-1, width), axis=0)
    assert len(made) == math.factorial(width)


@given(st.lists(st.integers(2, 7), min_size=1, max_size=4))
def test_clos_is_its_own_mirror_image(radices):
    width = math.prod(radices)
    net = sm.families.clos(width, radices)
    assert [stage.banks[0].radix for stage in net] == radices + radices[-2::-1]
    assert all(stage.banks[0].reads.size == width for stage in net)
    assert net.inverse() == net
    assert carried(net) == list(range(width))
    assert sm.is_dense(net[: len(radices)])
    assert len(radices) == 1 or not sm.is_dense(net[: len(radices) - 1])


@pytest.mark.parametrize("p", range(2, 7))
@pytest.mark.parametrize("q", range(2, 7))
def test_clos_joins_each_outer_switch_with_each_middle_one_once(p, q):
    first, middle, last = sm.families.clos(p * q, (p, q)).stages
    for outer in (first.banks[0].writes, last.banks[0].reads):
        meets = {(int(wire) // q, row) for row, wires in enumerate(outer) for wire in wires}
        assert len(meets) == p * q
        assert (outer // q == np.arange(p)).all()
    assert middle.banks[0].reads.tolist() == np.arange(p * q).reshape(p, q).tolist()


def test_clos_is_balanced_by_default():
    assert sm.families.clos(384) == sm.families.clos(384, (16, 24))
    with pytest.raises(
        WidthError, match=r"clos\(width=13\): .*two factors.* nearest are 12 and 14"
    ):
        sm.families.clos(13)


# Waksman --------------------------------------------------------------------------------------


def switches_of(first, size):
    """Return a Waksman network on neighbouring wires by the recursion of the papers.

    The result is a list of stages. Each is a list of pairs (reads, writes): of two wires each for a
    switch, of one wire each for a wire that moves without being in a switch.
    """
    if size < 2:
        return []
    if size == 2:
        return [[((first, first + 1), (first, first + 1))]]
    half = size // 2
    upper, lower = switches_of(first, half), switches_of(first + half, size - half)
    idle = (len(lower) - len(upper)) // 2
    upper = [[]] * idle + upper + [[]] * idle if upper else [[]] * len(lower)
    pairs = [
        ((first + 2 * k, first + 2 * k + 1), (first + k, first + half + k)) for k in range(half)
    ]
    back = [(writes, reads) for reads, writes in pairs]
    if size % 2 == 0:
        reads, writes = back.pop()
        back += [((one,), (other,)) for one, other in zip(reads, writes, strict=True)]
    return [pairs, *[a + b for a, b in zip(upper, lower, strict=True)], back]


@pytest.mark.parametrize("width", range(2, 131))
def test_waksman_agrees_with_its_recursive_definition(width):
    stages = []
    for switches in switches_of(0, width):
        pairs = sorted(switch for switch in switches if len(switch[0]) == 2)
        moves = [(one, other) for (one, *more), (other, *_) in switches if not more]
        reads, writes = zip(*pairs, strict=True)
        stages.append(sm.Stage(width, [sm.Bank(reads, writes)], moves or None))
    assert sm.families.waksman(width) == sm.Network(width, stages)


@given(st.integers(2, 600))
def test_waksman_has_the_known_depth_and_number_of_switches(width):
    net = sm.families.waksman(width)
    assert net.depth == 2 * math.ceil(math.log2(width)) - 1
    assert net.parameters == sum(math.ceil(math.log2(k)) for k in range(1, width + 1))
    assert 2**net.parameters >= math.factorial(width)
    assert carried(net) == list(range(width))


@pytest.mark.parametrize("power", range(1, 9))
def test_waksman_omits_switches_of_benes(power):
    width = 2**power
    fewer, full = sm.families.waksman(width), sm.benes(width)
    assert fewer.parameters == power * width - width + 1
    assert fewer[:power] == full[:power]
    for some, all_of_them in zip(fewer, full, strict=True):
        rows = [
            {(*r, *w) for r, w in zip(b.reads.tolist(), b.writes.tolist(), strict=True)}
            for b in (some.banks[0], all_of_them.banks[0])
        ]
        assert rows[0] <= rows[1]


# Invalid input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: sm.families.omega(12),
            r"omega\(width=12, block=2\): width must be 2\^n .* are 8 and 16",
        ),
        (
            lambda: sm.families.baseline(8, block=3),
            r"must be 3\^n with n ≥ 1; nearest are 3 and 9",
        ),
        (lambda: sm.families.omega(1), "nearest is 2$"),
        (lambda: sm.families.omega(8, block=1), "block=1: block must be an integer ≥ 2"),
        (lambda: sm.families.baseline(8, block=2.0), "block=2.0"),
        (
            lambda: sm.families.clos(12, (3, 5)),
            "the radices' product 15 must be the width; nearest is 15",
        ),
        (lambda: sm.families.clos(1, ()), "width must be at least 2"),
        (lambda: sm.families.clos(8, 8), "radices=8: radices must be a sequence"),
        (lambda: sm.families.clos(8, (8, 1)), "radix=1"),
        (
            lambda: sm.families.waksman(1),
            r"waksman\(width=1\): width must be at least 2; nearest is 2$",
        ),
        (lambda: sm.families.waksman(8.0), "width=8.0"),
    ],
)
def test_invalid_arguments_are_rejected(make, message):
    with pytest.raises(StructmatError, match=message):
        make()
