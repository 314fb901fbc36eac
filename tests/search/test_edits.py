"""Edits return straight networks of the same width, can be undone, and connect all networks."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError, WiringError
from structmat.search.edits import (
    Edit,
    add_stage,
    drop_stage,
    edited,
    exchange_stages,
    join_switches,
    move_wire,
    random_edit,
    random_network,
    random_partition,
    split_switch,
    swap_wires,
)
from structmat.testing import networks, seeds

straight = networks(max_width=8, wired=False).filter(lambda net: net.width > 1)


def switches(stage):
    """Return the switches of more than one wire."""
    rows = [row for bank in stage.banks for row in bank.reads.tolist()]
    return {frozenset(row) for row in rows if len(row) > 1}


def partition(net):
    return tuple(map(frozenset, map(switches, net)))


def switch_of(net, stage, wire):
    return next((s for s in switches(net[stage]) if wire in s), frozenset([wire]))


@given(straight, seeds(), st.integers(2, 5))
def test_a_random_edit_gives_another_valid_network_and_can_be_undone(net, seed, largest):
    edit = random_edit(net, seed, largest=largest)
    after = edited(net, edit)
    assert after.is_straight
    assert after.width == net.width
    assert partition(after) != partition(net)
    assert abs(after.depth - net.depth) <= 1
    most = max([largest, *(bank.radix for bank in net.banks)])
    assert all(bank.radix <= most for bank in after.banks)
    assert edited(after, edit.inverse) == net
    assert edit.inverse.inverse == edit
    assert edit == random_edit(net, seed, largest=largest)


@given(straight, seeds())
def test_radices_stay_within_the_limit_over_many_edits(net, seed):
    rng = np.random.default_rng(seed)
    most = max([3, *(bank.radix for bank in net.banks)])
    for _ in range(10):
        net = edited(net, random_edit(net, rng, largest=3, deepest=4))
        assert all(bank.radix <= most for bank in net.banks)


@given(straight.filter(lambda net: net.depth), st.data())
def test_each_edit_makes_the_change_that_its_name_promises(net, data):
    stage = data.draw(st.integers(0, net.depth - 1))
    one, two = data.draw(st.permutations(range(net.width)))[:2]
    first, second = switch_of(net, stage, one), switch_of(net, stage, two)
    rest = switches(net[stage]) - {first, second}

    def changed(edit):
        after = edited(net, edit)
        assert after[:stage] == net[:stage]
        assert after[stage + 1 :] == net[stage + 1 :]
        return switches(after[stage])

    def real(*parts):
        return rest | {frozenset(part) for part in parts if len(part) > 1}

    same = first == second
    swapped = real(first - {one} | {two}, second - {two} | {one})
    assert changed(swap_wires(net, stage, one, two)) == (real(first) if same else swapped)
    twice = edited(net, swap_wires(net, stage, one, two))
    assert partition(edited(twice, swap_wires(twice, stage, one, two))) == partition(net)
    moved = real(first) if same else real(first - {one}, second | {one})
    assert changed(move_wire(net, stage, one, two)) == moved
    assert changed(move_wire(net, stage, one)) == real(first - {one}, second - {one})
    assert changed(join_switches(net, stage, one, two)) == real(first | second)
    if len(first) > 1:
        part = data.draw(st.permutations(sorted(first)))
        part = part[: data.draw(st.integers(1, len(first) - 1))]
        kept = () if same else second
        assert changed(split_switch(net, stage, part)) == real(part, first - set(part), kept)
    assert edited(net, drop_stage(net, stage)) == net[:stage].then(net[stage + 1 :])
    other = data.draw(st.integers(0, net.depth - 1))
    order = list(net.stages)
    order[stage], order[other] = order[other], order[stage]
    assert edited(net, exchange_stages(net, stage, other)).stages == tuple(order)
    added = edited(net, add_stage(net, stage, net[other]))
    assert added.stages == (*net[:stage].stages, net[other], *net[stage:].stages)


def matchings(width):
    """Return all sets of disjoint pairs of wires."""
    pairs = [frozenset(pair) for pair in itertools.combinations(range(width), 2)]
    sets = itertools.chain.from_iterable(
        itertools.combinations(pairs, k) for k in range(width // 2 + 1)
    )
    return [frozenset(s) for s in sets if len(set().union(*s)) == 2 * len(s)]


def test_random_edits_lead_from_every_network_of_pairs_to_every_other():
    stages = matchings(4)
    every = [found for depth in range(3) for found in itertools.product(stages, repeat=depth)]
    assert len(every) == 1 + 10 + 100
    graph = nx.DiGraph()
    rng = np.random.default_rng(0)
    for found in every:
        net = sm.Network.of(4, [[sorted(pair) for pair in stage] for stage in found])
        for _ in range(12):  # only some of the edits: more of them connect the networks better
            after = edited(net, random_edit(net, rng, largest=2, deepest=2))
            graph.add_edge(found, partition(after))
    assert set(graph) == set(every)
    assert nx.is_strongly_connected(graph)


@given(st.integers(1, 20), st.integers(2, 25), seeds())
def test_a_random_partition_has_blocks_and_one_remainder(width, block, seed):
    stage = random_partition(width, block, seed)
    sizes = sorted(bank.radix for bank in stage.banks for _ in range(bank.count))
    rest = width % block
    assert sizes == [rest] * (rest > 1) + [block] * (width // block)
    assert len(stage.idle) == (rest == 1)
    assert stage == random_partition(width, block, seed)


@given(st.integers(2, 12), st.integers(0, 5), st.integers(2, 4), seeds(), st.data())
def test_a_random_network_has_the_stages_and_switches_asked_for(width, depth, block, seed, data):
    net = random_network(width, seed, depth=depth, block=block)
    assert (net.width, net.depth, net.is_straight) == (width, depth, True)
    most = depth * (width // block)
    count = data.draw(st.integers(0, most))
    net = random_network(width, seed, depth=depth, block=block, switches=count)
    assert net.depth == depth
    assert [bank.radix for bank in net.banks for _ in range(bank.count)] == [block] * count
    with pytest.raises(StructmatError, match=f"have room for {most} switches"):
        random_network(width, seed, depth=depth, block=block, switches=most + 1)


CROSSED = sm.Network(2, [sm.Stage(2, moves=[[0, 1], [1, 0]])])
NET = sm.Network.of(4, [[[0, 1], [2, 3]], [[0, 1, 2]]])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda: swap_wires(NET, 2, 0, 1), r"^stage 2: the network has 2 stages$"),
        (lambda: swap_wires(NET, 0, 0, 4), r"^wire 4: the network has wires 0 to 3$"),
        (lambda: swap_wires(NET, 0, 1, 1), r"^wire 1 is given twice: give different wires$"),
        (lambda: move_wire(NET, -1, 0), r"^stage=-1: stage must be an integer ≥ 0$"),
        (lambda: move_wire(NET, 0, 1.5), r"^wire=1.5: wire must be an integer ≥ 0$"),
        (lambda: split_switch(NET, 0, (0, 1)), "give some, but not all, wires of one switch$"),
        (lambda: split_switch(NET, 0, (0, 2)), "give some, but not all, wires of one switch$"),
        (lambda: split_switch(NET, 0, ()), "give some, but not all, wires of one switch$"),
        (lambda: add_stage(NET, 3, NET[0]), r"^stage 3: the network has 2 stages$"),
        (lambda: add_stage(NET, 0, sm.Stage(5)), "it must be a straight stage of width 4$"),
        (lambda: drop_stage(NET[:0], 0), r"^stage 0: the network has 0 stages$"),
        (lambda: exchange_stages(NET, 0, 2), r"^stage 2: the network has 2 stages$"),
        (lambda: edited(NET, drop_stage(NET[1:], 0)), "does not have the stages"),
        (lambda: random_edit(NET[:0], deepest=0), "there is no edit with deepest=0"),
        (lambda: random_edit(sm.Network(1)), "a network needs at least 2 wires"),
        (lambda: random_edit(NET, largest=1), r"^largest=1: largest must be an integer ≥ 2$"),
        (lambda: random_edit(CROSSED), "edits apply to straight networks"),
        (lambda: random_edit("butterfly"), "an edit of 'butterfly': it takes a network"),
        (lambda: random_network(4, depth=1, block=5, switches=1), "room for 0 switches"),
    ],
)
def test_invalid_edits_are_rejected(edit, message):
    with pytest.raises(StructmatError, match=message):
        edit()


def test_an_edit_and_its_errors_describe_the_change():
    edit = move_wire(NET, 1, 3, 0)
    assert str(edit) == "move wire 3 of stage 1 to the switch of wire 0"
    assert str(edit.inverse) == f"undo: {edit}"
    assert isinstance(edit, Edit)
    with pytest.raises(WiringError, match=r"^move wire 3 of stage 1 .* make the edit from the"):
        edited(edited(NET, edit), edit)
