"""Dimensions against exact ranks computed another way, and the laws that they obey."""

import itertools
from collections import Counter, defaultdict
from math import comb

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis.dimension import Dimension, tangents
from structmat.analysis.switch_lists import normal_form, upper_bound
from structmat.errors import StructmatError
from structmat.linalg import modular
from structmat.linalg.modular import MERSENNE
from structmat.testing import networks, seeds
from structmat.testing.members import cases

PRIME = 2**27 - 39  # another than the library's


def exact_rank(net, seed=0, kept=None):
    """Return the rank of d² entries by all kept generators, by the product rule, modulo PRIME."""
    masks = iter(
        [np.ones((b.count, comb(b.radix, 2)), bool) for b in net.banks] if kept is None else kept
    )
    rng = np.random.default_rng(seed)
    width = net.width
    one = np.eye(width, dtype=np.int64)
    factors, moves = [], []
    for stage in net.stages:
        factor = np.zeros_like(one)
        factor[stage.passing[1], stage.passing[0]] = 1
        rotated = []
        for bank in stage.banks:
            for reads, writes, mask in zip(bank.reads, bank.writes, next(masks), strict=True):
                block, changes = cayley_and_changes(bank.radix, rng, mask)
                factor[np.ix_(writes, reads)] = block
                for change in changes:
                    move = np.zeros_like(one)
                    move[np.ix_(writes, reads)] = change
                    rotated.append(move)
        factors.append(factor)
        moves.append(rotated)
    before = [one]
    for factor in factors:
        before.append(factor @ before[-1] % PRIME)
    after = [one]
    for factor in reversed(factors):
        after.append(after[-1] @ factor % PRIME)
    rows = []
    for t, rotated in enumerate(moves):
        left = after[len(factors) - 1 - t]
        rows += [(left @ (move @ before[t] % PRIME) % PRIME).ravel().tolist() for move in rotated]
    if not rows:
        return 0
    return flint.nmod_mat(len(rows), width * width, list(itertools.chain(*rows)), PRIME).rank()


def cayley_and_changes(radix, rng, mask):
    """Return (I + Q)(I − Q)⁻¹ mod PRIME of a random Q, and its derivative by kept generators."""
    q = np.zeros((radix, radix), dtype=np.int64)
    q[np.triu_indices(radix, 1)] = rng.integers(0, PRIME, len(mask)) * mask
    q -= q.T
    one = np.eye(radix, dtype=np.int64)
    flat = [int(x) for x in ((one - q) % PRIME).ravel()]
    inverse = flint.nmod_mat(radix, radix, flat, PRIME).inv()
    m = np.array([[int(inverse[i, j]) for j in range(radix)] for i in range(radix)])
    block = (one + q) % PRIME @ m % PRIME
    changes = []
    for i, j in itertools.compress(itertools.combinations(range(radix), 2), mask):
        e = np.zeros_like(one)
        e[i, j], e[j, i] = 1, PRIME - 1
        # d[(I + Q) M] = dQ M + (I + Q) M dQ M
        changes.append((e @ m + block @ (e @ m % PRIME)) % PRIME)
    return block, changes


def member(entry, width):
    """Return some networks of a family at a width, straightened."""
    from structmat.testing.members import tried

    found = []
    for rule in tried(entry, width, 3):
        try:
            taken = rule.accepts(width)
        except StructmatError:
            continue
        if taken:
            net = rule(width)
            if net.parameters <= 3 * comb(width, 2):
                found.append(net)
    return found[:: -(-len(found) // 4) or 1]


@pytest.mark.parametrize("entry", sm.catalogue(), ids=lambda entry: entry.name)
@pytest.mark.parametrize("width", [8, 16])
def test_every_family_has_its_exact_dimension(entry, width):
    for net in member(entry, width):
        found = sm.dimension(net)
        assert found.lower <= exact_rank(net) <= found.upper
        assert found.value == exact_rank(net), net


@settings(max_examples=200)
@given(networks(max_width=8, max_depth=5, screens=True), seeds())
def test_random_networks_have_their_exact_dimension(net, seed):
    found = sm.dimension(net, rng=seed)
    exact = exact_rank(net, seed)
    assert found.value == exact
    assert found.lower <= exact <= found.upper
    assert found.value <= min(net.parameters, comb(net.width, 2))
    assert found.redundant == net.parameters - found.value >= 0
    assert found.parameters == net.parameters
    assert ever_together(net) <= found.value  # T2, the rank at the identity


def ever_together(net):
    """Return how many pairs of wires ever share a switch."""
    pairs = [
        pair
        for stage in net.straightened().network.stages
        for b in stage.banks
        for row in b.reads.tolist()
        for pair in itertools.combinations(sorted(row), 2)
    ]
    return len(set(pairs))


@given(networks(max_width=8, max_depth=5, screens=True))
def test_the_bounds_hold_without_a_rank_computation(net):
    quick, found = sm.dimension(net, largest=0), sm.dimension(net)
    assert quick.lower == ever_together(net) <= found.value <= quick.upper == upper_bound(net)
    assert quick.ranked is quick.proved
    assert found.ranked
    assert quick.to_dict()["ranked"] is quick.ranked


@pytest.mark.parametrize(
    "spec",
    [
        "block_diagonal(block=16)",
        "butterfly(block=8, depth=2)",
        "mixed_radix(largest=4)",
        "monarch",
        "random(block=8, depth=2, rng=0)",
    ],
)
def test_wide_networks_are_proved_without_a_rank_computation(monkeypatch, spec):
    monkeypatch.setattr(modular, "rank", None)
    assert sm.dimension(sm.parse(spec)(1536)).proved
    assert sm.dimension(sm.families.round_robin(64)).proved


def test_the_rank_is_skipped_only_above_the_size_limit():
    net = sm.butterfly(8).repeat(2)  # 24 parameters and dimensions, 12 pairs
    assert sm.dimension(net, largest=24).value == 24
    assert sm.dimension(net, largest=23) == Dimension(12, 24, 24, ranked=False)
    both = net.direct_sum(sm.butterfly(4).repeat(2))  # 6 of 6 in the smaller part, 4 pairs
    assert sm.dimension(both, largest=8) == Dimension(12 + 6, 24 + 6, 32, ranked=False)


@given(networks(max_width=7, max_depth=4, screens=True))
def test_the_dimension_grows_with_the_stages(net):
    values = [sm.dimension(net[:t]).value for t in range(net.depth + 1)]
    assert values == sorted(values)


@given(
    networks(max_width=6, max_depth=3, screens=True),
    networks(max_width=5, max_depth=3, screens=True),
)
def test_the_dimension_of_a_direct_sum_is_the_sum(a, b):
    both = sm.dimension(a.direct_sum(b))
    one, other = sm.dimension(a), sm.dimension(b)
    assert both.value == one.value + other.value
    assert both.upper == one.upper + other.upper


@given(networks(max_width=7, screens=True), st.data())
def test_the_dimension_is_invariant_under_relabelling_and_inversion(net, data):
    places = data.draw(st.permutations(range(net.width)))
    assert sm.dimension(net.relabel(places)) == sm.dimension(net)
    assert sm.dimension(net.inverse()).value == sm.dimension(net).value


def test_redundancy_is_not_limited_to_neighbouring_stages():
    """Six wires where Σ|E_t| − Σ|E_t ∩ E_{t+1}| is 15 and the dimension 14."""
    stages = [[[5, 2, 3, 0], [1, 4]], [[0, 3], [1, 2], [5, 4]], [[2, 1, 4, 3], [0, 5]]]
    net = sm.Network.of(6, stages)
    pairs = [{p for s in stage for p in itertools.combinations(sorted(s), 2)} for stage in stages]
    plain = sum(map(len, pairs)) - sum(len(a & b) for a, b in itertools.pairwise(pairs))
    assert min(plain, 15) == 15
    found = sm.dimension(net)
    assert (found.value, found.upper, found.proved) == (14, 14, True)
    assert exact_rank(net) == 14


@pytest.mark.parametrize(("block", "depth"), [(2, 4), (4, 1), (4, 3), (8, 3), (8, 2)])
def test_boft_has_the_dimension_of_the_formula(block, depth):
    width = 32
    net = sm.butterfly(width, block, depth)
    formula = depth * width * (block - 1) // 2 - (depth - 1) * width * (block - 2) // 4
    found = sm.dimension(net)
    assert (found.value, found.proved) == (formula, True)
    assert sm.reduced(net).parameters == formula


@pytest.mark.parametrize("radices", [(2, 2, 3), (3, 4), (4, 3, 2), (2, 2, 2, 2)])
def test_mixed_radix_has_no_redundant_parameters(radices):
    found = sm.dimension(sm.mixed_radix(int(np.prod(radices)), radices))
    assert (found.redundant, found.proved) == (0, True)


@pytest.mark.parametrize("spec", ["ruler", "brickwall", "triangle"])
def test_universal_networks_cover_every_rotation(spec):
    found = sm.dimension(sm.parse(spec)(16))
    assert (found.value, found.proved, found.redundant) == (120, True, 0)


def test_a_butterfly_and_its_mirror_image_have_half_a_stage_redundant():
    half = sm.butterfly(16)
    assert sm.dimension(half.then(half.inverse())).redundant == 8
    assert sm.dimension(half.repeat(2)).redundant == 0


@pytest.mark.slow
def test_the_bounds_are_equal_for_all_families_except_random():
    """docs/expressivity.md says so."""
    families = defaultdict(set)  # of each network
    for name, members in cases(max_width=9, max_depth=8).items():
        for rule, width in members:
            families[rule(width)].add(name)
    names = [families[net] for net in families if not sm.dimension(net).proved]
    assert names
    assert all(found == {"random"} for found in names)


def test_wide_networks_of_small_components_are_proved():
    found = sm.dimension(sm.butterfly(4096, block=8, depth=2))
    assert (found.value, found.proved) == (22_528, True)


# Reduced generators ----------------------------------------------------------------------------


@given(networks(max_width=7, max_depth=4, screens=True), seeds())
def test_reduced_generators_lose_no_dimension(net, seed):
    straight = net.straightened().network
    kept = sm.reduced(net).kept
    assert [k.shape for k in kept] == [(b.count, comb(b.radix, 2)) for b in net.banks]
    if not straight.banks:
        return
    rows = tangents(straight, MERSENNE, np.random.default_rng(seed), kept)
    assert len(rows) == sm.reduced(net).parameters
    assert modular.rank(rows, MERSENNE) == sm.dimension(net, rng=seed).value


@given(networks(max_width=7, max_depth=3, screens=True), seeds(), st.floats(0.2, 0.9))
def test_any_subset_of_generators_has_its_exact_rank(net, seed, share):
    rng = np.random.default_rng(seed)
    straight = net.straightened().network
    kept = [rng.random((b.count, comb(b.radix, 2))) < share for b in straight.banks]
    if any(mask.any() for mask in kept):
        rows = tangents(straight, MERSENNE, rng, kept)
        assert modular.rank(rows, MERSENNE) == exact_rank(straight, seed, kept)


def without_redundancy(net):
    """Count parameters minus the redundancy of neighbours, after removing nested switches."""
    stages = net.straightened().network.stages
    gates = [set(row) for stage in stages for b in stage.banks for row in b.reads.tolist()]

    def next_to(k, step):
        """Return by gate how many wires lead to it, and how many lead nowhere."""
        found, open_ = Counter(), set(gates[k])
        for n in range(k + step, len(gates) if step > 0 else -1, step):
            if met := open_ & gates[n]:
                found[n] = len(met)
                open_ -= met
        return found, len(open_)

    def nested(k):
        return any(len(found) == 1 and not ends for found, ends in (next_to(k, 1), next_to(k, -1)))

    while (k := next((k for k in range(len(gates)) if nested(k)), None)) is not None:
        del gates[k]
    own = sum(comb(len(gate), 2) for gate in gates)
    return own - sum(comb(n, 2) for k in range(len(gates)) for n in next_to(k, 1)[0].values())


@settings(max_examples=300)
@given(networks(max_width=8, max_depth=6, screens=True))
def test_reduced_keeps_as_many_generators_as_counting_redundancy_leaves(net):
    kept = sm.reduced(net).parameters
    assert kept == without_redundancy(net)
    assert sm.dimension(net).upper <= kept <= net.parameters


@pytest.mark.parametrize(
    ("width", "stages", "kept"),
    [
        (4, [[[0, 1, 2]], [[0, 3]], [[0, 1, 3]]], 5),  # the second switch is part of the third
        (4, [[[0, 1, 2]], [[0, 1]], [[0, 2, 3]]], 5),  # part of the first
        (5, [[[0, 1, 2]], [[0, 1, 2]], [[2, 3, 4]]], 6),
        (5, [[[0, 1, 2]], [[0, 1, 3], [2, 4]]], 6),  # a redundancy between odd radices, too
        (2, [[[0, 1]], [[0, 1]]], 1),
    ],
)
def test_reduced_removes_nested_switches_and_gauge_redundancy(width, stages, kept):
    net = sm.Network.of(width, stages)
    assert sm.reduced(net).parameters == sm.dimension(net).value == exact_rank(net) == kept


def test_values_of_the_wrong_shape_are_rejected():
    kept = sm.reduced(sm.butterfly(8, block=4))
    with pytest.raises(
        StructmatError, match=r"values of shape \(3,\).*: they must be 20 real numbers"
    ):
        kept.spread([1.0, 2.0, 3.0])
    with pytest.raises(StructmatError, match="20 real numbers"):
        kept.spread([1j] * 20)


# Upper bounds ---------------------------------------------------------------------------------


@given(networks(max_width=8, max_depth=5, screens=True))
def test_absorbing_switches_preserves_the_dimension(net):
    gates = normal_form(net)
    assert sum(comb(len(g.wires), 2) for g in gates) <= net.parameters
    plain = sm.Network.of(net.width, [[sorted(g.wires)] for g in gates])
    assert sm.dimension(plain).value == sm.dimension(net).value
    assert normal_form(plain) == tuple(g._replace(stage=t) for t, g in enumerate(gates))


def test_a_deep_network_on_few_wires_is_bounded_by_one_switch():
    deep = sm.brickwall(4, 9)
    assert upper_bound(deep) == 6
    wide = sm.brickwall(4, 9).direct_sum(sm.brickwall(4, 9)).then(sm.Network.of(8, [[[3, 4]]]))
    assert upper_bound(wide) == 13
    assert sm.dimension(wide).proved


def test_idle_stages_do_not_change_the_bound():
    net = sm.Network.of(4, [[[0, 1]], [], [[2, 3]], [[0, 1]], [[0, 1, 2]]])
    assert upper_bound(net) == sm.dimension(net).value == 4


# Primes and points ----------------------------------------------------------------------------


@given(
    networks(max_width=6, screens=True),
    seeds(),
    st.sampled_from([(3,), (7, 11), (101,), (65_537, MERSENNE)]),
)
def test_the_rank_modulo_any_prime_is_a_lower_bound(net, seed, primes):
    try:
        found = sm.dimension(net, primes=primes, points=3, rng=seed)
    except StructmatError as error:
        assert "no valid point" in str(error)  # noqa: PT017 - small primes only
        assert max(primes) < 50
        return
    assert found.lower <= exact_rank(net) <= found.upper


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 0}, "points=0: points must be an integer ≥ 1"),
        ({"primes": ()}, r"primes=\(\): give at least one"),
        ({"primes": 7}, r"primes=7: it must be a list of primes, such as \[2147483647\]"),
        ({"primes": np.array([], dtype=int)}, "primes=.*: give at least one"),
        ({"primes": np.array([7, 9])}, "prime=9: give an odd prime"),
        ({"primes": (9,)}, "prime=9: give an odd prime"),
        ({"primes": (2,)}, "prime=2"),
        ({"primes": (2**31 + 11,)}, "prime=2147483659: give an odd prime below"),
        ({"rng": "x"}, "rng='x'"),
        ({"largest": -1}, "largest=-1: largest must be an integer ≥ 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(StructmatError, match=message):
        sm.dimension(sm.butterfly(4), **options)


def test_primes_may_be_an_array():
    net = sm.butterfly(4, block=2, depth=2).repeat(2)
    assert sm.dimension(net, primes=np.array([101, 103])) == sm.dimension(net, primes=(101, 103))


@pytest.mark.parametrize(("ask", "net"), [(sm.dimension, 4), (sm.reduced, "x")])
def test_only_networks_have_dimensions(ask, net):
    name = ask.__name__
    with pytest.raises(sm.StructmatError, match=f"^{name} of {net!r}: it takes a network; build"):
        ask(net)
