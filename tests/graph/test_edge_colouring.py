"""from_graph: undirected graphs become stages of 2×2 switches, within the stated bound."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import GraphError, StructmatError
from tests.graph.graph_strategies import bipartite_graphs, dense_graphs, graphs, switches


def largest_degree(graph: nx.Graph) -> int:
    return max(degree for _, degree in graph.degree)


def assert_coloured(net: sm.Network, graph: nx.Graph) -> None:
    """Assert that each edge of a graph on 0 … d−1 is one switch, and each stage a matching."""
    assert net.width == len(graph)
    assert net.is_straight
    found = switches(net)
    for stage in found:
        assert stage
        assert nx.is_matching(graph, set(stage))
    every = [edge for stage in found for edge in stage]
    assert sorted(every) == sorted(tuple(sorted(edge)) for edge in graph.edges)


@given(st.one_of(graphs(), dense_graphs()))
def test_each_edge_is_one_switch_and_the_depth_is_at_most_the_degree_plus_one(graph):
    net = sm.from_graph(graph)
    assert_coloured(net, graph)
    assert largest_degree(graph) <= net.depth <= largest_degree(graph) + 1


@given(bipartite_graphs())
def test_a_bipartite_graph_has_as_many_stages_as_its_largest_degree(graph):
    net = sm.from_graph(graph)
    assert_coloured(net, graph)
    assert net.depth == largest_degree(graph)


def colourable(graph: nx.Graph, colours: int) -> bool:
    """Return whether this number of colours suffices, by exhaustive search."""
    edges = sorted(graph.edges, key=lambda edge: -sum(graph.degree[node] for node in edge))
    chosen: list[int] = []

    def extends() -> bool:
        if len(chosen) == len(edges):
            return True
        edge = set(edges[len(chosen)])
        taken = {c for c, other in zip(chosen, edges, strict=False) if edge & set(other)}
        fresh = max(chosen, default=-1) + 1  # one new colour is as good as another
        for colour in set(range(min(colours, fresh + 1))) - taken:
            chosen.append(colour)
            if extends():
                return True
            chosen.pop()
        return False

    return extends()


def test_graphs_on_up_to_seven_nodes_get_the_minimum_depth():
    for graph in nx.graph_atlas_g()[1:]:
        net = sm.from_graph(graph)
        assert_coloured(net, graph)
        fewer = net.depth - 1
        assert fewer < largest_degree(graph) or not colourable(graph, fewer)


@pytest.mark.parametrize("sides", [(3, 4), (3, 5), (5, 6), (7, 12), (13, 15)])
def test_a_torus_with_an_odd_side_gets_four_stages_where_possible(sides):
    torus = nx.convert_node_labels_to_integers(nx.grid_2d_graph(*sides, periodic=True))
    net = sm.from_graph(torus)
    assert_coloured(net, torus)
    overfull = sides[0] * sides[1] % 2  # 2·d edges are too many for four matchings of (d − 1)/2
    assert net.depth == 4 + overfull


def test_a_regular_graph_of_4096_nodes_has_as_many_stages_as_its_degree():
    graph = nx.random_regular_graph(8, 4096, seed=0)
    net = sm.from_graph(graph)
    assert_coloured(net, graph)
    assert net.depth == 8


@pytest.mark.parametrize("seed", range(5))
def test_large_random_graphs_need_at_most_the_degree_plus_one_stages(seed):
    graph = nx.gnm_random_graph(60, 400 + 200 * seed, seed=seed)
    net = sm.from_graph(graph)
    assert_coloured(net, graph)
    assert net.depth <= largest_degree(graph) + 1


def test_overfull_graphs_need_one_stage_more():
    # More edges than Δ matchings can hold.
    for graph in (nx.cycle_graph(7), nx.circulant_graph(9, [1, 2]), nx.complete_graph(5)):
        assert sm.from_graph(graph).depth == largest_degree(graph) + 1


def test_the_petersen_graph_needs_four_stages():
    net = sm.from_graph(nx.kneser_graph(5, 2))
    assert (net.width, net.depth, net.parameters) == (10, 4, 15)


@pytest.mark.parametrize("dimensions", range(1, 8))
def test_a_hypercube_is_the_butterfly(dimensions):
    net = sm.from_graph(nx.hypercube_graph(dimensions))
    assert net == sm.butterfly(2**dimensions)


@pytest.mark.parametrize("width", [2, 5, 6, 9])
def test_a_path_is_a_brickwall(width):
    odd, even = [[[i, i + 1] for i in range(start, width - 1, 2)] for start in (0, 1)]
    bricks = [odd, even] if width > 2 else [odd]
    net = sm.from_graph(nx.path_graph(width), repeat=width)
    assert net == sm.Network.of(width, bricks * width)
    if width > 2:
        assert net == sm.brickwall(width, 2 * width)


@pytest.mark.parametrize("players", range(2, 16))
def test_a_complete_graph_is_a_round_robin_tournament(players):
    net = sm.from_graph(nx.complete_graph(players))
    assert_coloured(net, nx.complete_graph(players))
    assert net.depth == players - 1 + players % 2
    assert {len(stage) for stage in switches(net)} == {players // 2}  # everyone plays, or one rests
    assert net == sm.families.round_robin(players)


@pytest.mark.parametrize(("sides", "stages"), [((4, 6), 4), ((8, 8), 4), ((3, 5), 5)])
def test_a_torus_has_four_stages_or_five_if_both_sides_are_odd(sides, stages):
    torus = nx.grid_2d_graph(*sides, periodic=True)
    assert sm.from_graph(torus).depth == stages
    assert sm.is_dense(sm.from_graph(torus, repeat=sum(sides)))


@given(graphs(8), st.data())
def test_equal_graphs_give_equal_networks_in_any_build_order(graph, data):
    other = nx.Graph()
    other.add_nodes_from(data.draw(st.permutations(list(graph))))
    for a, b in data.draw(st.permutations(list(graph.edges))):
        other.add_edge(b, a, weight=data.draw(st.floats()))
    assert sm.from_graph(other) == sm.from_graph(graph)


def test_wires_follow_the_sorted_nodes():
    graph = nx.Graph([("d", "b"), ("a", "c")])
    assert switches(sm.from_graph(graph)) == [[(0, 2), (1, 3)]]


def test_labels_are_the_nodes_unless_these_are_the_wires():
    graph = nx.Graph([("d", "b"), ("a", "c")])
    assert sm.from_graph(graph, repeat=2).labels == tuple("abcd")
    assert sm.from_graph(nx.path_graph(3)).labels is None
    assert sm.from_graph(nx.grid_2d_graph(1, 2)).labels == ((0, 0), (0, 1))
    assert sm.from_graph(nx.Graph([(1, 2)])).labels == (1, 2)


@given(st.one_of(graphs(), dense_graphs()), st.sampled_from(["edges", "cliques"]), st.data())
def test_a_node_list_only_relabels_the_wires(graph, kind, data):
    graph = nx.relabel_nodes(graph, {i: chr(ord("a") + i) for i in graph})
    nodelist = data.draw(st.permutations(sorted(graph)))
    plain = sm.from_graph(graph, 2, kind)
    net = sm.from_graph(graph, 2, kind, nodelist=iter(nodelist))
    assert net.labels == tuple(nodelist)
    assert net.is_straight

    def named(one):
        return [{frozenset(one.labels[i] for i in switch) for switch in s} for s in switches(one)]

    assert named(net) == named(plain)  # stage by stage the same nodes meet
    assert sm.isomorphism(plain, net) is not None
    assert sm.from_graph(graph, 2, kind, nodelist=sorted(graph)) == plain


def test_a_node_list_may_be_an_array():
    path = nx.path_graph(3)
    net = sm.from_graph(path, nodelist=np.array([2, 0, 1]))
    assert net.labels == (2, 0, 1)
    assert {type(label) for label in net.labels} == {int}
    assert sm.from_graph(path, nodelist=range(3)).labels is None
    met = [switch for stage in switches(net) for switch in stage]
    adjacency = nx.to_numpy_array(path, nodelist=[2, 0, 1])  # whose order it is
    assert sorted(met) == [(i, j) for i, j in np.argwhere(adjacency).tolist() if i < j]


@pytest.mark.parametrize(
    ("nodelist", "message"),
    [
        (
            "ab",
            r"^nodelist: 'c' is missing \(2 of 4 nodes missing\); list every node of the graph",
        ),
        ("abcda", "^nodelist: 'a' is repeated; list every node"),
        (
            ["a", "b", "c", "e"],
            "^nodelist: 'e' is not a node of the graph; list .* omit nodelist",
        ),
        (["a", ["b"]], r"^nodelist: \['b'\] is not a node of the graph"),
        ([], r"^nodelist: 'a' is missing \(4 of 4"),
        (4, "^nodelist=4: list every node of the graph once"),
    ],
)
def test_invalid_node_lists_are_rejected(nodelist, message):
    with pytest.raises(GraphError, match=message):
        sm.from_graph(nx.Graph(["ab", "cd"]), nodelist=nodelist)


def test_isolated_nodes_are_idle_wires_and_no_edges_the_identity():
    graph = nx.Graph([(1, 3)])
    graph.add_node(2)
    assert sm.from_graph(graph)[0].idle.tolist() == [1]
    assert sm.from_graph(nx.empty_graph(3)) == sm.Network(3)
    assert sm.from_graph(nx.empty_graph(1), repeat=4) == sm.Network(1)


@given(graphs(6), st.integers(1, 4))
def test_repeat_repeats_the_stages(graph, times):
    assert sm.from_graph(graph, repeat=times) == sm.from_graph(graph).repeat(times)


def test_the_graph_is_not_modified():
    graph = nx.complete_bipartite_graph(3, 4)
    before = nx.to_dict_of_dicts(graph)
    sm.from_graph(graph)
    assert nx.to_dict_of_dicts(graph) == before


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (nx.DiGraph([(0, 1)]), r"a directed graph: .*to_undirected\(\)"),
        (nx.MultiGraph([(0, 1), (0, 1)]), "a multigraph: .*drops parallel edges"),
        (nx.Graph([(0, 1), ("b", "b")]), "node 'b' is joined to itself: .*remove"),
        (nx.Graph(), "a graph without nodes: .*add a node"),
        ([(0, 1)], r"type list: .*networkx.Graph\(edges\)"),
        (None, "type NoneType: .*undirected"),
    ],
    ids=["directed", "parallel", "loop", "empty", "list", "none"],
)
def test_invalid_graphs_are_rejected(graph, message):
    with pytest.raises(GraphError, match=message):
        sm.from_graph(graph)


@pytest.mark.parametrize("repeat", [0, -1, 1.5, True, "2", float("nan")])
def test_invalid_repeats_are_rejected(repeat):
    with pytest.raises(StructmatError, match="repeat must be an integer ≥ 1"):
        sm.from_graph(nx.path_graph(3), repeat=repeat)


@pytest.mark.parametrize("switches", ["stars", None, 2])
def test_invalid_switches_are_rejected(switches):
    with pytest.raises(GraphError, match='it must be "edges" or "cliques"'):
        sm.from_graph(nx.path_graph(3), switches=switches)
