"""The rotation made by one step, against torch's optimisers and an independent count of pairs."""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis.gauge import reduced as kept_generators
from structmat.analysis.generator_scale import SLOPES, STEP, generator_scale, step_rotation
from structmat.errors import BlockError, StructmatError
from structmat.linalg.blocks import PARAMETRIZATIONS as REFERENCE
from structmat.linalg.blocks import count_generators
from structmat.nn.orthogonal_layer import generator_shapes
from structmat.nn.parametrizations import PARAMETRIZATIONS
from structmat.testing import families, networks, seeds

FIELDS = st.sampled_from(["real", "complex"])
KINDS = st.sampled_from(sorted(SLOPES))


def test_every_parametrization_has_a_slope():
    assert SLOPES.keys() == REFERENCE.keys()


def matrix(net, generators, kind):
    """Return R for torch tensors of generators, one (n, g) tensor for each bank, with gradients."""
    rest = iter(generators)
    dtype = torch.float64
    if any(g.shape[-1] == b.radix**2 for g, b in zip(generators, net.banks, strict=True)):
        dtype = torch.complex128
    r = torch.eye(net.width, dtype=dtype)
    for stage in net.stages:
        factor = torch.zeros(net.width, net.width, dtype=dtype)
        source, target = (torch.tensor(wires) for wires in stage.passing)
        factor[target, source] = 1
        for bank in stage.banks:
            blocks = PARAMETRIZATIONS[kind](next(rest), bank.radix)
            rows = torch.tensor(bank.writes)[:, :, None].expand_as(blocks)
            columns = torch.tensor(bank.reads)[:, None, :].expand_as(blocks)
            factor = factor.index_put((rows, columns), blocks.to(dtype))
        r = factor @ r
    return r


def rotated(net, kind, field, *, scale, optimiser, rate, seed):
    """Return ‖ΔR‖_F/√d after one step, from the identity, for a loss that is linear in R."""
    shapes = generator_shapes(net, field=field)
    trained = [torch.zeros(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    start = matrix(net, [t.detach() for t in trained], kind)
    source = torch.Generator().manual_seed(seed)
    direction = torch.randn(start.shape, generator=source, dtype=start.dtype)
    r = matrix(net, [scale * t for t in trained], kind)
    (r * direction.conj()).sum().real.backward()
    optimiser(trained, lr=rate).step()
    with torch.no_grad():
        moved = matrix(net, [scale * t for t in trained], kind) - start
    return float(torch.linalg.norm(moved)) / net.width**0.5


@given(networks(max_width=9, screens=True), KINDS, FIELDS, seeds())
@settings(max_examples=40)
def test_first_step_of_adam_rotates_as_predicted(net, kind, field, seed):
    """The prediction is exact to first order in the rate."""
    rate = 1e-6
    scale = generator_scale(net, kind, field)
    assert scale > 0
    if count_generators(net, field=field) == 0:
        assert scale == 1.0
        return
    angle = rotated(
        net, kind, field, scale=scale, optimiser=torch.optim.Adam, rate=rate, seed=seed % 2**31
    )
    # Adam adds 1e-8 to the gradients, the smallest of which may be no larger
    assert angle == pytest.approx(scale * step_rotation(net, kind, field) * rate, rel=1e-3)


@given(families(max_width=24, max_depth=6), KINDS, FIELDS)
def test_the_rotation_and_the_scale_agree_with_a_multigraph(case, kind, field):
    """The networkx multigraph has an edge for each pair of wires in each switch."""
    family, width = case
    net = family(width)
    graph = nx.MultiGraph()
    graph.add_nodes_from(range(width))
    wires = dict.fromkeys(range(width), 0)
    for bank in net.straightened().network.banks:
        for row in bank.reads.tolist():
            graph.add_edges_from(itertools.combinations(row, 2))
            for wire in row:
                wires[wire] += 1
    unitary = field == "complex"
    n, total = 0, 0
    for pair in {frozenset(edge) for edge in graph.edges()}:
        n += (4 if unitary else 2) * graph.number_of_edges(*pair) ** 2
    total += (2 if unitary else 1) * sum(degree for _, degree in graph.degree())
    if unitary:
        n, total = n + sum(k * k for k in wires.values()), total + sum(wires.values())
    n, total, slope = n / width, total / width, SLOPES[kind]
    np.testing.assert_allclose(step_rotation(net, kind, field), slope * n**0.5, rtol=1e-12)
    for optimiser, expected in (("adam", total**0.5 * n**0.25), ("sgd", total**0.5)):
        found = generator_scale(net, kind, field, optimiser=optimiser)
        assert found == pytest.approx(STEP / slope / expected if total else 1.0, rel=1e-12)


@given(networks(max_width=9, screens=True), FIELDS)
def test_omitted_generators_do_not_rotate(net, field):
    """The result is the norm of the sum of the remaining skew-symmetric matrices."""
    straight = net.straightened().network
    real, imaginary = np.zeros((2, net.width, net.width))
    for bank, mask in zip(straight.banks, kept_generators(net, field=field).kept, strict=True):
        for wires, row in zip(bank.reads.tolist(), mask, strict=True):
            pairs = list(itertools.combinations(wires, 2))
            for total, part in ((real, row[: len(pairs)]), (imaginary, row[len(pairs) :])):
                for (i, j), is_kept in zip(pairs, part, strict=False):
                    total[i, j] += is_kept
                    total[j, i] += is_kept
            if field == "complex":
                imaginary[wires, wires] += row[2 * len(pairs) :]
    expected = ((real**2).sum() + (imaginary**2).sum()) / net.width
    found = step_rotation(net, "exp", field, reduced=True)
    np.testing.assert_allclose(found, expected**0.5, rtol=1e-12)
    assert found <= step_rotation(net, "exp", field) * (1 + 1e-12)


@given(networks(), KINDS, FIELDS, st.integers(1, 4))
def test_repetition_multiplies_the_rotation(net, kind, field, times):
    """Straight networks repeated m times rotate m times as far: all copies take equal steps."""
    straight = net.straightened().network
    once, often = (step_rotation(n, kind, field) for n in (straight, straight.repeat(times)))
    assert often == pytest.approx(times * once, rel=1e-12)
    if count_generators(net, field=field):
        once, often = (generator_scale(n, kind, field) for n in (straight, straight.repeat(times)))
        assert often == pytest.approx(once / times, rel=1e-12)


@given(networks(max_width=9), KINDS, seeds())
@settings(max_examples=30)
def test_a_scale_multiplies_the_rate_of_adam_and_its_square_that_of_sgd(net, kind, seed):
    """Training scaled generators at one rate equals training plain ones at another."""
    if net.parameters == 0:
        return
    scale, seed = generator_scale(net, kind), seed % 2**31
    for optimiser, factor in ((torch.optim.Adam, scale), (torch.optim.SGD, scale**2)):
        scaled, plain = (
            rotated(net, kind, "real", scale=s, optimiser=optimiser, rate=rate, seed=seed)
            for s, rate in ((scale, 1e-2), (1.0, 1e-2 * factor))
        )
        assert scaled == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("ask", [generator_scale, step_rotation])
def test_wrong_arguments_are_refused(ask):
    net = sm.butterfly(4)
    with pytest.raises(BlockError, match=r"^parametrization='cayly': no such .* mean cayley"):
        ask(net, "cayly")
    with pytest.raises(BlockError, match=r"^parametrization=\['exp'\]: no such parametrization"):
        ask(net, ["exp"])
    with pytest.raises(StructmatError, match=r"^field='quaternion': it must be"):
        ask(net, field="quaternion")
    name = ask.__name__
    with pytest.raises(StructmatError, match=rf"^{name} of 'butterfly': it takes a network"):
        ask("butterfly")


def test_unknown_optimisers_are_refused():
    with pytest.raises(StructmatError, match=r"^optimiser='lion': it must be \"adam\", for adapt"):
        generator_scale(sm.butterfly(4), optimiser="lion")
