"""Families from graphs: each edge is a switch, and the graph agrees with its definition."""

import itertools
import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sympy.combinatorics import Permutation, PermutationGroup

import structmat as sm
from structmat.errors import GraphError, StructmatError, WidthError
from structmat.families import expanders
from structmat.testing import assert_dense, seeds


def pairs_of(net):
    """Return the wires of each switch, sorted; each must have two."""
    return sorted(tuple(sorted(row)) for bank in net.banks for row in bank.reads.tolist())


def simple(pairs):
    """Return the edges of a simple graph, sorted: no loops, and no edge twice."""
    return sorted({(min(a, b), max(a, b)) for a, b in pairs if a != b})


def graph_of(net):
    graph = nx.empty_graph(net.width)
    graph.add_edges_from(pairs_of(net))
    return graph


def second_eigenvalue(graph):
    """Return the largest absolute value of an eigenvalue other than ±Δ."""
    degree = max(dict(graph.degree).values())
    values = np.linalg.eigvalsh(nx.to_numpy_array(graph))
    inner = values[1 if abs(values[0] + degree) < 1e-9 else 0 : -1]
    return np.abs(inner).max()


# Each of these is connected; a network is dense when repeated as often as the diameter.
CONNECTED = [
    ("hypercube", 16),
    ("torus", 15),
    ("torus(sides=(2, 3, 4))", 24),
    ("product(graphs=('star', 'cycle'), sides=(4, 5))", 20),
    ("circulant", 13),
    ("circulant(offsets=(2, 5))", 17),
    ("cayley_graph(generators=((1, 2, 3, 0), (1, 0, 2, 3)))", 24),
    ("de_bruijn", 21),
    ("de_bruijn(symbols=3)", 27),
    ("random_regular(degree=3, rng=1)", 20),
    ("ramanujan(rng=1)", 21),
    ("margulis", 25),
    ("chordal_cycle", 23),
]


@pytest.mark.parametrize(("spec", "width"), CONNECTED)
def test_a_graph_repeated_to_its_diameter_is_dense(spec, width):
    once = sm.parse(spec)(width)
    diameter = nx.diameter(graph_of(once))
    assert_dense(sm.parse(spec).with_options(repeat=diameter)(width))
    graph = graph_of(once)
    most = max(dict(graph.degree).values())
    assert once.depth in ((most,) if nx.is_bipartite(graph) else (most, most + 1))


# Products -------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", range(1, 9))
def test_hypercube_is_the_butterfly(power):
    net = sm.families.hypercube(2**power, repeat=2)
    assert net == sm.butterfly(2**power).repeat(2)
    bits = list(itertools.product([0, 1], repeat=power))
    number = {word: int("".join(map(str, word)), 2) for word in bits}
    cube = nx.hypercube_graph(power) if power > 1 else nx.Graph([((0,), (1,))])
    assert pairs_of(net[:power]) == simple((number[a], number[b]) for a, b in cube.edges)


@given(st.lists(st.integers(2, 6), min_size=1, max_size=3))
def test_torus_joins_wires_whose_digits_differ_by_one(sides):
    width = math.prod(sides)
    digits = np.stack(np.unravel_index(np.arange(width), sides))
    pairs = []
    for axis, side in enumerate(sides):
        moved = digits.copy()
        moved[axis] = (moved[axis] + 1) % side
        pairs += zip(range(width), np.ravel_multi_index(tuple(moved), sides).tolist(), strict=True)
    assert pairs_of(sm.families.torus(width, sides)) == simple(pairs)


@pytest.mark.parametrize("width", range(4, 60))
def test_torus_has_the_most_balanced_sides_by_default(width):
    sides = [(p, width // p) for p in range(2, math.isqrt(width) + 1) if width % p == 0]
    if sides:
        assert sm.families.torus(width) == sm.families.torus(width, sides[-1])
    else:
        with pytest.raises(WidthError, match="width must be a product of two factors"):
            sm.families.torus(width)


STANDARD = {
    "path": nx.path_graph,
    "cycle": nx.cycle_graph,
    "complete": nx.complete_graph,
    "star": lambda side: nx.star_graph(side - 1),
    "hypercube": lambda side: nx.convert_node_labels_to_integers(
        nx.hypercube_graph(side.bit_length() - 1), ordering="sorted"
    ),
}


@given(st.lists(st.tuples(st.sampled_from(sorted(STANDARD)), st.integers(2, 6)), min_size=2))
def test_product_is_the_cartesian_product(factors):
    factors = [(graph, 4 if graph == "hypercube" else side) for graph, side in factors[:3]]
    graphs, sides = zip(*factors, strict=True)
    width = math.prod(sides)
    whole, *others = (STANDARD[graph](side) for graph, side in factors)
    for other in others:
        whole = nx.cartesian_product(whole, other)
        number = {(a, b): a * len(other) + b for a, b in whole}
        whole = nx.relabel_nodes(whole, number)
    net = sm.families.product(width, graphs, sides)
    assert pairs_of(net) == simple(whole.edges)
    promised = sm.parse(f"product(graphs={graphs}, sides={sides})").claims(width)
    assert promised.parameters == whole.number_of_edges()
    assert (promised.depth is not None) == nx.is_bipartite(whole)
    assert promised.depth in (None, net.depth)
    many = sm.parse(f"product(graphs={graphs}, sides={sides}, repeat={nx.diameter(whole)})")
    assert many.claims(width).dense
    assert (
        nx.diameter(whole) == 1
        or not sm.parse(str(many)).with_options(repeat=nx.diameter(whole) - 1).claims(width).dense
    )


@given(st.lists(st.integers(2, 6), min_size=1, max_size=4), st.integers(1, 2))
def test_hamming_by_cliques_is_mixed_radix(radices, repeat):
    width = math.prod(radices)
    assume(width <= 216)
    assert sm.families.hamming(width, radices, repeat) == sm.mixed_radix(width, radices).repeat(
        repeat
    )
    assert sm.families.hamming(width) == sm.mixed_radix(width)
    assert sm.families.hamming(1, radices=()) == sm.mixed_radix(1, radices=())


# Circulant, Cayley, de Bruijn -----------------------------------------------------------------


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True), st.integers(0, 30))
def test_circulant_joins_wires_at_the_offsets(offsets, more):
    width = 2 * max(offsets) + more
    assume(width > 1)
    net = sm.families.circulant(width, offsets)
    assert pairs_of(net) == simple(nx.circulant_graph(width, offsets).edges)
    promised = sm.parse(f"circulant(offsets={tuple(offsets)})").claims(width)
    assert promised.parameters == net.parameters
    assert promised.depth in (None, net.depth)
    assert (promised.dense is None) == nx.is_connected(graph_of(net))


@given(st.integers(2, 5).flatmap(lambda k: st.lists(st.permutations(range(k)), min_size=1)))
@settings(max_examples=50)
def test_cayley_joins_elements_that_differ_by_a_generator(generators):
    generators = [tuple(g) for g in generators[:3] if list(g) != sorted(g)]
    assume(generators)
    group = PermutationGroup([Permutation(list(g)) for g in generators])
    width = int(group.order())
    elements = sorted(tuple(x.array_form) for x in group.elements)
    steps = {*generators, *(tuple(np.argsort(g).tolist()) for g in generators)}
    pairs = [
        (i, j)
        for (i, x), (j, y) in itertools.combinations(enumerate(elements), 2)
        if tuple(np.argsort(x)[list(y)].tolist()) in steps  # y = x·g
    ]
    net = sm.families.cayley_graph(width, generators)
    assert pairs_of(net) == pairs
    promised = sm.parse(f"cayley_graph(generators={tuple(generators)})").claims(width)
    assert promised.parameters == len(pairs)
    assert promised.depth in (None, net.depth)


def test_cayley_of_adjacent_transpositions_is_the_bubble_sort_graph():
    swaps = [(1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2)]
    graph = graph_of(sm.families.cayley_graph(24, swaps))
    assert nx.diameter(graph) == 6  # the inversions of the reversal
    assert nx.is_bipartite(graph)


def test_the_error_for_a_wrong_width_names_the_order_of_the_group():
    message = "width must be 24, the order of the generated group; nearest is 24"
    for width in (23, 25):
        with pytest.raises(WidthError, match=message):
            sm.families.cayley_graph(width, ((1, 2, 3, 0), (1, 0, 2, 3)))
    with pytest.raises(StructmatError, match="a group of more than 65536 elements; use fewer"):
        sm.families.cayley_graph(10, ((*range(1, 9), 0), (1, 0, *range(2, 9))))


@pytest.mark.parametrize(("symbols", "length"), [(2, 1), (2, 2), (2, 5), (3, 3), (4, 2), (5, 1)])
def test_de_bruijn_joins_words_that_overlap(symbols, length):
    words = list(itertools.product(range(symbols), repeat=length))
    pairs = [
        (i, j)
        for (i, a), (j, b) in itertools.product(enumerate(words), repeat=2)
        if a[1:] == b[:-1]
    ]
    net = sm.families.de_bruijn(len(words), symbols)
    assert pairs_of(net) == simple(pairs)
    promised = sm.parse(f"de_bruijn(symbols={symbols})").claims(len(words))
    assert promised.parameters == net.parameters


@given(st.integers(2, 5), st.integers(0, 60))
def test_de_bruijn_supports_any_width(symbols, more):
    width = symbols + more
    pairs = [(i, (symbols * i + a) % width) for i in range(width) for a in range(symbols)]
    net = sm.families.de_bruijn(width, symbols)
    assert pairs_of(net) == simple(pairs)
    least = next(m for m in range(1, 99) if symbols**m >= width)
    assert nx.diameter(graph_of(net)) <= least


# Expanders ------------------------------------------------------------------------------------


@given(st.integers(2, 40), st.data(), seeds())
def test_random_regular_is_regular(width, data, seed):
    degree = data.draw(st.integers(1, width - 1))
    assume(width * degree % 2 == 0)
    net = sm.families.random_regular(width, degree, rng=seed)
    assert set(dict(graph_of(net).degree).values()) == {degree}
    assert len(pairs_of(net)) == len(set(pairs_of(net))) == width * degree // 2
    assert net == sm.families.random_regular(width, degree, rng=seed)
    assert sm.families.random_regular(width, degree, rng=seed, repeat=3) == net.repeat(3)


def test_random_regular_differs_with_the_seed_and_follows_a_generator():
    nets = {sm.families.random_regular(20, 3, rng=seed) for seed in range(10)}
    assert len(nets) == 10
    source = np.random.default_rng(3)
    first, second = (
        sm.families.random_regular(20, 3, rng=source),
        sm.families.random_regular(20, 3, rng=source),
    )
    assert first == sm.families.random_regular(20, 3, rng=3) != second


@pytest.mark.parametrize(("width", "degree"), [(10, 3), (64, 60), (91, 4), (200, 5), (1100, 4)])
def test_ramanujan_meets_the_eigenvalue_bound(width, degree):
    for seed in range(2 if width > 1000 else 6):
        graph = graph_of(sm.families.ramanujan(width, degree, rng=seed))
        assert set(dict(graph.degree).values()) == {degree}
        assert nx.is_connected(graph)
        assert second_eigenvalue(graph) < 2 * math.sqrt(degree - 1) + 1e-7


def test_graphs_that_are_not_ramanujan_are_drawn_again(monkeypatch):
    """Two disjoint complete graphs and a long prism are rejected; K_{4,4} is not."""
    assert not expanders._is_ramanujan(nx.disjoint_union(*[nx.complete_graph(5)] * 2), 4)
    assert not expanders._is_ramanujan(nx.circular_ladder_graph(40), 3)
    assert not expanders._is_ramanujan(nx.circular_ladder_graph(600), 3)
    assert expanders._is_ramanujan(nx.complete_bipartite_graph(4, 4), 4)
    monkeypatch.setattr(expanders, "_is_ramanujan", lambda *_: False)
    with pytest.raises(GraphError, match=r"width=20, degree=4.: none of 200 random graphs"):
        sm.families.ramanujan(20, rng=0)


@pytest.mark.parametrize("side", range(2, 13))
def test_margulis_joins_the_points_of_the_torus_related_by_shears(side):
    points = list(itertools.product(range(side), repeat=2))
    shears = [
        lambda x, y: (x + 2 * y, y),
        lambda x, y: (x + 2 * y + 1, y),
        lambda x, y: (x, y + 2 * x),
        lambda x, y: (x, y + 2 * x + 1),
    ]
    pairs = []
    for shear, (x, y) in itertools.product(shears, points):
        u, v = shear(x, y)
        pairs.append((side * x + y, side * (u % side) + v % side))
    net = sm.families.margulis(side**2)
    assert pairs_of(net) == simple(pairs)
    assert net.parameters == 4 * side**2 - 6 * side


@pytest.mark.parametrize("prime", [5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 61, 101, 211])
def test_chordal_cycle_joins_inverses(prime):
    pairs = [(x, (x + 1) % prime) for x in range(prime)]
    pairs += [(x, pow(x, -1, prime)) for x in range(1, prime)]
    net = sm.families.chordal_cycle(prime)
    assert pairs_of(net) == simple(pairs)
    assert sm.parse("chordal_cycle").claims(prime).parameters == net.parameters


# Invalid input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: sm.families.hypercube(12),
            WidthError,
            r"2\^n with n ≥ 1; nearest are 8 and 16",
        ),
        (lambda: sm.families.hypercube(8, repeat=0), StructmatError, "repeat=0"),
        (
            lambda: sm.families.torus(12, sides=(3, 5)),
            WidthError,
            "sides' product 15 must be the width",
        ),
        (
            lambda: sm.families.torus(12, sides=(12, 1)),
            StructmatError,
            "side=1: side must be an integer",
        ),
        (
            lambda: sm.families.torus(12, sides=()),
            StructmatError,
            r"sides=\(\): sides must be a sequence",
        ),
        (
            lambda: sm.families.torus(12, sides=12),
            StructmatError,
            "sides=12: sides must be a sequence",
        ),
        (
            lambda: sm.families.torus(12, sides="ab"),
            StructmatError,
            "side='a': side must be an integer",
        ),
        (
            lambda: sm.families.product(12, ("cycle",), (3, 4)),
            StructmatError,
            "one graph for each side, here 2",
        ),
        (
            lambda: sm.families.product(12, ("cycle", "pth"), (3, 4)),
            StructmatError,
            "unknown graph 'pth'; did you mean path",
        ),
        (
            lambda: sm.families.product(12, ("cycle", 7), (3, 4)),
            StructmatError,
            "unknown graph 7; the choices are",
        ),
        (
            lambda: sm.families.product(3, ("hypercube",), (3,)),
            StructmatError,
            r"side=3: .* must be 2\^n",
        ),
        (
            lambda: sm.families.product(13, ("cycle", "path"), (3, 4)),
            WidthError,
            "product 12 must be",
        ),
        (
            lambda: sm.families.hamming(12, radices=(3, 5)),
            WidthError,
            "radices' product 15 must be the",
        ),
        (lambda: sm.families.hamming(67), WidthError, "radices up to 64; nearest are 66 and 68"),
        (
            lambda: sm.families.hamming(12, radices=(12, 1)),
            StructmatError,
            "radix=1: radix must be",
        ),
        (
            lambda: sm.families.circulant(5, offsets=(1, 3)),
            WidthError,
            "at least 6, twice the largest",
        ),
        (
            lambda: sm.families.circulant(9, offsets=(1, 1)),
            StructmatError,
            "offsets must be distinct",
        ),
        (
            lambda: sm.families.circulant(9, offsets=(0,)),
            StructmatError,
            "offset=0: offset must be",
        ),
        (lambda: sm.families.circulant(9, offsets=4), StructmatError, "offsets must be a sequence"),
        (
            lambda: sm.families.cayley_graph(6, ()),
            StructmatError,
            "generators must be permutations",
        ),
        (
            lambda: sm.families.cayley_graph(6, (1, 0)),
            StructmatError,
            "generators must be permutations",
        ),
        (
            lambda: sm.families.cayley_graph(6, ((1, 0), (0, 2, 1))),
            StructmatError,
            "must be permutations of the",
        ),
        (
            lambda: sm.families.cayley_graph(6, ((1, 1, 0),)),
            StructmatError,
            "generators must be permutations",
        ),
        (lambda: sm.families.cayley_graph(6, ((0, 1, 2),)), StructmatError, "omit the identity"),
        (
            lambda: sm.families.de_bruijn(3, symbols=4),
            WidthError,
            "at least 4, the symbols; nearest is 4",
        ),
        (lambda: sm.families.de_bruijn(3, symbols=1), StructmatError, "symbols=1: symbols must be"),
        (lambda: sm.families.random_regular(3, 3), WidthError, "above 3, the degree; nearest is 4"),
        (
            lambda: sm.families.random_regular(7, 3),
            WidthError,
            "even where the degree is odd; nearest are",
        ),
        (lambda: sm.families.random_regular(7, 2, rng=-1), StructmatError, "rng=-1: rng must be"),
        (lambda: sm.families.random_regular(7, 0), StructmatError, "degree=0: degree must be"),
        (
            lambda: sm.families.ramanujan(7, 2),
            StructmatError,
            "degree=2: degree must be .* ≥ 3",
        ),
        (
            lambda: sm.families.margulis(8),
            WidthError,
            "width must be n² with n ≥ 2; nearest are 4 and 9",
        ),
        (
            lambda: sm.families.chordal_cycle(9),
            WidthError,
            "a prime ≥ 5; nearest are 7 and 11",
        ),
        (lambda: sm.families.chordal_cycle(3), WidthError, "a prime ≥ 5; nearest is 5"),
    ],
)
def test_invalid_arguments_are_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
