"""Blocks of sympy expressions have the stated symbols, names and numbers of terms."""

import sympy
from hypothesis import given

import structmat as sm
from structmat.linalg.symbolic_blocks import nonzero_terms, symbolic_blocks
from structmat.testing import networks


@given(networks(max_width=5))
def test_terms_are_counted_without_building_the_blocks(net):
    for parametrization in ("givens", "entries"):
        blocks, symbols = symbolic_blocks(net, parametrization)
        found = sum(len(sympy.Add.make_args(e)) for block in blocks for e in block.flat)
        passing = sum(len(stage.passing[0]) for stage in net.stages)
        assert nonzero_terms(net, parametrization) == found + passing
        assert len(set(symbols)) == len(symbols)
    assert len(symbolic_blocks(net, "givens")[1]) == net.parameters


def test_unitary_blocks_have_as_many_terms_as_real_ones():
    net = sm.Network.of(7, [[range(7)]])
    for unitary in (False, True):  # sympy needs minutes to expand products that contain phases
        (block,), _ = symbolic_blocks(net, "givens", unitary=unitary)
        assert sum(len(sympy.Add.make_args(e)) for e in block.flat) == 1429  # Catalan(8) − 1


def test_entries_are_independent_symbols():
    net = sm.Network.of(3, [[[2, 0]]])
    real = sm.symbolic(net, parametrization="entries")
    assert [s.name for s in real.symbols] == ["b_1_2_2", "b_1_2_0", "b_1_0_2", "b_1_0_0"]
    assert all(s.is_real for s in real.symbols)
    unitary = sm.symbolic(net, parametrization="entries", field="complex")
    assert not any(s.is_real for s in unitary.symbols)
    assert unitary.entry(0, 2).name == "b_1_0_2"
    assert unitary.entry(1, 1) == 1


def test_latex_names_the_stage_and_the_wires():
    r = sm.symbolic(sm.Network.of(12, [[[0, 2]], [[2, 11]]]))
    assert str(r.entry(2, 0)) == "-sin(theta_1_0_2)*cos(theta_2_2_11)"
    assert sympy.latex(r.symbols) == r"\left( \theta_{1,02}, \  \theta_{2,2,11}\right)"
    assert repr(r) == str(r) == "SymbolicMatrix(width=12, depth=2, symbols=2)"
    unitary = sm.symbolic("butterfly", 2, field="complex")
    assert sympy.latex(unitary.symbols[1:]) == (
        r"\left( \varphi_{1,01}, \  \alpha_{1,0}, \  \alpha_{1,1}\right)"
    )
