"""Every realisable permutation is routed to blocks; the others are reported."""

import itertools
import math
import re
from functools import cache

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import RoutingError, StructmatError, UndecidedError, WiringError
from structmat.linalg import factors as stagewise
from structmat.linalg.blocks import adjoint_blocks
from structmat.routing import backtracking
from structmat.routing.clos_levels import plan_of
from structmat.routing.unique_paths import Listed, Nested
from structmat.testing import networks


def assert_routes(net, p):
    """Check blocks that are permutation matrices and multiply to exactly that permutation."""
    blocks = sm.route(net, p)
    for block, bank in zip(blocks, net.banks, strict=True):
        assert block.shape == (bank.count, bank.radix, bank.radix)
        assert block.dtype == float
        assert ((block == 0) | (block == 1)).all()
        assert (block.sum(axis=1) == 1).all()
        assert (block.sum(axis=2) == 1).all()
    assert np.array_equal(sm.Rotation(net, blocks)(np.arange(net.width)), p)
    if net.width <= 64:
        assert np.array_equal(stagewise.matrix_of(net, blocks), np.eye(net.width)[list(p)])


def realisable(net):
    """Return every realisable permutation in gather form, by trying all settings."""
    made = {tuple(range(net.width))}
    for stage in net.stages:
        settings_ = []
        switches = [
            (reads, writes)
            for bank in stage.banks
            for reads, writes in zip(bank.reads.tolist(), bank.writes.tolist(), strict=True)
        ]
        for orders in itertools.product(*(itertools.permutations(r) for r, _ in switches)):
            gather = list(range(net.width))
            for start, end in zip(*(side.tolist() for side in stage.passing), strict=True):
                gather[end] = start
            for order, (_, writes) in zip(orders, switches, strict=True):
                for start, end in zip(order, writes, strict=True):
                    gather[end] = start
            settings_.append(gather)
        made = {tuple(before[k] for k in gather) for before in made for gather in settings_}
    return made


# Networks that route everything ---------------------------------------------------------------

SMALL = [
    *(sm.families.waksman(n) for n in range(2, 7)),
    sm.benes(2),
    sm.benes(4),
    sm.families.clos(4),
    sm.families.clos(6, (2, 3)),
    sm.families.clos(6, (3, 2)),
    sm.families.clos(5, (5,)),
]


@pytest.mark.parametrize("net", SMALL, ids=repr)
def test_every_permutation_is_routed(net):
    for p in itertools.permutations(range(net.width)):
        assert_routes(net, p)


@given(st.integers(2, 200).flatmap(lambda n: st.permutations(range(n))))
def test_waksman_routes_every_permutation_at_any_width(p):
    assert_routes(sm.families.waksman(len(p)), p)


@given(st.integers(1, 7).flatmap(lambda n: st.permutations(range(2**n))))
def test_benes_routes_every_permutation(p):
    assert_routes(sm.benes(len(p)), p)


radices_and_permutations = (
    st.lists(st.integers(2, 9), min_size=1, max_size=4)
    .filter(lambda radices: math.prod(radices) <= 200)
    .flatmap(lambda r: st.tuples(st.just(r), st.permutations(range(math.prod(r)))))
)


@given(radices_and_permutations)
def test_clos_of_any_radices_routes_every_permutation(case):
    radices, p = case
    assert_routes(sm.families.clos(len(p), radices), p)


@given(radices_and_permutations, st.randoms(use_true_random=False), st.integers(1, 3))
@settings(max_examples=50)
def test_the_structure_is_recognised_under_relabelling(case, random, bundle):
    """Relabelled, straightened, read from JSON, dilated, or two in sequence."""
    radices, p = case
    width = len(p)
    places = random.sample(range(width), width)
    net = sm.families.clos(width, radices).relabel(places)
    assert_routes(net, p)
    assert_routes(sm.Network.from_json(net.straightened().network.to_json()), p)
    half = sm.mixed_radix(width, radices)
    assert_routes(half.then(half.inverse()), p)
    if width * bundle <= 100:
        assert_routes(net.dilate(bundle), random.sample(range(width * bundle), width * bundle))


@given(st.data())
def test_a_direct_sum_is_routed(data):
    widths = data.draw(st.lists(st.integers(2, 12), min_size=1, max_size=4))
    net, p = None, []
    for width in widths:
        part = sm.families.waksman(width)
        p += [len(p) + k for k in data.draw(st.permutations(range(width)))]
        net = part if net is None else net.direct_sum(part)
    assert_routes(net, p)


@pytest.mark.slow
@pytest.mark.parametrize(
    "net", [sm.benes(64), sm.families.waksman(64), sm.families.clos(64, (8, 8))], ids=repr
)
def test_five_hundred_random_permutations_are_routed(net):
    source = np.random.default_rng(0)
    for _ in range(500):
        p = source.permutation(64)
        assert np.array_equal(sm.Rotation(net, sm.route(net, p))(np.arange(64)), p)


@pytest.mark.parametrize(
    "net",
    [
        sm.benes(4096),
        sm.families.waksman(4096),
        sm.families.waksman(4095),
        sm.families.clos(4096),
        sm.families.clos(4095, (63, 65)),
    ],
    ids=repr,
)
def test_wide_networks_route_random_permutations(net):
    assert_routes(net, np.random.default_rng(0).permutation(net.width))


# Sorting networks -----------------------------------------------------------------------------


def brick_wall(width):
    return sm.Network.of(
        width, [[[i, i + 1] for i in range(t % 2, width - 1, 2)] for t in range(width)]
    )


def bubbles(width):
    """Return the triangle of a bubble sort, one switch a stage."""
    return sm.Network.of(
        width, [[[i, i + 1]] for last in range(width - 1, 0, -1) for i in range(last)]
    )


@given(st.sampled_from([brick_wall, bubbles]), st.integers(2, 30), st.data())
def test_sorting_networks_route_every_permutation(make, width, data):
    p = data.draw(st.permutations(range(width)))
    places = data.draw(st.permutations(range(width)))
    assert_routes(make(width), p)
    straight = make(width)
    wired = sm.Network(width, [sm.Stage(width, [], list(enumerate(places)))]).then(straight)
    assert_routes(wired, p)


# Any network ----------------------------------------------------------------------------------


@given(networks(max_width=4, max_depth=4))
def test_small_networks_are_decided_for_every_permutation(net):
    """Exactly the realisable permutations are routed; the others are proved blocked."""
    made = realisable(net)
    for p in itertools.permutations(range(net.width)):
        if p in made:
            assert_routes(net, p)
        else:
            with pytest.raises(RoutingError, match="blocks this permutation"):
                sm.route(net, p)


@given(networks(max_width=6, max_depth=5), st.data())
@settings(max_examples=50)
def test_somewhat_larger_networks_are_decided(net, data):
    made = realisable(net)
    assert_routes(net, data.draw(st.sampled_from(sorted(made))))
    p = tuple(data.draw(st.permutations(range(net.width))))
    if p not in made:
        with pytest.raises(RoutingError, match="blocks this permutation"):
            sm.route(net, p)


@given(st.integers(4, 6), st.integers(3, 5), st.integers(2, 3), st.integers(0, 10**6), st.data())
def test_random_partitions_are_decided(width, depth, block, seed, data):
    """Many paths, and still most permutations blocked: this takes a search and its proof."""
    net = sm.random(width, block, depth, rng=seed)
    made = realisable(net)
    for p in (data.draw(st.permutations(range(width))) for _ in range(3)):
        if tuple(p) in made:
            assert_routes(net, p)
        else:
            with pytest.raises(RoutingError, match="blocks this permutation"):
                sm.route(net, p)


@given(networks(max_width=5), st.data())
def test_the_transposed_blocks_route_the_inverse(net, data):
    p = data.draw(st.sampled_from(sorted(realisable(net))))
    back = adjoint_blocks(net, sm.route(net, p))
    assert np.array_equal(
        stagewise.matrix_of(net.inverse(), back), np.eye(net.width)[np.argsort(p)]
    )


# Blocked permutations -------------------------------------------------------------------------


def path(net, start, end):
    """Return the nodes (column, wire) of the one path from an input to an output."""
    (found,) = nx.all_simple_paths(net.to_networkx(), (0, start), (net.depth, end))
    return found


UNIQUE = [
    sm.butterfly(8),
    sm.families.omega(8),
    sm.families.baseline(8),
    sm.families.omega(9, 3),
    sm.mixed_radix(12),
    sm.monarch(6),
    sm.families.omega(8).relabel([3, 1, 4, 0, 5, 7, 2, 6]),
]


@given(st.sampled_from(UNIQUE), st.data())
def test_the_reported_conflict_is_real(net, data):
    p = data.draw(st.permutations(range(net.width)))
    paths = [path(net, source, end) for end, source in enumerate(p)]
    free = all(len(set(column)) == net.width for column in zip(*paths, strict=True))
    if free:
        assert_routes(net, p)
        return
    with pytest.raises(RoutingError, match=r"inputs .* both need wire .* after") as caught:
        sm.route(net, p)
    one, other, wire, stage = map(
        int,
        re.search(
            r"inputs (\d+) and (\d+) both need wire (\d+) after stage (\d+)", str(caught.value)
        ).groups(),
    )
    assert one != other
    for source in (one, other):
        assert (stage, wire) in paths[p.index(source)]


@cache
def butterfly_permutations():
    return realisable(sm.butterfly(8))


def test_the_butterfly_routes_as_many_permutations_as_it_has_settings():
    """Paths are unique, so different settings of the 12 switches are different permutations."""
    assert len(butterfly_permutations()) == 2**12
    for p in sorted(butterfly_permutations())[::7]:
        assert_routes(sm.butterfly(8), p)


@given(st.permutations(range(8)))
def test_the_butterfly_blocks_all_other_permutations(p):
    if tuple(p) not in butterfly_permutations():
        with pytest.raises(RoutingError, match="both need wire"):
            sm.route(sm.butterfly(8), p)


def test_wide_networks_with_one_path_are_decided():
    net = sm.families.omega(1024)
    shift = np.roll(np.arange(1024), 5)  # omega routes every cyclic shift (Lawrie)
    assert_routes(net, shift)
    with pytest.raises(RoutingError, match="both need wire"):
        sm.route(net, np.random.default_rng(0).permutation(1024))


@pytest.mark.parametrize("net", [sm.families.omega(16384), sm.butterfly(16384)], ids=repr)
def test_unique_paths_are_followed_at_any_width(net):
    assert_routes(net, np.roll(np.arange(net.width), 5))  # each routes every cyclic shift
    with pytest.raises(RoutingError, match="both need wire"):
        sm.route(net, np.random.default_rng(0).permutation(net.width))


def test_unique_paths_are_followed_if_reach_is_not_nested(monkeypatch):
    """A staircase: the reachable outputs of two wires overlap and are listed in chunks."""
    net = sm.Network.of(200, [[[i, i + 1]] for i in range(199)])
    monkeypatch.setattr(backtracking, "_MOST_BYTES", 1)
    assert Nested.of(plan_of(net)) is None
    assert_routes(net, np.roll(np.arange(200), -1))
    with pytest.raises(RoutingError, match="input 199 does not reach output 0"):
        sm.route(net, np.roll(np.arange(200), 1))


def assert_nested(net):
    """Check that the nested sets agree with an explicit list."""
    plan = plan_of(net)
    nested, listed = Nested.of(plan), Listed.of(plan, 0, net.width)
    every = np.arange(net.width)
    for t in range(net.depth + 1):
        assert np.array_equal(
            nested.leads(t, every[:, None], every), listed.leads(t, every[:, None], every)
        )


@given(st.sampled_from(["omega", "butterfly", "monarch", "baseline"]), st.data())
def test_nested_reach_agrees_with_reach(family, data):
    net = sm.parse(family)(data.draw(st.sampled_from([4, 8, 16])))
    net = net.relabel(data.draw(st.permutations(range(net.width))))
    assert_nested(net[: data.draw(st.integers(0, net.depth))])


@given(networks())
def test_nested_reach_implies_unique_paths(net):
    if Nested.of(plan_of(net)) is not None:
        assert sm.path_counts(net).max() == 1
        assert_nested(net)


def test_an_unreachable_output_is_reported():
    pairs = sm.block_diagonal(4, 2)
    with pytest.raises(RoutingError, match=r"input 0 does not reach output 2; waksman\(4\)"):
        sm.route(pairs, [1, 2, 0, 3])
    with pytest.raises(RoutingError, match="input 0 does not reach output 1"):
        sm.route(sm.Network(2), [1, 0])
    assert sm.route(sm.Network(3), [0, 1, 2]) == []


@given(st.permutations(range(8)))
def test_five_shuffles_and_switches_route_eight_wires(p):
    """Rearrangeable by a theorem (Linial and Tarsi, 1989), but without a recognised structure."""
    net = sm.families.omega(8).repeat(2)[:5]
    assert_routes(net, p)
    assert_routes(net.direct_sum(sm.Network(1)), [*p, 8])


@given(st.permutations(range(60)))
@settings(max_examples=10)
def test_wide_switches_are_searched(p):
    assert_routes(sm.random(60, block=20, depth=5, rng=0), p)


def test_a_search_terminates_at_its_limit(monkeypatch):
    net = sm.random(40, block=2, depth=8, rng=0)
    p = np.random.default_rng(1).permutation(40)
    with pytest.raises(
        UndecidedError, match=r"undecided whether it blocks .* a search of 1000000 steps"
    ):
        sm.route(net, p)
    monkeypatch.setattr(backtracking, "_MOST_BYTES", 100)
    wide = net.direct_sum(net)
    with pytest.raises(
        UndecidedError, match=r"undecided .* too large to search; waksman\(80\) routes"
    ):
        sm.route(wide, [*p, *p + 40])


# Rotations ------------------------------------------------------------------------------------


def sign(p):
    return -1 if sum(a > b for a, b in itertools.combinations(p, 2)) % 2 else 1


def assert_rotates(net, p):
    """Check rotations that equal the permutation except for one sign per odd component."""
    blocks = sm.route(net, p, special=True)
    for block in blocks:
        assert np.isin(block, (-1, 0, 1)).all()
        assert np.array_equal(np.abs(block).sum(axis=1), np.ones(block.shape[:2]))
        assert np.array_equal(np.abs(block).sum(axis=2), np.ones(block.shape[:2]))
        assert np.allclose(np.linalg.det(block), 1)
    r = stagewise.matrix_of(net, blocks)
    assert np.array_equal(np.abs(r), np.eye(net.width)[list(p)])
    straight, _, outputs = net.straightened()
    carried = dict(zip(outputs.tolist(), p, strict=True))  # the input that each wire ends with
    graph = nx.Graph()
    graph.add_nodes_from(range(net.width))
    for bank in straight.banks:
        for row in bank.reads.tolist():
            nx.add_path(graph, row)
    odd = [
        part
        for part in nx.connected_components(graph)
        if sign([carried[wire] for wire in sorted(part)]) < 0
    ]
    negative = [max(i for i in range(net.width) if outputs[i] in part) for part in odd]
    assert sorted(negative) == np.flatnonzero(r.sum(axis=1) < 0).tolist()


@given(st.integers(2, 40).flatmap(lambda n: st.permutations(range(n))))
def test_rotations_on_waksman_equal_the_permutation_up_to_signs(p):
    assert_rotates(sm.families.waksman(len(p)), p)
    r = stagewise.matrix_of(
        sm.families.waksman(len(p)), sm.route(sm.families.waksman(len(p)), p, special=True)
    )
    if sign(p) > 0:
        assert np.array_equal(r, np.eye(len(p))[p])
    else:
        assert np.flatnonzero(r.sum(axis=1) < 0).tolist() == [len(p) - 1]


@given(radices_and_permutations)
@settings(max_examples=50)
def test_rotations_on_clos_equal_the_permutation_up_to_signs(case):
    radices, p = case
    assert_rotates(sm.families.clos(len(p), radices), p)


@given(networks(max_width=5, max_depth=4), st.data())
def test_rotations_on_any_network_equal_the_permutation_up_to_signs(net, data):
    assert_rotates(net, data.draw(st.sampled_from(sorted(realisable(net)))))


# Invalid input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([0, 1, 2], "permutation of shape .3,.: it must name each of the 4 wires once"),
        ([0, 1, 2, 2], "must name each of the 4 wires once"),
        ([0, 1, 2, 4], "must name each of the 4 wires once"),
        ([0, 1, 2, -1], "must name each of the 4 wires once"),
        ([[0, 1], [2, 3]], "must name each of the 4 wires once"),
        ([0.0, 1.0, 2.0, 3.0], "wires must be integers, not float64"),
        ([True, False, True, False], "wires must be integers, not bool"),
        ("0123", "wires must be integers"),
    ],
)
def test_invalid_permutations_are_rejected(p, message):
    with pytest.raises(WiringError, match=message):
        sm.route(sm.benes(4), p)


def test_only_networks_are_routed():
    with pytest.raises(StructmatError, match="route of 'benes': it takes a network"):
        sm.route("benes", [0, 1, 2, 3])


def test_special_must_be_a_bool():
    with pytest.raises(StructmatError, match="special=1: special must be True or False"):
        sm.route(sm.benes(4), [0, 1, 2, 3], special=1)
