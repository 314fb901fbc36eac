"""from_layers and completion: which layers are stages, and the errors for the others."""

import re
from itertools import combinations, pairwise, permutations, product

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import GraphError
from structmat.graph import completion
from structmat.testing import networks


def drawn(*patterns) -> nx.DiGraph:
    """Draw the grid graph of 0/1 matrices in order: entry (i, j) is an edge from j to i."""
    width = len(patterns[0])
    graph = nx.DiGraph()
    graph.add_nodes_from((t, i) for t in range(len(patterns) + 1) for i in range(width))
    for t, pattern in enumerate(patterns):
        graph.add_edges_from(((t, j), (t + 1, i)) for i, j in np.argwhere(pattern).tolist())
    return graph


def square(width):
    """Draw a 0/1 matrix of this width."""
    row = st.lists(st.booleans(), min_size=width, max_size=width)
    return st.lists(row, min_size=width, max_size=width).map(lambda rows: np.array(rows, bool))


def patterns(most=5):
    return st.integers(1, most).flatmap(square)


def refusal(graph: nx.DiGraph, incomplete: str = "error") -> str | None:
    try:
        sm.from_layers(graph, incomplete)
    except GraphError as error:
        return str(error)
    return None


def kind(message: str | None) -> str:
    """The reason that an error gives, of three."""
    if message is None:
        return "stage"
    (found,) = (word for word in ("between them", "at least two", "unknown") if word in message)
    return {"between them": "no matching", "at least two": "not quadrangular"}.get(found, found)


def named(message: str) -> list[set[int]]:
    """The sets of wires that an error names, in order."""
    found = re.findall(r"wires? ([\d, and]+) of column", message)
    return [{int(wire) for wire in re.findall(r"\d+", wires)} for wires in found]


def decided(pattern: np.ndarray) -> str:
    """Classify a pattern by the definitions alone."""
    width = len(pattern)
    if not any(pattern[range(width), list(p)].all() for p in permutations(range(width))):
        return "no matching"
    pairs = list(combinations(pattern, 2))
    if all((a == b).all() or not (a & b).any() for a, b in pairs):
        return "stage"
    columns = list(combinations(pattern.T, 2))
    if any((a & b).sum() == 1 for a, b in pairs + columns):
        return "not quadrangular"
    return "unknown"


def every_pattern(width: int):
    for bits in product([False, True], repeat=width * width):
        yield np.array(bits).reshape(width, width)


# Round trips ----------------------------------------------------------------------------------


@given(networks(), st.booleans())
def test_a_network_round_trips_through_its_grid_graph(net, bare):
    graph = net.to_networkx()
    if bare:
        graph.graph.clear()  # width and depth are inferred
    back = sm.from_layers(graph)
    assert set(back.to_networkx().edges) == set(graph.edges)
    assert [stage.nonzeros for stage in back] == [stage.nonzeros for stage in net]
    assert [stage.parameters for stage in back] == [stage.parameters for stage in net]
    assert np.array_equal(sm.reach(back), sm.reach(net))
    assert sm.from_layers(back.to_networkx()) == back
    assert completion(graph) == []
    assert sm.from_layers(graph, "complete") == back


def test_labels_round_trip_if_every_wire_has_one():
    net = sm.Network(3, sm.Network.of(3, [[[0, 1]]]).stages, labels=["a", ("b", 1), 0])
    graph = net.to_networkx()
    assert sm.from_layers(graph).labels == net.labels
    del graph.nodes[0, 1]["label"]
    assert sm.from_layers(graph).labels is None


@given(networks(wired=False))
def test_a_straight_network_stays_straight(net):
    assert sm.from_layers(net.to_networkx()).is_straight


@pytest.mark.parametrize(
    "net",
    [sm.butterfly(32), sm.monarch(24), sm.mixed_radix(30), sm.benes(16)],
    ids=["butterfly", "monarch", "mixed radix", "Benes"],
)
def test_networks_with_sorted_switches_round_trip_exactly(net):
    assert sm.from_layers(net.to_networkx()) == net


def test_numpy_labels_and_the_order_of_edges_do_not_matter():
    net = sm.butterfly(8)
    other = nx.DiGraph()
    for a, b in reversed(list(net.to_networkx().edges)):
        other.add_edge(tuple(map(np.int32, a)), tuple(map(np.int64, b)))
    assert sm.from_layers(other) == net


# Invalid layers -------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3])
def test_every_small_pattern_is_classified_by_the_definitions(width):
    for pattern in every_pattern(width):
        assert kind(refusal(drawn(pattern))) == decided(pattern), pattern


@given(patterns())
def test_patterns_are_classified_by_the_definitions(pattern):
    assert kind(refusal(drawn(pattern))) == decided(pattern)


def supports_of_rotations() -> set[bytes]:
    """The zero patterns of orthogonal 3×3 matrices, found numerically.

    Every rotation is G01(a) G12(b) G01(c). For some a and b, take each c at which an entry
    vanishes, and one at which none need to; then permute rows and columns.
    """

    def givens(k, angle):
        g = np.eye(3)
        g[k : k + 2, k : k + 2] = [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
        return g

    found = set()
    for a, b in product([0.0, np.pi / 2, 0.3, 1.1], repeat=2):
        left = givens(0, a) @ givens(1, b)
        vanishing = [np.arctan2(row[i], row[1 - i]) for row in left for i in (0, 1)]
        for c in [*vanishing, *(-angle for angle in vanishing), 0.0, 0.7]:
            support = np.abs(left @ givens(0, c)) > 1e-12
            for p, q in product(permutations(range(3)), repeat=2):
                found.add(support[np.ix_(p, q)].tobytes())
    return found


def test_patterns_of_three_wires_are_possible_exactly_if_a_rotation_has_them():
    held = supports_of_rotations()
    for pattern in every_pattern(3):
        possible = kind(refusal(drawn(pattern))) in ("stage", "unknown")
        assert possible == (pattern.tobytes() in held), pattern


@given(patterns(6))
def test_a_layer_without_a_matching_is_rejected_with_a_hall_violator(pattern):
    graph = drawn(pattern)
    hopcroft_karp = nx.bipartite.maximum_matching(
        graph.to_undirected(), [node for node in graph if node[0] == 0]
    )
    message = refusal(graph)
    assert (kind(message) == "no matching") == (len(hopcroft_karp) < 2 * len(pattern))
    if kind(message) == "no matching":
        rows, *columns = named(message)
        columns = columns[0] if columns else set()
        assert len(columns) < len(rows)
        assert columns == set(np.flatnonzero(pattern[sorted(rows)].any(axis=0)).tolist())
        assert "of column 1 depend" in message


@given(patterns(6))
def test_the_reported_pair_meets_once_at_the_reported_wire(pattern):
    np.fill_diagonal(pattern, val=True)  # a perfect matching
    message = refusal(drawn(pattern))
    assume(kind(message) == "not quadrangular")
    pair, common = named(message)
    assert (len(pair), len(common)) == (2, 1)
    lines = pattern if "two rows" in message else pattern.T
    assert set(np.flatnonzero(lines[sorted(pair)].all(axis=0)).tolist()) == common
    there, here = (1, 0) if "two rows" in message else (0, 1)
    assert re.search(f"of column {there} have .* of column {here} as their only", message)


def test_columns_that_meet_once_are_reported_if_no_rows_do():
    rows = [[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    columns = np.array(rows, dtype=bool).T
    with pytest.raises(GraphError, match="two rows"):
        sm.from_layers(drawn(rows))
    assert "wires 0 and 1 of column 0 have wire 0 of column 1" in refusal(drawn(columns))


def test_the_identity_plus_a_cyclic_shift_is_not_quadrangular():
    for width in range(2, 8):
        shift = np.eye(width, dtype=int) + np.roll(np.eye(width, dtype=int), 1, axis=1)
        message = refusal(drawn(shift))
        assert kind(message) == ("stage" if width == 2 else "not quadrangular")
        whole = sm.from_layers(drawn(shift), "complete")
        assert whole == sm.Network.of(width, [[list(range(width))]])


def test_a_quadrangular_pattern_may_be_orthogonal_without_being_a_stage():
    conference = 1 - np.eye(4, dtype=int)  # 1/√3 times some signs is orthogonal
    message = refusal(drawn(conference))
    assert message == (
        "layer 0→1: wires 0, 1, 2 and 3 of column 0 and their targets do not form a complete"
        " switch, and whether an orthogonal matrix has this pattern is unknown in general; add"
        ' edges, or pass incomplete="complete" to make each component a switch by adding 4 edges'
    )


def test_the_error_for_an_invalid_layer_names_the_layer_and_the_wires():
    blocks = np.kron(np.eye(80, dtype=int), 1 - np.eye(4, dtype=int))  # quadrangular
    late = blocks.copy()
    late[317:320, 317:320] = [[1, 1, 0], [0, 1, 1], [1, 0, 1]]
    late[316, 317:], late[317:, 316] = 0, 0
    late[316, 316] = 1
    message = refusal(drawn(np.eye(320), late))
    assert message.startswith("layer 1→2: wires 317 and 318 of column 2 have wire 318 of")


def test_long_lists_of_wires_are_truncated():
    message = refusal(drawn(np.ones((20, 20)) * (np.arange(20) < 9)))
    assert (
        "wires 0, 1, 2, 3, 4, 5, … (10 in all) of column 1 depend only on wires 0, 1, 2, 3"
        in message
    )


def test_no_dense_network_of_two_stages_on_four_wires_has_ten_free_edges():
    # The BOFT paper's Figure 2 counts 12 free edges of one dense factor, 8 of the butterfly and
    # 10 of another dense drawing. No two stages on 4 wires have 10 and are dense, so a drawing
    # in two layers must be incomplete.
    stages = {
        frozenset(tuple(i for i in range(4) if label[i] == part) for part in label)
        for label in product(range(4), repeat=4)
    }
    assert len(stages) == 15
    for two in product(stages, repeat=2):
        net = sm.Network.of(4, [[part for part in stage if len(part) > 1] for stage in two])
        assert net.free_edges != 10 or not sm.is_dense(net)
    halves = np.kron(np.eye(2, dtype=int), np.ones((2, 2), dtype=int))
    strides = np.kron(np.ones((2, 2), dtype=int), np.eye(2, dtype=int))
    more = strides.copy()
    more[0, 1] = more[1, 0] = 1
    butterfly, figure = drawn(halves, strides), drawn(halves, more)
    assert sm.from_layers(butterfly) == sm.butterfly(4)
    assert figure.number_of_edges() - 2 * 4 == 10
    assert all(nx.has_path(figure, (0, j), (2, i)) for i in range(4) for j in range(4))
    assert kind(refusal(figure)) == "not quadrangular"
    completed = sm.from_layers(figure, "complete")
    assert completed == sm.Network.of(4, [[[0, 1], [2, 3]], [[0, 1, 2, 3]]])
    assert len(completion(figure)) == completed.free_edges - 10


# Completion ------------------------------------------------------------------------------------


def components(graph: nx.DiGraph, t: int):
    """The two sides of each component of a layer, by networkx."""
    layer = nx.Graph((a, b) for a, b in graph.edges if a[0] == t)
    layer.add_nodes_from(node for node in graph if node[0] in (t, t + 1))
    for part in nx.connected_components(layer):
        yield [node for node in part if node[0] == t], [node for node in part if node[0] == t + 1]


@given(st.integers(1, 4).flatmap(lambda width: st.lists(square(width), min_size=1, max_size=2)))
def test_completion_adds_exactly_the_missing_edges(drawn_patterns):
    graph = drawn(*drawn_patterns)
    sides = [pair for t in range(len(drawn_patterns)) for pair in components(graph, t)]
    if any(len(left) != len(right) for left, right in sides):
        for refused in (completion, lambda g: sm.from_layers(g, "complete")):
            with pytest.raises(GraphError, match=r"depends? .*need at least k columns") as error:
                refused(graph)
            assert "complete" not in str(error.value)
        return
    added = completion(graph)
    lacking = {edge for pair in sides for edge in product(*pair)} - set(graph.edges)
    assert added == sorted(lacking)
    completed = nx.DiGraph(graph)
    completed.add_edges_from(added)
    assert sm.from_layers(graph, "complete") == sm.from_layers(completed)
    message = refusal(graph)
    assert (message is None) == (added == [])
    layers = [sum(edge[0][0] == t for edge in added) for t in range(len(drawn_patterns))]
    if message:
        assert f"by adding {next(filter(None, layers))} edge" in message
    for edge in added:  # none could be left out
        completed.remove_edge(*edge)
        assert refusal(completed) is not None
        completed.add_edge(*edge)


@given(patterns(4))
def test_the_graph_is_not_modified(pattern):
    graph = drawn(pattern)
    before = nx.to_dict_of_dicts(graph)
    refusal(graph)
    refusal(graph, "complete")
    assert nx.to_dict_of_dicts(graph) == before


# Graphs that are not grids ---------------------------------------------------------------------


def grid(*extra, without=(), **attributes) -> nx.DiGraph:
    graph = sm.butterfly(4).to_networkx()
    graph.graph.update(attributes)
    graph.add_edges_from(extra)
    graph.remove_nodes_from(without)
    return graph


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (nx.path_graph(3), "type Graph: .*use from_graph"),
        (nx.MultiDiGraph(), "type MultiDiGraph: from_layers takes a networkx.DiGraph"),
        ("graph", "type str: from_layers takes"),
        (nx.DiGraph(), "a graph without nodes: .*add node"),
        (nx.DiGraph([(0, 1)]), r"node 0: .*pairs \(t, wire\)"),
        (nx.DiGraph([((0, 0), (1, 0, 0))]), r"node \(1, 0, 0\): .*pairs"),
        (nx.DiGraph([((0, -1), (1, 0))]), r"node \(0, -1\): .*integers ≥ 0"),
        (nx.DiGraph([((0, 0.5), (1, 0))]), r"node \(0, 0.5\): .*integers"),
        (nx.DiGraph([((0, "a"), (1, 0))]), r"node \(0, 'a'\): .*relabel"),
        (nx.DiGraph([("ab", "cd")]), "node 'ab': .*relabel"),
        (grid(((0, 0), (2, 1))), r"edge \(0, 0\) → \(2, 1\): .*column to the next"),
        (grid(((1, 0), (0, 0))), r"edge \(1, 0\) → \(0, 0\): .*reverse it"),
        (grid(((1, 0), (1, 3))), r"edge \(1, 0\) → \(1, 3\): .*column to the next"),
        (grid(((2, 2), (2, 2))), r"edge \(2, 2\) → \(2, 2\): .*column to the next"),
        (grid(((0, 0), (1, 7))), r"node \(1, 7\) is outside the grid: .*wires 0 to 3"),
        (grid(((2, 0), (3, 0))), r"node \(3, 0\) is outside the grid: .*columns 0 to 2"),
        (grid(without=[(1, 2)]), r"node \(1, 2\) is missing: .*3 columns of 4 wires"),
        (grid(width=5), r"node \(0, 4\) is missing"),
        (grid(depth=3), r"node \(3, 0\) is missing"),
        (grid(width=3), r"node \(0, 3\) is outside the grid"),
        (grid(width="4"), "graph attribute width='4': .*must be an integer"),
        (grid(depth=2.0), "graph attribute depth=2.0: .*must be an integer"),
        (nx.DiGraph([((0, 10**30), (1, 0))]), r"node \(0, 0\) is missing"),
    ],
)
def test_graphs_that_are_not_layered_are_rejected(graph, message):
    for read in (sm.from_layers, completion):
        with pytest.raises(GraphError, match=message):
            read(graph)


@pytest.mark.parametrize("incomplete", ["", "Complete", None, True])
def test_invalid_options_are_rejected(incomplete):
    with pytest.raises(GraphError, match=r'incomplete=.*"error" or "complete"'):
        sm.from_layers(sm.butterfly(4).to_networkx(), incomplete)


def test_a_graph_of_one_column_is_the_identity_network():
    graph = nx.DiGraph()
    graph.add_nodes_from((0, i) for i in range(3))
    assert sm.from_layers(graph) == sm.Network(3)
    assert completion(graph) == []


def test_slices_of_a_network_are_slices_of_its_graph():
    net = sm.benes(8)
    for a, b in pairwise((0, 2, 5)):
        graph = net.to_networkx()
        part = graph.subgraph(node for node in graph if a <= node[0] <= b)
        moved = nx.relabel_nodes(part, {(t, i): (t - a, i) for t, i in part})
        moved.graph["depth"] = b - a
        assert sm.from_layers(moved) == net[a:b]
