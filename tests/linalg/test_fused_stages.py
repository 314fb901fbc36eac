"""Fused stages are unions of the stages they replace, and no coarser than they may be."""

import networkx as nx
import numpy as np
from hypothesis import given

import structmat as sm
from structmat.linalg import factors as stagewise
from structmat.linalg.fused_stages import LARGEST, fused, unions
from structmat.nn.ops.cost_model import candidates
from structmat.testing import networks


def joined(group):
    """Return the components of a group of stages of at least two wires, by networkx."""
    graph = nx.Graph()
    for bank in group.banks:
        for wires in bank.reads.tolist():
            nx.add_path(graph, wires)
    return {frozenset(part) for part in nx.connected_components(graph)}


def fused_most(net):
    """Return the network with stages fused into the longest runs."""
    ends, found = [], unions(net)
    while not ends or ends[-1] < net.depth:
        first = ends[-1] if ends else 0
        ends.append(max(end for start, end in found if start == first))
    return fused(net, tuple(ends))


@given(networks(max_width=20, max_depth=6, screens=True))
def test_a_fused_switch_is_a_component_of_its_stages(net):
    if net.depth == 0:
        return
    found = fused_most(net)
    straight = net.straightened()
    assert sum((run.stages for run in found.runs), ()) == straight.network.stages
    for stage, run in zip(found.network.stages, found.runs, strict=False):
        switches = {frozenset(wires) for bank in stage.banks for wires in bank.reads.tolist()}
        assert switches == joined(run)
        assert stage == run.stages[0] or run.depth > 1
    rest = found.network.stages[len(found.runs) :]
    moved = stagewise.matrix_of(sm.Network(net.width, rest), [])
    assert np.array_equal(moved, np.eye(net.width)[straight.outputs])


@given(networks(max_width=20, max_depth=6, screens=True))
def test_fusing_preserves_density(net):
    for candidate in candidates(net, 10_000):
        assert sm.reach(fused(net, candidate.ends).network)[sm.reach(net)].all()


@given(networks(max_width=20, max_depth=6, screens=True))
def test_a_single_stage_is_unchanged(net):
    for stage in net.straightened().network.stages:
        found = fused(sm.Network(net.width, [stage]), (1,))
        assert found.network.stages == (stage,)
        assert found.runs[0].stages == (stage,)


def test_fused_switches_respect_the_size_limit():
    for spec in ("butterfly(block=2)", "benes", "mixed_radix", "shuffle(block=4)"):
        net = sm.parse(spec)(1024)
        found = fused_most(net)
        assert max(bank.radix for bank in found.network.banks) <= LARGEST
        assert found.network.depth < net.depth


def test_large_and_random_stages_are_not_fused():
    for net in (
        sm.shuffle(4096, block=64),
        sm.random(4096, block=16, depth=4, rng=0),
        sm.from_graph(nx.path_graph(512), repeat=8),
    ):
        assert set(unions(net)) == {(k, k + 1) for k in range(net.depth)}
