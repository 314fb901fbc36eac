"""Mixing and moments, against fractions, products of Kronecker squares, and samples."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis import mixing
from structmat.analysis.mixing import concentration, energy, fourth_moments, mixes_exactly
from structmat.linalg import factors as stagewise
from structmat.testing import families, networks, seeds

some_networks = st.one_of(
    networks(), families(max_width=20, max_depth=6).map(lambda case: case[0](case[1]))
)


def averages(net):
    """Return the product of the averages as fractions, computed from the grid graph."""
    graph = net.to_networkx()
    rows = [[Fraction(int(i == j)) for j in range(net.width)] for i in range(net.width)]
    for t in range(net.depth):
        sources = [[j for _, j in graph.predecessors((t + 1, i))] for i in range(net.width)]
        rows = [
            [sum((rows[k][j] for k in wires), Fraction(0)) / len(wires) for j in range(net.width)]
            for wires in sources
        ]
    return rows


@given(some_networks)
def test_energy_is_the_product_of_averages(net):
    w = np.array(averages(net), dtype=float).reshape(net.width, net.width)
    np.testing.assert_allclose(energy(net), w, rtol=1e-13, atol=0)
    assert np.array_equal(energy(net) > 0, sm.reach(net))


@given(some_networks)
def test_perfect_mixing_is_decided_exactly(net):
    perfect = all(x == Fraction(1, net.width) for row in averages(net) for x in row)
    assert mixes_exactly(net) == perfect
    digits = sm.mixed_radix(net.width) if net.width > 1 else net
    assert mixes_exactly(net.then(digits))
    assert mixes_exactly(digits[:-1]) == (net.width == 1)


@given(some_networks)
def test_mixing_is_the_second_singular_value(net):
    w = energy(net)
    values = np.append(np.linalg.svd(w, compute_uv=False), 0.0)
    assert values[0] == pytest.approx(1, abs=1e-12)
    assert sm.mixing(net) == pytest.approx(values[1], abs=1e-12)
    assert sm.mixing(net.inverse()) == pytest.approx(values[1], abs=1e-12)


@given(some_networks)
def test_mixing_is_zero_exactly_if_all_averages_are_equal(net):
    """T9: perfect mixing needs at least (d/2)·log₂ d parameters."""
    perfect = all(x == Fraction(1, net.width) for row in averages(net) for x in row)
    assert (sm.mixing(net) < 1e-9) == perfect
    if perfect:
        assert sm.mixing(net) < net.width * net.depth * 4 * np.finfo(float).eps + 1e-300
        assert 4**net.parameters >= net.width**net.width


@given(some_networks)
def test_concentration_lies_between_its_bounds(net):
    found, d = concentration(net), net.width
    assert found == pytest.approx(d * energy(net).max(), rel=1e-12)
    assert d / sm.report(net).fewest_reached - 1e-9 <= found <= d * (1 + 1e-12)
    assert found <= 1 + d * sm.mixing(net) + 1e-9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixing, "_CHUNK", 2 * d)  # two columns at once
        assert concentration(net) == pytest.approx(found, rel=1e-12)


@given(networks(max_width=8), networks(max_width=8))
def test_the_mixing_of_a_sequence_is_at_most_the_product_of_both(net, other):
    """W J = J W = J, so W₂W₁ − J/d = (W₂ − J/d)(W₁ − J/d)."""
    if net.width == other.width:
        both = sm.mixing(net.then(other))
        assert both <= sm.mixing(net) * sm.mixing(other) + 1e-12
    assert sm.mixing(net.direct_sum(other)) == pytest.approx(1, abs=1e-12)


@given(some_networks.filter(lambda net: net.width > 2))
@settings(max_examples=50)
def test_lanczos_agrees_with_all_singular_values(net):
    plain = sm.mixing(net)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixing, "_DENSE", 2)
        assert sm.mixing(net) == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("family", ["butterfly", "reversed", "mixed", "shuffle"])
def test_wide_networks_mix_perfectly(family):
    net = {
        "butterfly": sm.butterfly(4096),
        "reversed": sm.butterfly(4096).inverse(),
        "mixed": sm.mixed_radix(4500),
        "shuffle": sm.shuffle(4096, 8),
    }[family]
    assert sm.mixing(net) == 0
    assert sm.mixing(net[1:]) == pytest.approx(1, abs=1e-9)
    assert 0.1 < sm.mixing(sm.random(net.width, 4, 3, rng=0)) < 1


def second_moments(net):
    """Return E[R ⊗ R] for Haar blocks in O(r), from E[Q_ik Q_jl] = δ_ij δ_kl / r."""
    d = net.width
    product = np.eye(d * d)
    for stage in net.stages:
        b = np.zeros((d, d, d, d))  # i, j, k, l
        start, end = stage.passing
        for k, i in zip(start, end, strict=True):
            b[i, end, k, start] = 1
        for bank in stage.banks:
            for reads, writes in zip(bank.reads, bank.writes, strict=True):
                for i in writes:
                    for k in reads:
                        b[i, i, k, k] = 1 / bank.radix
        product = b.reshape(d * d, d * d) @ product
    return product


@given(networks(max_width=6, max_depth=6))
def test_second_moments_are_haar_exactly_if_mixing_is_perfect(net):
    """T10, with all orthogonal blocks, not only rotations."""
    d = net.width
    one = np.eye(d).ravel()
    haar = np.allclose(second_moments(net), np.outer(one, one) / d, rtol=0, atol=1e-12)
    assert haar == (sm.mixing(net) < 1e-9)


def test_second_moments_of_perfectly_mixing_families_are_those_of_haar():
    for net in (sm.butterfly(4), sm.mixed_radix(6), sm.monarch(6), sm.shuffle(4, 2), sm.benes(4)):
        one = np.eye(net.width).ravel()
        np.testing.assert_allclose(second_moments(net), np.outer(one, one) / net.width, atol=1e-12)


@given(st.lists(st.integers(2, 6), max_size=4).filter(lambda radices: math.prod(radices) <= 60))
def test_fourth_moments_of_mixed_radix_follow_the_formula(radices):
    """T11: d²·E[R_ij⁴] = ∏ 3r/(r+2)."""
    width = math.prod(radices)
    net = sm.mixed_radix(width, radices) if radices else sm.Network(1)
    expected = math.prod(3 * r / (r + 2) for r in radices)
    np.testing.assert_allclose(width**2 * fourth_moments(net), expected, rtol=1e-12)
    expected = math.prod(2 * r / (r + 1) for r in radices)
    np.testing.assert_allclose(
        width**2 * fourth_moments(net, field="complex"), expected, rtol=1e-12
    )


@given(networks(screens=True), st.sampled_from(["real", "complex"]))
def test_fourth_moments_lie_between_the_squares_of_the_energy_and_the_energy(net, field):
    """The lower bound is Jensen's inequality; the upper bound follows from |R_ij| ≤ 1."""
    w = energy(net)
    fourth = fourth_moments(net, field=field)
    assert (fourth >= w**2 * (1 - 1e-12)).all()
    assert (fourth <= w * (1 + 1e-12)).all()
    assert np.array_equal(fourth > 0, w > 0)


@given(st.integers(2, 8), st.integers(1, 4))
def test_repeated_switches_have_the_moments_of_one_switch(width, times):
    """A product of Haar matrices is Haar, although the network has many paths."""
    net = sm.Network.of(width, [[range(width)]]).repeat(times)
    np.testing.assert_allclose(fourth_moments(net), 3 / (width * (width + 2)), rtol=1e-12)
    unitary = fourth_moments(net, field="complex")
    np.testing.assert_allclose(unitary, 2 / (width * (width + 1)), rtol=1e-12)


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(
    "net",
    [
        sm.gossip(5),
        sm.benes(4),
        sm.butterfly(8, block=4),
        sm.butterfly(4).repeat(2),
        sm.Network.of(5, [[[0, 1, 2], [3, 4]], [[2, 3]], [[0, 4, 3]], [[1, 0]]]),
    ],
    ids=["gossip", "benes", "boft", "twice", "odd"],
)
def test_moments_agree_with_samples(net, dtype, special):
    """Means of n independent draws have errors of order σ/√n; all entries are within 5 σ/√n."""
    draws = 500
    rng = np.random.default_rng(1)
    squares = np.array(
        [
            np.abs(stagewise.matrix_of(net, sm.random_blocks(net, rng, dtype, special=special)))
            ** 2
            for _ in range(draws)
        ]
    )
    for expected, found in (
        (energy(net), squares),
        (fourth_moments(net, field="complex" if dtype is complex else "real"), squares**2),
    ):
        limit = 5 * found.std(axis=0) / draws**0.5 + 1e-12
        assert (np.abs(found.mean(axis=0) - expected) <= limit).all()


@given(networks(max_width=8), seeds())
@settings(max_examples=20)
def test_moments_do_not_depend_on_the_size_of_chunks(net, seed):
    whole = fourth_moments(net)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixing, "_CHUNK", seed % 200)
        np.testing.assert_array_equal(fourth_moments(net), whole)
