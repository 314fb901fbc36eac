"""Schedules of topologies."""

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.adapters import butterfly_rounds, pair_rounds, random_rounds, stage_rounds
from structmat.adapters.remerging.topology_rounds import checked_schedule
from structmat.errors import StructmatError, WidthError
from structmat.families.pair_covers import least_rounds, pair_cover


def met(nets):
    """Return the graph of the pairs of wires that share a switch in some network."""
    graph = nx.empty_graph(nets[0].width)
    for net in nets:
        for bank in net.banks:
            for wires in bank.reads.tolist():
                graph.add_edges_from(nx.complete_graph(wires).edges)
    return graph


@given(st.integers(4, 40), st.integers(2, 8), st.integers(1, 3))
def test_all_pairs_of_wires_meet_in_planned_rounds(width, block, depth):
    block = min(block, width)
    schedule = pair_rounds(block, depth)
    rounds = -(-pair_cover(width, block).depth // depth)
    nets = [schedule(number)(width) for number in range(rounds)]
    assert nx.density(met(nets)) == 1
    assert rounds * depth >= least_rounds(width, block)
    assert all(net.depth == depth for net in nets)


def test_planned_rounds_cover_all_pairs_and_as_many_random_rounds_do_not():
    schedule = random_rounds(16, seed=1)
    nets = [sm.network(schedule(number), 128) for number in range(9)]
    assert nx.density(met(nets)) < 0.75  # 1 − (1 − 15/127)⁹ = 0.68 on average
    assert nx.density(met([pair_rounds(16)(number)(128) for number in range(9)])) == 1


def test_random_rounds_depend_on_the_seed_and_the_round_only():
    one, same, other = random_rounds(4, seed=3), random_rounds(4, seed=3), random_rounds(4, seed=4)
    assert [one(n) for n in range(5)] == [same(n) for n in range(5)]
    assert len({one(n) for n in range(5)} | {other(n) for n in range(5)}) == 10


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 20))
def test_stages_are_taken_cyclically(depth, shift, number):
    whole = sm.ruler(16)
    net = stage_rounds("ruler", depth, shift=shift)(number)(16)
    expected = [(number * shift + k) % whole.depth for k in range(depth)]
    assert list(net.stages) == [whole.stages[t] for t in expected]


def test_shifted_butterflies_have_all_stages_that_the_width_permits():
    schedule = butterfly_rounds(4)
    stages = [schedule(number)(96).stages[0] for number in range(8)]
    assert stages[:4] == list(sm.butterfly(96, block=4, depth=4).stages)
    assert stages[4:] == stages[:4]
    with pytest.raises(WidthError, match="width must be a multiple of 4"):
        schedule(0)(90)


def test_lists_are_repeated_and_other_values_refused():
    assert [checked_schedule(["a", "b"])(n) for n in range(3)] == ["a", "b", "a"]
    assert checked_schedule(None)(5) is None
    for wrong in ("monarch", [], 3, sm.benes(8), sm.parse("monarch")):
        with pytest.raises(StructmatError, match=r"schedule=.*: it must be a list of topologies"):
            checked_schedule(wrong)
