"""Butterflies and random networks, in addition to the checks of `check_family`."""

import itertools
import math
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError, WidthError
from structmat.testing import assert_dense, families


def divisors(width):
    return [k for k in range(2, width + 1) if width % k == 0]


def radices_of(net):
    """Return the one radix of each stage, checking that it is one and that no wire is idle."""
    found = []
    for stage in net.stages:
        (radix,) = {bank.radix for bank in stage.banks}
        assert sum(bank.count for bank in stage.banks) * radix == net.width
        found.append(radix)
    return found


# Every family ---------------------------------------------------------------------------------


@given(families(max_width=40))
def test_the_default_depth_is_the_minimum_dense_depth(case):
    family, width = case
    if family.name == "brickwall":  # its default covers every rotation
        return
    if family.has_depth and "depth" not in dict(family.options):
        assert_dense(family(width))
        assert family(width).depth == sm.dense_depth(family, width)


# Block diagonal -------------------------------------------------------------------------------


@pytest.mark.parametrize("width", range(2, 41))
def test_block_diagonal_has_blocks_side_by_side(width):
    for block in divisors(width):
        net = sm.block_diagonal(width, block)
        assert net == sm.Network.of(width, [np.arange(width).reshape(-1, block).tolist()])
        assert net.parameters == width * (block - 1) // 2
        assert sm.is_dense(net) == (block == width)
        if block % 2 == 0:
            assert net == sm.butterfly(width, block, depth=1)


# Block butterfly ------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(2, 13, 2))
def test_butterfly_has_the_pattern_parameters_and_density_of_boft(block):
    """The pattern is PEFT's, and the network is dense exactly if d = b·2^(m−1)."""
    for width in range(1, 129):
        for depth in range(1, 9):
            if width % block or (width // block) % 2 ** (depth - 1):
                with pytest.raises(WidthError, match="width must be a multiple of"):
                    sm.butterfly(width, block, depth)
                continue
            net = sm.butterfly(width, block, depth)
            assert net.parameters == depth * width * (block - 1) // 2
            assert net.depth == depth
            assert sm.is_dense(net) == (width == block * 2 ** (depth - 1))
            half = np.arange(width) // (block // 2)
            for i, stage in enumerate(net.stages):
                apart = half[:, None] ^ half[None, :]
                assert np.array_equal(
                    sm.reach(sm.Network(width, [stage])), (apart == 0) | (apart == 1 << i)
                )


@pytest.mark.parametrize("power", range(1, 9))
def test_radix_two_butterfly_is_mixed_radix_of_twos(power):
    net = sm.butterfly(2**power, block=2)
    assert net == sm.mixed_radix(2**power, radices=[2] * power) == sm.mixed_radix(2**power)
    assert (sm.path_counts(net) == 1).all()


def test_free_edges_at_width_four_are_those_of_the_boft_paper():
    assert sm.block_diagonal(4, 4).free_edges == 12
    assert sm.butterfly(4, block=2).free_edges == 8
    assert sm.is_dense(sm.butterfly(4, block=2))


def test_block_butterfly_is_a_dilated_butterfly():
    assert sm.butterfly(48, block=6, depth=4) == sm.butterfly(16, block=2, depth=4).dilate(3)


# Mixed radix and Monarch ----------------------------------------------------------------------


@given(st.lists(st.integers(2, 7), min_size=1, max_size=4))
def test_mixed_radix_has_one_path_between_any_two_wires(radices):
    width = math.prod(radices)
    net = sm.mixed_radix(width, radices)
    assert radices_of(net) == radices
    assert 2 * net.parameters == width * sum(r - 1 for r in radices)
    if width <= 512:
        assert (sm.path_counts(net) == 1).all()
        assert sm.dense_depth(sm.parse(f"mixed_radix(radices={tuple(radices)})"), width) == len(
            radices
        )
    digits = np.unravel_index(np.arange(width), radices[::-1])[::-1]
    for t, stage in enumerate(net.stages):
        for row in stage.banks[0].reads[:20]:
            assert digits[t][row].tolist() == list(range(radices[t]))
            assert all(len(set(d[row].tolist())) == 1 for k, d in enumerate(digits) if k != t)


@given(st.lists(st.integers(2, 5), min_size=1, max_size=4))
def test_reversed_mixed_radix_is_the_transposed_network(radices):
    width = math.prod(radices)
    net = sm.mixed_radix(width, radices)
    assert sm.mixed_radix(width, radices, reverse=True) == net.inverse() == net[::-1]


@given(st.integers(2, 3000))
def test_mixed_radix_supports_any_width_by_its_prime_factors(width):
    radices = radices_of(sm.mixed_radix(width))
    assert math.prod(radices) == width
    assert radices == sorted(radices)
    assert all(all(r % k for k in range(2, math.isqrt(r) + 1)) for r in radices)


@given(st.integers(2, 3000), st.integers(2, 40))
def test_largest_multiplies_neighbouring_prime_factors(width, largest):
    primes = radices_of(sm.mixed_radix(width))
    merged = radices_of(sm.mixed_radix(width, largest=largest))
    assert math.prod(merged) == width
    strides = set(itertools.accumulate(primes, operator.mul))
    assert set(itertools.accumulate(merged, operator.mul)) <= strides
    assert all(r <= largest or r in primes for r in merged)
    assert all(a * b > largest for a, b in itertools.pairwise(merged))


@pytest.mark.parametrize("width", range(4, 130))
def test_monarch_is_the_most_balanced_pair(width):
    pairs = [(p, width // p) for p in divisors(width) if p <= width // p]
    if not pairs:
        with pytest.raises(WidthError, match=f"monarch\\(width={width}\\).*two factors above 1"):
            sm.monarch(width)
        return
    p, q = radices_of(sm.monarch(width))
    assert (p, q) == min(pairs, key=lambda pair: pair[1] - pair[0])
    assert 2 * sm.monarch(width).parameters == width * (p + q - 2)
    assert (sm.path_counts(sm.monarch(width)) == 1).all()
    assert radices_of(sm.monarch(width, (q, p))) == [q, p]


# Random ---------------------------------------------------------------------------------------


@given(st.integers(2, 40), st.data())
def test_every_stage_of_random_partitions_the_wires_into_blocks(width, data):
    block = data.draw(st.integers(2, width))
    depth = data.draw(st.integers(1, 4))
    net = sm.random(width, block, depth, rng=data.draw(st.integers(0, 99)))
    rest = width % block
    for stage in net.stages:
        sizes = sorted(bank.radix for bank in stage.banks for _ in range(bank.count))
        assert sizes == ([rest] if rest > 1 else []) + [block] * (width // block)
        assert len(stage.idle) == (rest == 1)


@given(st.integers(0, 2**32))
def test_random_is_reproducible(seed):
    net = sm.random(12, 4, 3, rng=seed)
    assert net == sm.random(12, 4, 3, rng=np.random.default_rng(seed))
    source = np.random.default_rng(seed)
    assert sm.random(12, 4, 2, rng=source).then(sm.random(12, 4, 1, rng=source)) == net


def test_random_partitions_are_uniform():
    """Four wires have three partitions into pairs."""
    source = np.random.default_rng(0)
    seen = [0, 0, 0]
    for stage in sm.random(4, 2, 3000, rng=source).stages:
        reached = sm.reach(sm.Network(4, [stage]))
        seen[int(np.flatnonzero(reached[0, 1:])[0])] += 1
    assert np.abs(np.array(seen) - 1000).max() < 5 * math.sqrt(3000 * 2 / 9)


# Invalid widths -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        "block_diagonal(block=6)",
        "butterfly",
        "butterfly(block=6)",
        "butterfly(block=4, depth=3)",
        "shuffle(block=5, depth=2)",
        "monarch",
        "monarch(radices=(4, 9))",
        "mixed_radix(radices=(2, 3, 5))",
        "benes",
        "random(block=7, depth=1)",
    ],
)
def test_refusals_name_the_nearest_valid_widths(spec):
    family = sm.parse(spec)
    valid = [width for width in range(1, 300) if family.accepts(width)]
    for width in range(1, 42, 3):
        if width in valid:
            continue
        with pytest.raises(WidthError, match="must be") as caught:
            family(width)
        below = [str(w) for w in valid if w < width][-1:]
        above = [str(w) for w in valid if w > width][:1]
        near = below + above
        text = str(caught.value)
        assert "\n" not in text
        assert f"(width={width}" in text
        verb = "are" if len(near) == 2 else "is"
        assert f"; nearest {verb} {' and '.join(near)}" in text
        assert width == 1 or text.endswith(f"mixed_radix({width}) serves any width")


def test_distant_valid_widths_are_found_or_omitted():
    with pytest.raises(WidthError, match=r"of 1000; nearest is 1000\."):
        sm.block_diagonal(7, 1000)
    with pytest.raises(WidthError, match=r"2\^n with n ≥ 1; nearest are 65536 and 131072\."):
        sm.benes(100_000)
    with pytest.raises(WidthError, match=r"multiple of 2·2\^20000, block·2\^\(depth−1\)\. mixed"):
        sm.butterfly(64, block=2, depth=20_001)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sm.butterfly(8, block=3), "block=3: .* block must be even"),
        (lambda: sm.butterfly(8, block=0), "block=0: block must be an integer ≥ 2"),
        (lambda: sm.butterfly(8, block=2, depth=0), "depth=0"),
        (lambda: sm.butterfly(8, block=2, depth=-1), "depth=-1: depth must be .* ≥ 1"),
        (lambda: sm.butterfly(8, block=2, depth=2.5), "depth=2.5"),
        (lambda: sm.butterfly(8, block=float("nan")), "block=nan"),
        (lambda: sm.butterfly(8.0), "width=8.0: width must be an integer"),
        (lambda: sm.butterfly(float("nan")), "width=nan"),
        (lambda: sm.butterfly(-8), "width=-8"),
        (lambda: sm.butterfly("8"), "width='8'"),
        (lambda: sm.butterfly(width=True), "width=True"),
        (lambda: sm.block_diagonal(8, 1), "block=1: block must be an integer ≥ 2"),
        (lambda: sm.shuffle(8, 2, depth=0), "depth=0"),
        (lambda: sm.shuffle(8, "2"), "block='2'"),
        (lambda: sm.mixed_radix(6, radices=(6, 1)), "radix=1: radix must be an integer"),
        (lambda: sm.mixed_radix(6, radices=6), "radices=6: radices must be a sequence"),
        (lambda: sm.mixed_radix(6, radices=iter((2, 3))), "radices must be a sequence"),
        (lambda: sm.mixed_radix(6, radices={2: 3}), "radices must be a sequence"),
        (lambda: sm.mixed_radix(6, radices=(2, 2)), "the radices' product 4 must be the width"),
        (lambda: sm.mixed_radix(6, radices=(2, 3), largest=4), "give one of them"),
        (lambda: sm.mixed_radix(6, largest=1), "largest=1"),
        (lambda: sm.mixed_radix(6, reverse=1), "reverse=1: reverse must be True or False"),
        (lambda: sm.monarch(8, radices=(2, 2, 2)), "a Monarch network has two radices"),
        (lambda: sm.monarch(8, radices=(8,)), "a Monarch network has two radices"),
        (lambda: sm.random(8, block=2, depth=0), "depth=0"),
        (lambda: sm.random(8, block=2, depth=1, rng=-1), "rng=-1: rng must be a Generator"),
        (lambda: sm.random(8, block=2, depth=1, rng="seed"), "rng='seed'"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(StructmatError, match=message):
        make()
