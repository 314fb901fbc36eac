"""What `dense_networks` lists is dense, within the budget, in order; and every width has some."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError

MODELS = (
    384, 768, 1024, 1152, 1280, 1536, 2048, 3072, 4096, 5120, 8192, 11008, 14336, 28672, 50257,
)  # fmt: skip


def pairs(width):
    return width * (width - 1) // 2


@given(st.integers(2, 60), st.data())
def test_what_is_listed_is_dense_within_the_budget_and_in_order(width, data):
    budget = data.draw(st.integers(0, pairs(width)))
    found = sm.dense_networks(width, budget)
    networks = [family(width) for family in found]
    assert all(map(sm.is_dense, networks))
    assert all(net.width == width and net.parameters <= budget for net in networks)
    keys = [(n.parameters, n.depth, f.name) for n, f in zip(networks, found, strict=True)]
    assert keys == sorted(set(keys))


@given(st.integers(2, 60), st.data())
def test_a_smaller_budget_gives_the_first_of_them(width, data):
    budget = data.draw(st.integers(0, pairs(width)))
    every = sm.dense_networks(width)
    affordable = [family for family in every if family(width).parameters <= budget]
    assert sm.dense_networks(width, budget) == affordable


@given(st.integers(4, 40))
def test_no_depth_or_repeat_is_more_than_is_needed(width):
    for family in sm.dense_networks(width):
        options = dict(family.options)
        for name in ("depth", "repeat"):
            if options.get(name, 1) > 1:
                less = family.having(**{name: options[name] - 1})
                assert not less.takes(width) or not sm.is_dense(less(width))


def test_every_width_has_a_dense_network():
    """With few parameters and with few stages, and none of one huge switch."""
    for width in (*range(2, 301), *MODELS):
        few = sm.dense_networks(
            width, budget=max(3, 2 * width - 4, pairs(width) if width < 4 else 0)
        )
        assert few, width
        assert sm.is_dense(few[0](width)), width


@pytest.mark.parametrize("width", MODELS)
def test_model_widths_have_dense_straight_networks_of_small_switches(width):
    found = sm.dense_networks(width, budget=40 * width)
    small = []
    for family in itertools.islice(found, 25):
        net = family(width)
        if net.is_straight and net.depth <= 20 and max(bank.radix for bank in net.banks) <= 16:
            small.append(str(family))
    assert len(small) >= 3, (width, small)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1,), "width=1: width must be an integer, at least 2"),
        ((2.5,), r"width=2\.5"),
        ((True,), "width=True"),
        ((8, -1), "budget=-1: budget must be an integer, at least 0"),
        ((8, 1e6), r"budget=1000000\.0"),
    ],
)
def test_bad_widths_and_budgets_are_refused(arguments, message):
    with pytest.raises(StructmatError, match=message):
        sm.dense_networks(*arguments)
