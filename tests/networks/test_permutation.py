"""Permutations as index arrays."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import WiringError
from structmat.networks import permutation


@given(st.integers(1, 30).flatmap(lambda n: st.permutations(range(n))), st.data())
def test_the_inverse_undoes_a_permutation(order, data):
    p = permutation.checked(order, len(order))
    x = np.arange(len(p)) * 10
    assert np.array_equal(x[p][permutation.inverse(p)], x)
    assert np.array_equal(permutation.inverse(permutation.inverse(p)), p)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 0], "each of the 2 wires once"),
        ([0, 2], "each of the 2 wires once"),
        ([0, -1], "each of the 2 wires once"),
        ([0], r"shape \(1,\)"),
        ([[0, 1]], r"shape \(1, 2\)"),
        ([0.0, 1.0], "integers, not float64"),
        ([0.0, np.nan], "integers, not float64"),
        ([True, False], "integers, not bool"),
        (["0", "1"], "must be integers"),
        ([[0], [0, 1]], "of equal length"),
        ([2**63, 0], "wire 9223372036854775808 is too large"),
        ([10**30, 0], "integers, not object"),
        (None, "integers, not object"),
    ],
)
def test_invalid_permutations_are_rejected(values, message):
    if isinstance(values, list) and values == [2**63, 0]:
        values = np.array(values, dtype=np.uint64)
    with pytest.raises(WiringError, match=message):
        permutation.checked(values, 2)


@given(st.integers(1, 12), st.integers(1, 12))
def test_perfect_shuffle_is_the_transpose_of_a_table(hands, block):
    """Dealing rows of `hands` wires out into `hands` hands of `block` is a transpose."""
    width = hands * block
    to = permutation.perfect_shuffle(width, block)
    dealt = np.empty(width, dtype=int)
    dealt[to] = np.arange(width)
    assert np.array_equal(dealt, np.arange(width).reshape(block, hands).T.ravel())
    for i in range(width):
        assert to[i] == (i % hands) * block + i // hands


shapes = st.lists(st.integers(2, 5), min_size=1, max_size=4)


@given(shapes.flatmap(lambda s: st.tuples(st.just(s), st.permutations(range(len(s))))))
def test_every_transpose_is_recognised(case):
    shape, axes = case
    p = np.arange(np.prod(shape)).reshape(shape).transpose(axes).ravel()
    seen = permutation.strides(p)
    assert seen is not None
    assert np.array_equal(np.arange(len(p)).reshape(seen[0]).transpose(seen[1]).ravel(), p)
    assert len(seen[0]) <= len(shape)


@pytest.mark.parametrize("width", range(1, 8))
def test_views_of_all_small_permutations_are_correct(width):
    """Exhaustive, against a search through every factorization and every order of the axes."""
    views = set()
    for count in range(1, 4):
        for shape in itertools.product(range(1, width + 1), repeat=count):
            if np.prod(shape) == width:
                for axes in itertools.permutations(range(count)):
                    table = np.arange(width).reshape(shape).transpose(axes)
                    views.add(tuple(table.ravel().tolist()))
    for order in itertools.permutations(range(width)):
        seen = permutation.strides(np.array(order))
        assert (seen is not None) == (order in views)
        if seen is not None:
            table = np.arange(width).reshape(seen[0]).transpose(seen[1])
            assert tuple(table.ravel().tolist()) == order


def test_the_number_of_axes_of_a_view_is_bounded():
    p = np.arange(64).reshape([2] * 6).transpose(5, 4, 3, 2, 1, 0).ravel()
    assert permutation.strides(p, most=6) is not None
    assert permutation.strides(p, most=5) is None


@pytest.mark.parametrize(
    "ask",
    [
        lambda net: sm.rank_bound(net, [0, "Medici"], [1]),
        lambda net: sm.rank_bound(net, "Medici", [1]),
        lambda net: sm.route(net, ["Medici", "Pazzi"]),
    ],
)
def test_the_error_for_names_explains_how_to_use_numbers(ask):
    net = sm.Network.of(2, [[[0, 1]]], labels=["Medici", "Pazzi"])
    with pytest.raises(
        WiringError, match=r"integers, not 'Medici'; .* net.labels.index\('Medici'\)"
    ):
        ask(net)


@given(st.lists(st.integers(1, 5), max_size=5))
def test_digit_reversal_reverses_the_digits(radices):
    p = permutation.digit_reversal(radices)
    for wire, source in enumerate(p.tolist()):
        digits = []
        for radix in radices:
            wire, digit = divmod(wire, radix)
            digits.append(digit)
        number = 0
        for radix, digit in zip(radices, digits, strict=True):
            number = number * radix + digit
        assert source == number
    back = permutation.digit_reversal(radices[::-1])
    assert (p[back] == np.arange(len(p))).all()
