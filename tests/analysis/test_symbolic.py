"""Symbolic matrices are sums over paths, and agree with rotations and with exact arithmetic."""

import math
import pickle

import networkx as nx
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis.symbolic import SymbolicMatrix
from structmat.errors import BlockError, StructmatError, WiringError
from structmat.linalg.blocks import cayley, generators_per_block, givens
from structmat.testing import networks, seeds

SMALL = networks(max_width=4, max_depth=3)


@st.composite
def pairwise(draw, max_width=5, max_depth=4):
    """Draw networks of 2×2 switches, straight or not, with idle and moved wires."""
    width = draw(st.integers(1, max_width))
    made = []
    for _ in range(draw(st.integers(0, max_depth))):
        sources = np.array(draw(st.permutations(range(width))))
        targets = sources if draw(st.booleans()) else draw(st.permutations(range(width)))
        end = 2 * draw(st.integers(0, width // 2))
        pairs = [np.reshape(side[:end], (-1, 2)) for side in (sources, np.array(targets))]
        banks = [sm.Bank(*pairs)] if end else []
        made.append(sm.Stage(width, banks, np.stack([sources[end:], targets[end:]], axis=1)))
    return sm.Network(width, made)


def terms(expression):
    return [] if expression == 0 else list(sympy.Add.make_args(expression))


def generators(net, values, *, unitary=False):
    """Return the values, one for each symbol, as generators of each bank."""
    made, start = [], 0
    for bank in net.banks:
        pairs = generators_per_block(bank.radix)
        each = generators_per_block(bank.radix, field="complex" if unitary else "real")
        block = np.reshape(values[start : start + bank.count * each], (bank.count, each))
        start += bank.count * each
        if unitary:
            angle, phase, diagonal = np.split(block, [pairs, 2 * pairs], axis=1)
            block = np.hstack([angle * np.cos(phase), angle * np.sin(phase), diagonal])
        made.append(block)
    assert start == len(values)
    return made


# Values -----------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(SMALL, seeds(), st.sampled_from(["real", "complex"]))
def test_the_sums_evaluate_to_the_matrix_of_a_rotation(net, seed, field):
    unitary = field == "complex"
    r = sm.symbolic(net, field=field)
    values = np.random.default_rng(seed).uniform(-4, 4, len(r.symbols))
    blocks = [
        givens(g, bank.radix)
        for g, bank in zip(generators(net, values, unitary=unitary), net.banks, strict=True)
    ]
    expected = sm.Rotation(net, blocks).matrix()
    evaluate = sympy.lambdify(r.symbols, r.matrix())
    assert np.abs(np.reshape(evaluate(*values), expected.shape) - expected).max() <= 1e-12
    rotation = r.rotation(values)
    assert rotation.network == net
    assert rotation.dtype == (complex if unitary and net.banks else float)
    assert np.abs(rotation.matrix() - expected).max() <= 1e-12


@settings(max_examples=25)
@given(networks(max_width=4, max_depth=2), st.data())
def test_cayley_blocks_are_exactly_orthogonal(net, data):
    r = sm.symbolic(net, parametrization="cayley")
    count = len(r.symbols)
    numbers = st.fractions(-2, 2, max_denominator=8)
    values = data.draw(st.lists(numbers, min_size=count, max_size=count))
    exact = r.subs(values).matrix()
    assert exact.T * exact == sympy.eye(net.width)
    floats = generators(net, np.array(values, dtype=float))
    blocks = [cayley(g, bank.radix) for g, bank in zip(floats, net.banks, strict=True)]
    expected = sm.Rotation(net, blocks).matrix()
    assert np.abs(np.array(exact, dtype=float) - expected).max() <= 1e-12


@settings(max_examples=25)
@given(pairwise(), st.data())
def test_givens_blocks_are_exactly_orthogonal_at_rational_points(net, data):
    """The points of the unit circle with rational coordinates are ((1−t²), 2t)/(1+t²)."""
    r = sm.symbolic(net)
    values = {}
    for angle in r.symbols:
        t = sympy.Rational(data.draw(st.fractions(-2, 2, max_denominator=8)))
        values |= {sympy.cos(angle): (1 - t**2) / (1 + t**2), sympy.sin(angle): 2 * t / (1 + t**2)}
    exact = r.subs(values)
    assert exact.symbols == ()
    assert exact.matrix().T * exact.matrix() == sympy.eye(net.width)


def test_complex_givens_blocks_are_unitary():
    u = sm.symbolic("butterfly", 2, field="complex").matrix()
    assert sympy.simplify(u.H * u) == sympy.eye(2)
    assert sympy.simplify(u * u.H) == sympy.eye(2)


# Sums over paths --------------------------------------------------------------------------------


@given(pairwise())
def test_there_is_one_product_of_cosines_and_sines_for_each_path(net):
    r, counts = sm.symbolic(net), sm.path_counts(net)
    for i, j in np.ndindex(net.width, net.width):
        found = terms(r.entry(i, j))
        assert len(found) == counts[i, j] == len(r.paths(i, j))
        for term in found:
            sign, factors = term.as_coeff_mul()
            assert sign in (1, -1)
            assert {factor.func for factor in factors} <= {sympy.cos, sympy.sin}
            stages = [factor.args[0].name.split("_")[1] for factor in factors]
            assert len(set(stages)) == len(stages)


@settings(max_examples=25)
@given(SMALL)
def test_entries_are_the_paths_of_the_grid_graph(net):
    r = sm.symbolic(net, parametrization="entries")
    product = sympy.eye(net.width)
    for factor, stage in zip(r.factors(), net.stages, strict=True):
        assert len(factor.todok()) == stage.nonzeros
        product = factor * product
    graph, counts = net.to_networkx(), sm.path_counts(net)
    for i, j in np.ndindex(net.width, net.width):
        paths = (
            {((0, j), (net.depth, i))}
            if net.depth == 0 and i == j
            else {tuple(path) for path in nx.all_simple_paths(graph, (0, j), (net.depth, i))}
        )
        found = [tuple(enumerate(path)) for path in r.paths(i, j)]
        assert len(found) == counts[i, j]
        if net.depth:
            assert set(found) == paths
        assert len(terms(r.entry(i, j))) == counts[i, j]
        assert sympy.expand(product[i, j]) == r.entry(i, j) == r.matrix()[i, j]


# Substitution -----------------------------------------------------------------------------------


def test_values_are_substituted_all_at_once():
    r = sm.symbolic("butterfly", 4)
    a, b, *rest = r.symbols
    swapped = r.subs({a: b, b: a})
    assert swapped.symbols == r.symbols
    assert swapped.entry(0, 0) == r.entry(0, 0).xreplace({a: b})
    tied = r.subs({b: a, rest[0]: sympy.Symbol("x", real=True), rest[1]: 0})
    assert [s.name for s in tied.symbols] == ["theta_1_0_1", "x"]
    assert tied.entry(1, 3) == 0
    c, s = sympy.symbols("c s")
    short = r.subs({sympy.cos(a): c, sympy.sin(a): s})
    assert short.entry(1, 0) == -s * sympy.cos(rest[1])


def test_exact_blocks_can_be_given():
    """The fast Fourier transform of four points, as published by Cooley and Tukey (1965)."""
    net = sm.Network.of(4, [[[0, 2], [1, 3]], [[0, 1], [2, 3]]])
    half = sympy.Matrix([[1, 1], [1, -1]]) / sympy.sqrt(2)
    first = [half, sympy.diag(1, -sympy.I) * half]
    f = SymbolicMatrix(net, [first, [half, half]])
    reversal = [0, 2, 1, 3]
    dft = sympy.Matrix(4, 4, lambda i, j: (-sympy.I) ** (i * j) / 2)
    assert f.symbols == ()
    assert f.matrix().extract(reversal, range(4)) == dft
    assert np.abs(f.rotation().matrix()[reversal] - np.fft.fft(np.eye(4)) / 2).max() <= 1e-15


# Display ----------------------------------------------------------------------------------------


def test_notebooks_show_small_matrices_only():
    shown = sm.symbolic("butterfly", 2)._repr_latex_()
    assert shown == (
        r"$\displaystyle \left[\begin{matrix}\cos {\theta_{1,01}} & \sin {\theta_{1,01}}\\"
        r"- \sin {\theta_{1,01}} & \cos {\theta_{1,01}}\end{matrix}\right]$"
    )
    assert sm.symbolic("butterfly", 8)._repr_latex_().count(r"\theta") == 3 * 64
    assert sm.symbolic("butterfly", 32)._repr_latex_() is None  # 1,024 terms
    assert sm.symbolic("block_diagonal(block=6)", 6)._repr_latex_() is None  # 428 in one block
    assert repr(sm.symbolic("butterfly", 32)) == "SymbolicMatrix(width=32, depth=5, symbols=80)"


def test_symbolic_matrices_are_immutable_and_can_be_pickled():
    r = sm.symbolic("benes", 4, parametrization="entries")
    again = pickle.loads(pickle.dumps(r))  # noqa: S301
    assert again.symbols == r.symbols
    assert again.matrix() == r.matrix()
    with pytest.raises(AttributeError, match="network"):
        r.network = sm.butterfly(4)
    with pytest.raises(ValueError, match="read-only"):
        r.blocks[0][0, 0, 0] = 1


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sm.symbolic("butterfly"), "butterfly: a family has a network for each width"),
        (lambda: sm.symbolic("butterfly", 4, parametrization="given"), "did you mean givens?"),
        (
            lambda: sm.symbolic("butterfly", 4, parametrization=None),
            "the choices are cayley, entries",
        ),
        (
            lambda: sm.symbolic("butterfly", 4, field="quaternion"),
            """field='quaternion': it must be "real" .* or "complex" """,
        ),
        (
            lambda: sm.symbolic("butterfly", 4, parametrization="cayley", field="complex"),
            "use parametrization='givens'",
        ),
        (
            lambda: sm.symbolic("block_diagonal(block=5)", 5, parametrization="cayley"),
            "radix 5: the radix must be at most 4",
        ),
        (lambda: sm.symbolic("butterfly", 2048), "2,048 wires: there must be at most 1,024"),
        (lambda: sm.symbolic(sm.Network(2**22)), "4,194,304 wires"),
        (lambda: sm.symbolic("butterfly", 2**40), "1,099,511,627,776 wires: there must be at most"),
        (
            lambda: sm.symbolic("block_diagonal(block=10)", 10),
            "58,785 terms, more than 16,384: .* or parametrization='entries'",
        ),
        (lambda: sm.symbolic("butterfly", 1024), "20,480 terms"),
        (lambda: sm.symbolic("butterfly", 256).matrix(), "the matrix would have 65,536 terms"),
        (
            lambda: sm.symbolic(sm.Network.of(2, [[[0, 1]]] * 16)).entry(0, 1),
            r"entry\(0, 1\) would have 32,768 terms, .* symbolic\(net\[:k\]\).entry\(0, 1\)",
        ),
    ],
)
def test_options_and_sizes_are_checked(call, message):
    with pytest.raises(StructmatError, match=message):
        call()


def test_single_entries_of_large_networks_are_available():
    r = sm.symbolic("butterfly", 512)
    assert len(terms(r.entry(3, 500))) == 1
    assert r.paths(0, 511) == [tuple(511 >> k << k for k in range(10))]


@pytest.mark.parametrize("wire", [-1, 4, 0.5, "a"])
def test_wires_are_checked(wire):
    with pytest.raises(WiringError, match="output"):
        sm.symbolic("butterfly", 4).entry(wire, 0)
    with pytest.raises(WiringError, match="source"):
        sm.symbolic("butterfly", 4).paths(0, wire)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], "3 values: the matrix has 4 symbols; give one value for each"),
        (1.0, "1 value: the matrix has 4 symbols"),
        ([1, 2, 3, math.nan], "nan: give finite numbers or sympy expressions"),
        ([1, 2, 3, math.inf], "inf: give finite"),
        ([1, 2, 3, "__import__('os')"], "give finite numbers or sympy expressions"),
        ({"x": 1, "theta_1_0_1": 1}, "^x: it does not occur in the blocks; the symbols are theta"),
        ({sympy.Symbol("x"): 1}, "x: it does not occur in the blocks; .* theta_1_0_1, theta_1_2_3"),
    ],
)
def test_values_are_checked(values, message):
    r = sm.symbolic("butterfly", 4)
    for use in (r.subs, r.rotation):
        with pytest.raises(StructmatError, match=message):
            use(values)


def test_symbols_are_also_substituted_by_name():
    r = sm.symbolic("butterfly", 4)
    named = r.subs({str(symbol): k for k, symbol in enumerate(r.symbols)})
    assert named.matrix() == r.subs(range(4)).matrix()


def test_rotations_need_every_value_and_orthogonal_blocks():
    r = sm.symbolic("butterfly", 4)
    with pytest.raises(StructmatError, match="theta_1_2_3, theta_2_0_2, theta_2_1_3: a rotation"):
        r.rotation({r.symbols[0]: 1})
    with pytest.raises(StructmatError, match="0 values: the matrix has 4 symbols"):
        r.rotation()
    with pytest.raises(BlockError, match="must be orthogonal"):
        sm.symbolic("butterfly", 2, parametrization="entries").rotation([1, 2, 3, 4])


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "0 arrays of blocks: the network has 1 banks"),
        (3, "blocks=3: they must be a list"),
        ([[[1, 0], [0, 1]]], r"blocks 0 of shape \(2, 2\)"),
        ([[[["a", 0], [0, 1]]]], "'a': give finite numbers"),
        ([[[[sympy.nan, 0], [0, 1]]]], "nan: give finite numbers"),
        ([[[[None, 0], [0, 1]]]], "None: give finite numbers"),
    ],
)
def test_blocks_are_checked(blocks, message):
    with pytest.raises(BlockError, match=message):
        SymbolicMatrix(sm.Network.of(2, [[[0, 1]]]), blocks)


def test_division_by_zero_is_an_error():
    x = sympy.Symbol("x")
    r = SymbolicMatrix(sm.Network.of(2, [[[0, 1]]]), [[[[1 / x, 0], [0, 1]]]])
    with pytest.raises(BlockError, match="zoo: give finite numbers"):
        r.subs([0])
