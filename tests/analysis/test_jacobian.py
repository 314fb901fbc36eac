"""The derivative of a network, against finite differences, exact ranks and Lipschitz bounds."""

import json
from math import comb, sqrt

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis.jacobian import (
    Conditioning,
    component_error,
    conditioning,
    jacobian,
    lipschitz,
)
from structmat.analysis.min_cut import cut, rank_bounds
from structmat.analysis.mixing import energy, fourth_moments
from structmat.analysis.spectrum import eigenangles, spacing_ratio, spectral_statistics
from structmat.errors import BlockError, StructmatError
from structmat.linalg import factors as stagewise
from structmat.linalg.blocks import PARAMETRIZATIONS, exponential, generators_per_block, skew
from structmat.testing import blocks_for, families, networks, seeds


def perturbed(net, blocks, generators):
    """Blocks B → exp(A)·B, with the generators of all A in a row."""
    made, first = [], 0
    for bank, block in zip(net.banks, blocks, strict=True):
        size = bank.count * generators_per_block(bank.radix)
        a = skew(generators[first : first + size].reshape(bank.count, -1), bank.radix)
        made.append(np.array([scipy.linalg.expm(one) for one in a]) @ block)
        first += size
    return made


@given(networks(max_width=6, screens=True), seeds())
@settings(max_examples=40)
def test_jacobian_is_the_derivative(net, seed):
    """Central differences of R: their error is of order step², by rounding eps/step."""
    blocks = sm.random_blocks(net, seed)
    r, step = stagewise.matrix_of(net, blocks), 1e-5
    upper = np.triu_indices(net.width, 1)
    rows = jacobian(net, blocks)
    assert rows.shape == (net.parameters, comb(net.width, 2))
    for k, row in enumerate(rows):
        direction = np.zeros(net.parameters)
        direction[k] = step
        change = stagewise.matrix_of(net, perturbed(net, blocks, direction)) - stagewise.matrix_of(
            net, perturbed(net, blocks, -direction)
        )
        derivative = r.T @ change / (2 * step)
        np.testing.assert_allclose(derivative[upper], row, atol=1e-8)
        np.testing.assert_allclose(derivative + derivative.T, 0, atol=1e-8)


@given(networks(screens=True), seeds())
def test_the_rows_of_a_stage_are_orthonormal(net, seed):
    blocks = sm.random_blocks(net, seed)
    rows = jacobian(net, blocks)
    first = 0
    for stage in net.stages:
        mine = rows[first : first + stage.parameters]
        np.testing.assert_allclose(mine @ mine.T, np.eye(len(mine)), atol=1e-12)
        first += stage.parameters
    largest = conditioning(net, blocks).singular_values.max(initial=0)
    assert largest <= sqrt(sum(bool(stage.banks) for stage in net.stages)) + 1e-12


@given(networks(max_width=8, screens=True), seeds())
def test_the_rank_is_at_most_the_dimension(net, seed):
    """The other singular values belong to gauge redundancy: zero up to rounding at all blocks."""
    found = conditioning(net, rng=seed)
    assert found.directions == sm.dimension(net).value
    beyond = found.singular_values[found.directions :]
    assert (beyond < 1e-12 * net.width * max(net.depth, 1)).all()
    assert 0 <= found.ratio <= 1


@pytest.mark.parametrize(
    "net", [sm.butterfly(8), sm.butterfly(8, block=4), sm.mixed_radix(12), sm.ruler(4)]
)
def test_the_rank_at_random_blocks_is_the_dimension(net):
    """The second network has redundant parameters: 24 parameters and rank 20."""
    found = conditioning(net, rng=0)
    assert found.resolved
    assert found.ratio == found.singular_values[found.directions - 1] / found.singular_values[0]
    assert np.count_nonzero(found.singular_values > 1e-9) == found.directions


def test_one_switch_is_perfectly_conditioned():
    net = sm.Network.of(5, [[range(5)]])
    np.testing.assert_allclose(conditioning(net, rng=0).singular_values, 1)
    assert conditioning(sm.Network(5)).ratio == 1


def test_at_the_identity_the_derivative_spans_the_shared_pairs():
    """The rank is |∪E_t|; the squared singular value of a pair is the number of its switches."""
    net = sm.butterfly(8, block=4)
    pairs = [
        frozenset(p)
        for stage in net.stages
        for bank in stage.banks
        for row in bank.reads
        for p in zip(*(row[list(side)] for side in np.triu_indices(4, 1)), strict=True)
    ]
    values = conditioning(net, sm.identity_blocks(net)).singular_values
    times = np.sqrt(sorted((pairs.count(p) for p in set(pairs)), reverse=True))
    np.testing.assert_allclose(values[: len(times)], times, atol=1e-12)
    np.testing.assert_allclose(values[len(times) :], 0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_brickwalls_are_nearly_singular_and_cycled_butterflies_are_not(seed):
    """Both cover all of SO(16), with 120 parameters."""
    wall, cycled = sm.brickwall(16), sm.butterfly(16).repeat(4)[:15]
    assert wall.parameters == cycled.parameters == 120
    assert sm.dimension(wall).value == sm.dimension(cycled).value == 120
    assert conditioning(wall, rng=seed).ratio < 1e-7
    assert conditioning(cycled, rng=seed).ratio > 1e-5
    assert conditioning(sm.butterfly(16).repeat(5), rng=seed).ratio > 1e-2


def test_singular_values_below_rounding_are_reported():
    found = conditioning(sm.brickwall(24), rng=0)
    assert not found.resolved
    assert "0 up to rounding over 276 directions" in str(found)
    summary = json.loads(json.dumps(found.to_dict()))
    assert summary["directions"] == 276
    assert summary["resolved"] is False
    good = conditioning(sm.butterfly(8), rng=0)
    assert f"{good.ratio:.2g} over 12 directions" in str(good)
    assert good.to_dict()["smallest"] == pytest.approx(good.ratio * good.to_dict()["largest"])


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_a_ratio_is_reported_only_above_the_rounding_error(count):
    """Singular values have an error of eps times the largest, growing with their number."""
    eps = 2.0**-52
    for times, resolved in [(0.5, False), (2, True), (1e3, True)]:
        values = np.ones(count + 1)
        values[-1] = times * (count + 1) * eps
        assert Conditioning(values, count + 1).resolved is resolved
        assert Conditioning(values, count).resolved


def test_complex_and_missing_blocks_are_rejected():
    net = sm.butterfly(4)
    with pytest.raises(BlockError, match="complex blocks"):
        jacobian(net, sm.random_blocks(net, 0, complex))
    with pytest.raises(BlockError, match="0 arrays of blocks"):
        conditioning(net, [])


def norms(matrix):
    return np.array([np.linalg.norm(matrix), np.linalg.norm(matrix, 2)])


@given(networks(screens=True), st.data())
def test_the_change_of_a_product_is_bounded_by_the_changes_of_its_factors(net, data):
    blocks, others = data.draw(blocks_for(net)), data.draw(blocks_for(net))
    change = norms(stagewise.matrix_of(net, blocks) - stagewise.matrix_of(net, others))
    pairs = zip(stagewise.factors(net, blocks), stagewise.factors(net, others), strict=True)
    assert (change <= sum((norms((a - b).toarray()) for a, b in pairs), np.zeros(2)) + 1e-12).all()


@given(
    networks(screens=True),
    seeds(),
    st.sampled_from([1e-3, 1.0, 100.0]),
    st.sampled_from(["cayley", "exp"]),
)
def test_the_matrix_changes_no_faster_than_the_lipschitz_bound(net, seed, size, kind):
    rng = np.random.default_rng(seed)
    drawn = [
        [size * rng.standard_normal((b.count, generators_per_block(b.radix))) for b in net.banks]
        for _ in range(2)
    ]
    r, other = (
        stagewise.matrix_of(
            net, [PARAMETRIZATIONS[kind](g, b.radix) for g, b in zip(gs, net.banks, strict=True)]
        )
        for gs in drawn
    )
    apart = sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(*drawn, strict=True)))
    assert np.linalg.norm(r - other) <= lipschitz(net, kind) * apart + 1e-11


@given(
    families(max_width=16, max_depth=1).filter(lambda case: case[0](case[1]).parameters > 0),
    st.integers(1, 6),
    st.sampled_from(["cayley", "exp"]),
)
def test_repeated_stages_attain_the_bound_at_the_identity(case, times, kind):
    family, width = case
    net = family(width).repeat(times)
    step = 1e-4
    g = [step * np.ones((b.count, generators_per_block(b.radix))) for b in net.banks]
    blocks = [PARAMETRIZATIONS[kind](one, b.radix) for one, b in zip(g, net.banks, strict=True)]
    apart = sqrt(sum(np.sum(one**2) for one in g))
    straight = net.straightened().network
    change = np.linalg.norm(stagewise.matrix_of(straight, blocks) - np.eye(width))
    assert change == pytest.approx(lipschitz(net, kind) * apart, rel=1e-3)


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (sm.mixing, "mixing"),
        (energy, "energy"),
        (fourth_moments, "fourth_moments"),
        (spectral_statistics, "spectral_statistics"),
        (conditioning, "conditioning"),
        (lipschitz, "lipschitz"),
        (lambda net: jacobian(net, []), "jacobian"),
        (lambda net: sm.rank_bound(net, [0], [1]), "rank_bound"),
        (lambda net: rank_bounds(net, []), "rank_bounds"),
        (lambda net: cut(net, [0], [1]), "cut"),
    ],
)
@pytest.mark.parametrize("net", ["x", 4, None])
def test_only_networks_are_accepted(ask, name, net):
    with pytest.raises(StructmatError, match=f"^{name} of {net!r}: it takes a network; build one"):
        ask(net)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: eigenangles([[1.0], [0.0, 1.0]]), "^matrix: all rows must have the same length"),
        (
            lambda: spacing_ratio([[0.1, 0.2, 0.3], [0.1]]),
            "^angles: all rows must have the same length",
        ),
        (lambda: spacing_ratio([0.1, 0.2]), r"^angles \(2,\) of dtype float64: .* at least 3"),
        (lambda: spacing_ratio(0.5), r"^angles \(\) of dtype"),
        (lambda: spacing_ratio(np.zeros((0, 3))), r"^angles \(0, 3\)"),
        (lambda: spacing_ratio(["a", "b", "c"]), "^angles .* real angles"),
    ],
)
def test_invalid_angles_are_rejected(call, message):
    with pytest.raises(BlockError, match=message):
        call()


def test_lipschitz_rejects_invalid_arguments():
    with pytest.raises(
        BlockError, match="kind='cayly': unknown parametrization; did you mean cayley"
    ):
        lipschitz(sm.butterfly(4), "cayly")


# Unitary blocks --------------------------------------------------------------------------------


@given(networks(max_width=5, max_depth=3, screens=True), seeds())
@settings(max_examples=30)
def test_the_unitary_jacobian_is_the_derivative(net, seed):
    """Central differences, along generators with an orthonormal basis of phases."""
    blocks = sm.random_blocks(net, seed, complex)
    r, step = stagewise.matrix_of(net, blocks), 1e-5
    rows = iter(jacobian(net, blocks, field="complex"))
    a, b = np.triu_indices(net.width, 1)
    for k, bank in enumerate(net.banks):
        pairs = comb(bank.radix, 2)
        every = np.eye(bank.count * bank.radix**2).reshape(-1, bank.count, bank.radix**2)
        order = np.arange(len(every)).reshape(bank.count, bank.radix**2)
        groups = np.split(order, [pairs, 2 * pairs], axis=1)
        for number in np.concatenate([group.ravel() for group in groups]):
            direction = every[number].copy()
            direction[:, 2 * pairs :] *= 2**0.5
            sides = []
            for sign in (1, -1):
                moved = list(blocks)
                moved[k] = exponential(sign * step * direction, bank.radix) @ blocks[k]
                sides.append(stagewise.matrix_of(net, moved))
            found = r.conj().T @ (sides[0] - sides[1]) / (2 * step)
            expected = np.concatenate(
                [found[a, b].real, found[a, b].imag, np.diagonal(found).imag / 2**0.5]
            )
            np.testing.assert_allclose(next(rows), expected, atol=1e-8)
    assert next(rows, None) is None


@given(networks(max_width=5, max_depth=3, screens=True), seeds())
def test_the_number_of_unitary_directions_is_the_dimension(net, seed):
    found = conditioning(net, field="complex", rng=seed)
    assert found.directions == sm.dimension(net, field="complex").value
    assert (found.singular_values[found.directions :] < 1e-12 * net.width * net.depth).all()
    real = conditioning(net, sm.random_blocks(net, seed), field="complex")
    assert len(real.singular_values) == len(found.singular_values)


@given(networks(max_width=5, max_depth=3, screens=True), seeds())
def test_the_lipschitz_bound_holds_for_unitary_blocks(net, seed):
    """One step of all generators moves R by no more than L times its size; screens attain it."""
    rng = np.random.default_rng(seed)
    constant = lipschitz(net, "exp", field="complex")
    ends, squares = [[], []], 0.0
    for bank in net.banks:
        g, change = rng.standard_normal((2, bank.count, bank.radix**2))
        squares += (change**2).sum()
        for end, at in zip(ends, (g, g + change), strict=True):
            end.append(exponential(at, bank.radix))
    one, other = (stagewise.matrix_of(net, end) for end in ends)
    assert np.linalg.norm(one - other) <= constant * squares**0.5 + 1e-12
    assert lipschitz(sm.Network.of(1, [[[0]]] * 4), field="complex") == 4
    assert lipschitz(sm.Network.of(1, [[[0]]] * 4)) == 0


@given(networks(max_width=5, max_depth=3, screens=True), seeds(), st.booleans())
def test_the_component_error_follows_from_the_norms_of_the_rows(net, seed, real):
    """Independent errors: E‖ΔR‖² is the sum of ‖K‖² = 2‖row‖² over all generators."""
    field = "real" if real else "complex"
    blocks = sm.random_blocks(net, seed, float if real else complex)
    rows = jacobian(net, blocks, field=field)
    expected = sqrt(2 * (rows**2).sum() / net.width)
    assert component_error(net, field=field) == pytest.approx(expected, abs=1e-12)
