"""Switches of radix 1: without effect for rotations, and phases for unitary blocks."""

import pickle

import numpy as np
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat import Bank, Network, Stage
from structmat.graph import from_layers
from structmat.linalg.blocks import generators_per_block, skew
from structmat.testing import assert_orthogonal, blocks_for, networks, seeds, stages

screened = networks(max_width=8, screens=True)


def bare(net):
    """Return the network with wires in place of the switches of radix 1."""

    def one(stage):
        single = [bank for bank in stage.banks if bank.radix == 1]
        moves = [np.stack([b.reads[:, 0], b.writes[:, 0]], axis=1) for b in single]
        wide = [bank for bank in stage.banks if bank.radix > 1]
        return Stage(stage.width, wide, np.concatenate([stage.moves, *moves]))

    return Network(net.width, map(one, net.stages))


def wide_blocks(net, blocks):
    return [block for bank, block in zip(net.banks, blocks, strict=True) if bank.radix > 1]


def test_a_phase_screen():
    screen = Stage.of(3, [[0], [1], [2]])
    assert (screen.parameters, screen.nonzeros, screen.idle.tolist()) == (0, 3, [])
    assert screen.banks == (Bank([[0], [1], [2]]),)
    net = Network(3, [screen])
    assert (net.parameters, net.free_edges) == (0, 0)
    phases = np.exp(1j * np.array([0.1, 0.2, 0.3]))
    made = sm.Rotation(net, [phases[:, None, None]])
    assert made.parameters == 3
    assert np.array_equal(made.matrix(), np.diag(phases))
    assert [generators_per_block(1, field=f) for f in ("real", "complex")] == [0, 1]
    assert skew([0.5], 1).tolist() == [[0.5j]]


def test_a_moved_wire_can_have_a_phase():
    net = Network(2, [Stage(2, [Bank([[0], [1]], [[1], [0]])])])
    made = sm.Rotation(net, [np.array([[[1j]], [[-1.0]]])])
    assert np.array_equal(made.matrix(), [[0, -1], [1j, 0]])


@given(screened)
def test_parts_and_files_keep_the_switches(net):
    assert Network.from_json(net.to_json()) == net
    assert pickle.loads(pickle.dumps(net)) == net  # noqa: S301
    assert net.inverse().inverse() == net
    switches = sum(bank.count for bank in net.banks)
    assert (net == bare(net)) == all(bank.radix > 1 for bank in net.banks)
    for changed in (net.repeat(2), net.direct_sum(net), net.product(Network(2))):
        assert sum(bank.count for bank in changed.banks) == 2 * switches
    assert sum(bank.count for bank in net.straightened().network.banks) == switches


@given(screened)
def test_the_grid_graph_keeps_the_switches(net):
    def described(net):
        parts = []
        for stage in net.stages:
            pairs = [pair for b in stage.banks for pair in zip(b.reads, b.writes, strict=True)]
            rows = sorted((sorted(a.tolist()), sorted(b.tolist())) for a, b in pairs)
            parts.append((rows, stage.moves.tolist()))
        return parts

    assert described(from_layers(net.to_networkx())) == described(net)


@given(screened, st.data())
def test_matrices_are_products_of_dense_factors(net, data):
    blocks = data.draw(blocks_for(net, data.draw(st.sampled_from([float, complex]))))
    rest = iter(blocks)
    expected = np.eye(net.width)
    for stage in net.stages:
        factor = np.zeros((net.width, net.width), dtype=complex)
        source, target = stage.passing
        factor[target, source] = 1
        for bank in stage.banks:
            for reads, writes, block in zip(bank.reads, bank.writes, next(rest), strict=True):
                factor[np.ix_(writes, reads)] = block
        expected = factor @ expected
    rotation = sm.Rotation(net, blocks)
    assert_orthogonal(rotation.matrix(), ulps=50 * (net.depth + 1))
    assert np.allclose(rotation.matrix(), expected, atol=1e-13)
    assert np.allclose(rotation.H.matrix(), expected.conj().T, atol=1e-13)


@given(screened, seeds())
def test_without_effect_on_rotations(net, seed):
    """Every property of a network with real blocks is that of the network without them."""
    plain = bare(net)
    blocks = sm.random_blocks(net, seed)
    assert np.array_equal(
        sm.Rotation(net, blocks).matrix(), sm.Rotation(plain, wide_blocks(net, blocks)).matrix()
    )
    assert (net.parameters, net.nonzeros) == (plain.parameters, plain.nonzeros)
    assert np.array_equal(sm.reach(net), sm.reach(plain))
    assert np.array_equal(sm.path_counts(net), sm.path_counts(plain))
    assert sm.dimension(net).to_dict() == sm.dimension(plain).to_dict()
    assert sm.reduced(net).parameters == sm.reduced(plain).parameters
    assert np.isclose(sm.mixing(net), sm.mixing(plain), atol=1e-12)
    assert sm.lower_bounds(net).to_dict()["rows"][0] == sm.lower_bounds(plain).to_dict()["rows"][0]
    half = np.arange(net.width // 2)
    assert sm.rank_bound(net, half, half) == sm.rank_bound(plain, half, half)


@given(screened, st.data())
def test_routing_is_unaffected(net, data):
    p = data.draw(st.permutations(range(net.width)))

    def routed(net):
        try:
            return sm.Rotation(net, sm.route(net, p)).matrix()
        except sm.errors.RoutingError:
            return None

    found, expected = routed(net), routed(bare(net))
    assert (found is None) == (expected is None)
    assert found is None or np.array_equal(found, np.eye(net.width)[p])


@given(networks(max_width=6, max_depth=3, screens=True), seeds())
def test_relabelled_networks_are_isomorphic(net, seed):
    places = np.random.default_rng(seed).permutation(net.width)
    assert sm.isomorphism(net, net.relabel(places), ends=True) is not None
    plain = bare(net)
    if net != plain:  # a switch of radix 1 is not a wire
        assert sm.isomorphism(net, plain, ends=True) is None


@given(stages(screens=True))
def test_stages_are_drawn_with_them(stage):
    assert sm.Network(stage.width, [stage]).depth == 1


def test_pictures_show_them():
    net = Network.of(4, [[[0, 2]], [[0], [1], [3]]])
    assert sm.diagram(net).splitlines() == [
        "    B1  B2",
        "0 ──●───●─────",
        "1 ──┼─────●───",
        "2 ──●─────────",
        "3 ──────●─────",
    ]
    assert 'stroke="#0072B2"' in net._repr_html_()
    wide = Network.of(65, [[[w] for w in range(65)]])
    assert sm.diagram(wide) == "B1  65 switches of radix 1"
    assert net.plot() is not None


@settings(max_examples=30)
@given(networks(max_width=6, max_depth=3, screens=True, wired=False), seeds())
def test_matrices_of_a_network_are_fitted(net, seed):
    """The phases of a target on wires in no wider switch are attained by those of radix 1."""
    blocks = sm.random_blocks(net, seed, complex)
    target = sm.Rotation(net, blocks).matrix()
    found = sm.fit(net, target, rng=0, start=blocks)
    assert found.error < 1e-13
    alone = Network.of(net.width, [[[w] for w in range(net.width)]])
    phases = np.exp(1j * np.random.default_rng(seed).uniform(-4, 4, net.width))
    found = sm.fit(alone, np.diag(phases), rng=0)
    assert found.exact
    assert found.error < 1e-15


def test_a_screen_does_not_prevent_direct_methods():
    from structmat.families import butterfly, ruler

    screen = Network.of(8, [[[w] for w in range(8)]])
    target = scipy.stats.unitary_group.rvs(8, random_state=0)
    found = sm.fit(screen.then(ruler(8)).then(screen), target)
    assert (found.method, found.exact) == ("cosine–sine decomposition", True)
    net = butterfly(8).then(screen)
    member = sm.Rotation(net, sm.random_blocks(net, 0, complex)).matrix()
    assert sm.fit(net, member).method == "hierarchical SVD"


@settings(max_examples=30)
@given(networks(max_width=5, max_depth=2, screens=True, wired=False), seeds(), st.booleans())
def test_the_bound_on_the_error_holds(net, seed, real):
    """No blocks are nearer to a target than the bound, which is attained by a phase screen."""
    source = np.random.default_rng(seed)
    shape = (net.width, net.width)
    normal = source.standard_normal(shape)
    target = np.linalg.qr(normal if real else normal + 1j * source.standard_normal(shape))[0]
    found = sm.fit(net, target, rng=seed, starts=2, sweeps=20)
    assert found.lower_bound <= found.error + 1e-12
    negative = Network.of(1, [[[0]]])
    assert sm.fit(negative, [[-1.0]]).error == 0
    assert sm.fit(negative, [[-1.0]], special=True).error == 2
