"""The dimension of the set of unitary matrices that a network covers."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings

import structmat as sm
from structmat.analysis.dimension import tangents
from structmat.analysis.switch_lists import upper_bound
from structmat.errors import StructmatError
from structmat.linalg import modular
from structmat.linalg.blocks import count_generators
from structmat.linalg.modular import MERSENNE
from structmat.testing import networks, seeds

small = networks(max_width=6, max_depth=4, screens=True)


def numerical_rank(net, seed, columns=None):
    """Return the real rank of the derivative of R at random unitary blocks, by dense factors."""
    blocks = sm.random_blocks(net, seed, complex)
    factors = [b.toarray() for b in sm.Rotation(net, blocks).factors()]
    rest, rows = iter(blocks), []
    for t, stage in enumerate(net.stages):
        before, after = np.eye(net.width), np.eye(net.width)
        for factor in factors[:t]:
            before = factor @ before
        for factor in factors[t + 1 :]:
            after = factor @ after
        for bank in stage.banks:
            for reads, writes, block in zip(bank.reads, bank.writes, next(rest), strict=True):
                for i in range(bank.radix):
                    for j in range(bank.radix):
                        one = np.zeros((bank.radix, bank.radix), dtype=complex)
                        one[i, j] = 1
                        for skew in (one - one.T, 1j * (one + one.T)):
                            change = after[:, writes] @ skew @ block @ before[reads]
                            rows.append(change[:, :columns].ravel())
    if not rows:
        return 0
    made = np.array(rows)
    values = np.linalg.svd(np.concatenate([made.real, made.imag], axis=1), compute_uv=False)
    return int((values > 1e-10 * max(values[0], 1)).sum())


@settings(max_examples=100)
@given(small, seeds())
def test_the_dimension_is_the_rank_at_random_unitary_blocks(net, seed):
    found = sm.dimension(net, field="complex")
    assert found.value == numerical_rank(net, seed)
    assert found.lower <= found.value <= found.upper == min(found.upper, net.width**2)
    assert found.parameters == count_generators(net, field="complex")


@given(small)
def test_the_bounds_hold_without_a_rank(net):
    quick, found = (sm.dimension(net, field="complex", largest=n) for n in (0, None))
    assert quick.lower <= found.value <= quick.upper == upper_bound(net, field="complex")


@settings(max_examples=30)
@given(networks(max_width=5, max_depth=3, screens=True), seeds())
def test_the_dimension_of_columns_is_their_rank(net, seed):
    columns = 1 + seed % net.width
    found = sm.dimension(net, field="complex", columns=columns)
    assert found.value == numerical_rank(net, seed, columns)
    assert found.upper <= 2 * net.width * columns - columns**2


@given(small, seeds())
def test_reduced_generators_lose_no_dimension(net, seed):
    straight, found = net.straightened().network, sm.reduced(net, field="complex")
    rows = tangents(straight, MERSENNE, np.random.default_rng(seed), found.kept, field="complex")
    assert len(rows) == found.parameters
    assert modular.rank(rows, MERSENNE) == sm.dimension(net, field="complex").value


@given(small)
def test_orthogonal_matrices_are_a_part_of_the_unitary_ones(net):
    """The complex dimension is that of pairs and phases: twice the real one at most, plus d."""
    real, unitary = sm.dimension(net), sm.dimension(net, field="complex")
    busy = len({w for b in net.straightened().network.banks for w in b.reads.ravel().tolist()})
    assert real.value <= unitary.value
    assert 2 * sm.dimension(net, largest=0).lower + busy <= unitary.value


@pytest.mark.parametrize("width", [2, 3, 4, 7])
def test_meshes_cover_every_unitary_matrix(width):
    """U(2) blocks contain the output phases; beam splitters and phases need d² parameters."""
    screen = sm.Network.of(width, [[[w] for w in range(width)]])
    for mesh in (sm.brickwall(width), sm.families.triangle(width), sm.families.ruler(8)):
        found = sm.dimension(mesh, field="complex")
        assert (found.value, found.proved) == (mesh.width**2, True)
        assert sm.reduced(mesh, field="complex").parameters == mesh.width**2
    assert sm.dimension(screen, field="complex").value == width
    assert sm.dimension(screen.repeat(3), field="complex").value == width


def test_a_chain_and_independent_switches():
    chain = sm.Network.of(5, [[[k, k + 1]] for k in range(4)])
    assert sm.dimension(chain, field="complex").value == 2 * 4 + 5  # 4 couplings and 5 phases
    apart = sm.block_diagonal(12, 4)
    assert sm.dimension(apart, field="complex").value == 3 * 16
    assert sm.dimension(sm.Network(4), field="complex").value == 0
    alone = sm.Network.of(4, [[[0, 1]], [[3]], [[3]]])
    assert sm.dimension(alone, field="complex").value == 5


def test_wide_networks_are_proved_without_a_rank_computation(monkeypatch):
    monkeypatch.setattr(modular, "rank", None)
    found = sm.dimension(sm.butterfly(1024, block=8, depth=2), field="complex")
    real = sm.dimension(sm.butterfly(1024, block=8, depth=2))
    assert (found.value, found.proved) == (2 * real.value + 1024, True)
    assert comb(8, 2) * 256 >= real.value


def test_other_fields_are_refused():
    with pytest.raises(StructmatError, match=r"field='quaternion': it must be \"real\""):
        sm.dimension(sm.benes(4), field="quaternion")
    for function in (sm.report, sm.lower_bounds, sm.conditioning, sm.reduced):
        with pytest.raises(StructmatError, match="field=None"):
            function(sm.benes(4), field=None)
