"""Affine spaces: every two wires meet once, on a line of the right size."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError, WidthError
from structmat.families import affine
from structmat.families.affine_spaces import finite_field

FIELDS = (2, 3, 4, 5, 7, 8, 9, 11, 13, 16, 25, 27)
SPACES = [(b**n, b) for b in FIELDS for n in range(1, 8) if b**n <= 128]


@pytest.mark.parametrize("size", FIELDS)
def test_the_tables_are_those_of_a_field(size):
    sums, products = finite_field(size)
    numbers = np.arange(size)
    for table in (sums, products):
        assert np.array_equal(table, table.T)
        assert np.array_equal(table[table, :], table[:, table])  # (ab)c = a(bc)
    assert np.array_equal(sums[0], numbers)
    assert np.array_equal(products[1], numbers)
    assert all(sorted(row) == list(range(size)) for row in [*sums, *products[1:]])
    distributed = sums[products[:, :, None], products[:, None, :]]  # ab + ac
    assert np.array_equal(products[numbers[:, None, None], sums[None]], distributed)


@pytest.mark.parametrize(("width", "block"), SPACES)
def test_every_two_wires_meet_exactly_once(width, block):
    net = affine(width, block)
    met = sorted(
        pair
        for bank in net.banks
        for row in bank.reads.tolist()
        for pair in itertools.combinations(sorted(row), 2)
    )
    assert met == list(itertools.combinations(range(width), 2))
    assert net.depth == (width - 1) // (block - 1)
    assert {bank.radix for bank in net.banks} == {block}


@given(st.sampled_from(SPACES), st.data())
def test_leading_stages_have_no_redundant_parameter_and_are_dense_early(space, data):
    width, block = space
    most = (width - 1) // (block - 1)
    depth = data.draw(st.integers(1, min(most, 12)))
    net = affine(width, block, depth)
    assert net == affine(width, block)[:depth]
    found = sm.dimension(net, largest=0)
    assert found.lower == net.parameters == depth * width * (block - 1) // 2
    assert sm.is_dense(net) == (block**depth >= width)
    if block**depth == width:
        assert net == sm.mixed_radix(width, radices=(block,) * depth)


def test_the_depth_attains_the_lower_bound_for_full_dimension():
    for width, block in SPACES:
        rows = sm.lower_bounds(width, block=block).rows
        [bound] = [r.least for r in rows if (r.goal, r.quantity) == ("universal", "depth")]
        assert affine(width, block).depth == bound
        assert affine(width, block).parameters == math.comb(width, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 12, "block": 4}, "width must be 4.n with n ≥ 1; nearest are 4 and 16"),
        ({"width": 4, "depth": 4}, r"\(width − 1\)/1 ≥ depth; nearest is 8"),
    ],
)
def test_other_widths_are_refused(options, message):
    with pytest.raises(WidthError, match=message):
        affine(**options)


def test_there_is_no_field_of_six_elements():
    with pytest.raises(StructmatError, match="block=6: block must be the size of a field"):
        affine(36, 6)
