"""`dense_networks` lists dense networks within the budget, in order, at every width."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError
from structmat.families import unregister
from structmat.families.number_theory import least_factorizations
from structmat.search import dense_networks
from structmat.search.dense_networks import dense_members

WIDTHS = (*range(2, 101), *range(101, 1000, 37))
MODELS = (
    384, 768, 1024, 1152, 1280, 1536, 2048, 3072, 4096, 5120, 8192, 11008, 14336, 28672, 50257,
)  # fmt: skip


def pairs(width):
    return width * (width - 1) // 2


@given(st.integers(2, 40), st.data())
def test_the_listed_networks_are_dense_within_the_budget_and_sorted(width, data):
    budget = data.draw(st.integers(0, pairs(width)))
    found = sm.dense_networks(width, budget)
    networks = [family(width) for family in found]
    assert all(map(sm.is_dense, networks))
    assert all(net.width == width and net.parameters <= budget for net in networks)
    keys = [(n.parameters, n.depth, f.name) for n, f in zip(networks, found, strict=True)]
    assert keys == sorted(set(keys))


@settings(max_examples=40, deadline=None)  # each example lists twice and builds all networks
@given(st.integers(2, 40), st.data())
def test_a_smaller_budget_gives_a_prefix_of_the_list(width, data):
    budget = data.draw(st.integers(0, pairs(width)))
    every = sm.dense_networks(width)
    affordable = [family for family in every if family(width).parameters <= budget]
    assert sm.dense_networks(width, budget) == affordable


@given(st.integers(4, 30))
def test_no_depth_or_repeat_is_larger_than_needed(width):
    for family in sm.dense_networks(width):
        options = dict(family.options)
        for name in ("depth", "repeat"):
            if options.get(name, 1) > 1:
                less = family.with_options(**{name: options[name] - 1})
                assert not less.accepts(width) or not sm.is_dense(less(width))


def stages(width):
    """Return the lower bound for 2×2 switches: a stage at most doubles the number of inputs."""
    return (width - 1).bit_length()


def fewest(width):
    """Return the minimum number of parameters of a dense network: the calls of gossip."""
    return 2 * width - 4 if width > 3 else 2 * width - 3


@pytest.fixture
def promising(monkeypatch):
    """Omit families without declared properties, which would have to be built."""
    monkeypatch.setattr(dense_networks, "_WIDEST", 0)
    monkeypatch.setattr(dense_networks, "_WIDEST_GRAPH", 0)


@pytest.mark.usefixtures("promising")
def test_every_width_has_a_dense_network_with_the_minimum_parameters():
    for width in (*WIDTHS, *MODELS):
        [best, *_] = sm.dense_networks(width, budget=fewest(width))
        net = best(width)
        assert net.parameters == fewest(width)
        assert sm.is_dense(net), width


@pytest.mark.usefixtures("promising")
def test_every_width_has_a_dense_network_of_few_stages_and_small_switches():
    for width in (*WIDTHS, *MODELS):
        found = dense_members(width, budget=width * (stages(width) + 1) // 2)
        flat = (m.family(width) for m in found if m.depth <= 2 * stages(width))
        net = next((n for n in flat if max(b.radix for b in n.banks) <= min(width, 4)), None)
        assert net is not None, width
        assert sm.is_dense(net), width


@pytest.mark.parametrize("width", MODELS[::2])
def test_model_widths_have_dense_straight_networks_of_small_switches(width):
    def is_small(net):
        return net.is_straight and net.depth <= 20 and max(b.radix for b in net.banks) <= 16

    found = sm.dense_networks(width, budget=40 * width)[:25]
    small = (str(family) for family in found if is_small(family(width)))
    assert len([*itertools.islice(small, 3)]) == 3, width


# Candidates -----------------------------------------------------------------------------------


def splits(width, least=2):
    """Yield every way to write a width as a product of factors, in ascending order."""
    yield (width,)
    for first in range(least, int(width**0.5) + 1):
        if width % first == 0:
            yield from ((first, *rest) for rest in splits(width // first, first))


@pytest.mark.parametrize("width", [12, 97, 360, 384, 768, 1152, 5120, 2 * 3 * 521])
def test_no_other_radices_of_equal_length_have_fewer_parameters(width):
    found = dense_members(width, budget=pairs(width))
    for radices in splits(width):
        if max(radices) <= 256 or (len(radices) > 1 and radices[-1] == 521):
            parameters = width * sum(r - 1 for r in radices) // 2
            assert any(m.depth <= len(radices) and m.parameters <= parameters for m in found)


@given(st.integers(2, 400), st.integers(2, 30))
def test_factorizations_minimise_the_sum_for_their_length(number, largest):
    found = {len(factors): factors for factors in least_factorizations(number, largest)}
    allowed = [
        factors
        for factors in splits(number)
        if all(f <= largest or all(f % k for k in range(2, f)) for f in factors)
    ]
    sums = {k: min(sum(f) for f in allowed if len(f) == k) for k in {*map(len, allowed)}}
    assert {k: sum(factors) for k, factors in found.items()} == sums
    assert all(math.prod(factors) == number for factors in found.values())


def test_the_best_radices_of_model_widths_are_listed():
    assert "mixed_radix(radices=(8, 8, 12))" in map(str, sm.dense_networks(768, budget=10_000))
    assert "mixed_radix(radices=(8, 8, 8, 10))" in map(str, sm.dense_networks(5120, budget=80_000))


@pytest.mark.parametrize("width", [97, 384, 11008])
def test_no_block_of_deal_has_fewer_parameters_in_as_many_stages(width):
    found = [m for m in dense_members(width) if m.depth > 1]
    for k in range(2, 7):
        block = next(b for b in range(2, width) if b**k >= width)
        for size in (block, block + 1):
            promised = sm.parse(f"deal(block={size})").claims(width)
            within = [m.parameters for m in found if m.depth <= promised.depth]
            assert min(within) <= promised.parameters


def test_options_with_a_default_are_tried_where_they_have_choices():
    found = [*map(str, sm.dense_networks(125))]
    assert any(spec.startswith("de_bruijn(symbols=3") for spec in found)
    assert any(spec.startswith("circulant(offsets=(1, 5, 25)") for spec in found)

    @sm.family("any", choices={"twist": lambda _: [1, 2]})
    def twisted(width: int, twist: int = 1) -> sm.Network:
        """Repeat a switch of all wires."""
        return sm.Network.of(width, [[range(width)]] * (twist + 1))

    try:
        found = [str(rule) for rule in sm.dense_networks(4, budget=18) if rule.name == "twisted"]
    finally:
        unregister("twisted")
    assert found == ["twisted", "twisted(twist=2)"]


@given(st.integers(3, 40))
def test_a_default_beyond_the_dense_depth_is_shortened(width):
    depths = [m.depth for m in dense_members(width) if m.family.name == "brickwall"]
    assert min(depths) == width - 1 + width % 2
    assert not sm.is_dense(sm.brickwall(width, min(depths) - 1))


@pytest.mark.parametrize("width", [2, 12, 97, 257, 263])
def test_one_switch_of_all_wires_is_listed_once(width):
    found = [member for member in dense_members(width) if member.depth == 1]
    assert len(found) == 1
    assert found[0].family.name == ("block_diagonal" if width < 257 else "mixed_radix")


def test_wide_networks_are_listed_from_declared_properties_without_building(monkeypatch):
    def built(*_):
        raise AssertionError("built")

    width = 151_936  # of a vocabulary
    monkeypatch.setattr(sm.Family, "__call__", built)
    names = {member.family.name for member in dense_members(width)}
    assert {"gossip", "deal", "mixed_radix"} <= names
    assert "random" not in names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1,), "width=1: width must be an integer ≥ 2"),
        ((2.5,), r"width=2\.5"),
        ((True,), "width=True"),
        ((8, -1), "budget=-1: budget must be an integer ≥ 0"),
        ((8, 1e6), r"budget=1000000\.0"),
    ],
)
def test_invalid_widths_and_budgets_are_refused(arguments, message):
    with pytest.raises(StructmatError, match=message):
        sm.dense_networks(*arguments)
