"""Mixing networks: exact or nearly exact mixing, dense, in few stages of small switches."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError, WidthError
from structmat.families import mixing_network
from structmat.families.mixing_networks import grid
from structmat.families.number_theory import best_factorization, ceil_log, factorizations

MODELS = (192, 384, 768, 1000, 1024, 1032, 1536, 2304, 3072, 4096, 4304, 11008, 13696, 14336)
PRIMES = (17, 19, 23, 67, 89, 107, 149, 241, 251, 269, 310, 347, 509)


def largest_prime(width):
    return max(k for k in range(2, width + 1) if width % k == 0 and all(k % j for j in range(2, k)))


@given(st.integers(2, 300), st.integers(4, 24))
@example(17, 16)
@example(23, 16)  # one wire fewer on one of the points
@example(5, 4)
@example(256, 16)
def test_networks_are_dense_straight_and_have_switches_of_at_most_a_block(width, block):
    net = mixing_network(width, block)
    assert net.is_straight
    assert sm.is_dense(net)
    assert not sm.is_dense(net[: net.depth - 1])
    sizes = [{bank.radix for bank in stage.banks} for stage in net.stages]
    assert max(map(max, sizes)) <= block
    assert all(max(radices) - min(radices) <= 1 for radices in sizes)
    assert all(len(stage.idle) == 0 for stage in net.stages)


@given(st.integers(2, 120), st.integers(4, 16))
def test_mixing_is_exact_if_and_only_if_no_prime_factor_exceeds_the_block(width, block):
    spread = sm.mixing(mixing_network(width, block))
    if largest_prime(width) <= block:
        assert spread < 1e-13
    else:
        assert spread > 1e-4


@given(st.integers(2, 250), st.integers(4, 16))
def test_exact_networks_have_the_fewest_stages_and_then_the_fewest_parameters(width, block):
    if largest_prime(width) > block:
        return
    possible = [radices for radices in factorizations(width) if max(radices) <= block]
    fewest = min((len(r), width * sum(x - 1 for x in r) // 2) for r in possible)
    net = mixing_network(width, block)
    assert (net.depth, net.parameters) == fewest
    assert net == sm.mixed_radix(width, [stage.banks[0].radix for stage in net.stages])


@given(st.integers(17, 255), st.integers(8, 16))
def test_two_stages_mix_as_well_as_their_odd_switches_allow(width, block):
    """The distance from J/d is at most 1/√(p·q) for odd switches of p and q wires."""
    net = mixing_network(width, block)
    if net.depth != 2 or largest_prime(width) <= block:
        return
    made = grid(width, block)
    sizes = [made.each * radix + int(np.sign(made.odd)) for radix in made.radices]
    assert sm.mixing(net) <= 1 / math.sqrt(math.prod(sizes)) + 1e-12
    assert math.prod(sizes) >= 25
    found = [{bank.radix for bank in stage.banks} for stage in net.stages]
    assert all(size in radices for size, radices in zip(sizes, found, strict=True))


@pytest.mark.parametrize("width", PRIMES)
def test_widths_with_a_large_prime_factor_mix_nearly_exactly(width):
    assert 0 < sm.mixing(mixing_network(width, 16)) < 0.2


@pytest.mark.parametrize("width", [*MODELS, 28672, 50257])
def test_model_widths_have_at_most_as_many_stages_and_fewer_parameters_than_deal(width):
    own, other = (
        sm.parse(f"{name}(block=16)").claims(width) for name in ("mixing_network", "deal")
    )
    assert own.depth <= other.depth
    assert own.parameters <= other.parameters
    assert own.depth == ceil_log(width, 16)


@given(st.integers(2, 5000), st.integers(8, 40))
def test_the_depth_is_at_most_one_above_the_bound_where_mixing_is_not_exact(width, block):
    found = grid(width, block)
    if found.odd:
        assert len(found.radices) - ceil_log(width, block) in (0, 1)


@given(st.integers(17, 400), st.integers(6, 16))
def test_the_wires_of_a_grid_differ_by_one_and_odd_points_share_no_line(width, block):
    """Count the wires on each point."""
    made = grid(width, block)
    counts = np.bincount(made.wires, minlength=made.points)
    assert counts.sum() == width
    assert set(counts.tolist()) <= {made.each, made.each + int(np.sign(made.odd))}
    odd = np.flatnonzero(counts != made.each)
    digits = np.array(np.unravel_index(odd, made.radices, order="F")).T
    for one, other in itertools.combinations(digits.tolist(), 2):
        assert sum(a != b for a, b in zip(one, other, strict=True)) > 1


@given(st.integers(17, 300))
def test_no_grid_of_equal_depth_and_mixing_has_fewer_parameters(width):
    """Search exhaustively over two radices, independently of the implementation."""
    found = grid(width, 16)
    if len(found.radices) != 2 or not found.odd:
        return
    costs = []
    for p, q in itertools.combinations_with_replacement(range(2, 17), 2):
        for each in range(1, 9):
            odd = width - each * p * q
            sizes = [each * r + extra for r in (p, q) for extra in {0, int(np.sign(odd))}]
            if abs(odd) > p or max(sizes) > 16 or each - (odd < 0) < 1:
                continue
            if (each * p + np.sign(odd)) * (each * q + np.sign(odd)) >= 25:
                costs.append(
                    sum(
                        (p * q // r - abs(odd)) * math.comb(each * r, 2)
                        + abs(odd) * math.comb(each * r + int(np.sign(odd)), 2)
                        for r in (p, q)
                    )
                )
    assert mixing_network(width, 16).parameters == min(costs)


@given(st.integers(2, 400), st.integers(2, 30), st.integers(1, 5), st.integers(1, 5))
def test_no_factorization_is_better_than_the_best_factorization(number, largest, scale, power):
    costs = {r: (scale * r % 7, r**power) for r in range(2, largest + 1)}
    every = [f for f in factorizations(number) if max(f) <= largest]
    if largest_prime(number) > largest:
        return
    rated = [
        (sum(costs[r][0] for r in f), sum(costs[r][1] for r in f), [-r for r in f]) for f in every
    ]
    assert [-r for r in best_factorization(number, costs)] == min(rated)[2]


def test_claims_need_no_network():
    assert sm.parse("mixing_network(block=16)").claims(2**22 - 3).dense
    assert sm.parse("mixing_network(block=64)").claims(1_000_003).depth == 4


@pytest.mark.parametrize(
    ("width", "block", "error", "message"),
    [
        (1, 16, WidthError, r"mixing_network\(width=1, block=16\): width must be at least 2"),
        (0, 16, StructmatError, "width=0"),
        (math.nan, 16, StructmatError, "width=nan"),
        (8, 3, StructmatError, "block=3: block must be an integer ≥ 4"),
        (8, 4.5, StructmatError, "block=4.5"),
    ],
)
def test_invalid_widths_and_blocks_are_rejected(width, block, error, message):
    with pytest.raises(error, match=message):
        mixing_network(width, block)
