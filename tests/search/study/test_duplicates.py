"""Equivalent networks share a key, and no other networks count as equivalent."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage
from structmat.search.objectives import OBJECTIVES, objective, requirement
from structmat.search.study.duplicates import are_invariant, equivalent, key
from structmat.testing import networks, seeds


def shuffled(net, rng):
    """Return the same network with its switches, and the wires of each, in another order."""

    def other(bank):
        rows, columns = rng.permutation(bank.count), rng.permutation(bank.radix)
        return Bank(bank.reads[rows][:, columns], bank.writes[rows][:, columns])

    return Network(net.width, [Stage(s.width, map(other, s.banks), s.moves) for s in net])


@settings(max_examples=40, deadline=None)
@given(networks(), seeds(), st.booleans())
def test_the_order_of_switches_does_not_change_the_key(net, seed, relabelled):
    other = shuffled(net, np.random.default_rng(seed))
    assert key(net, relabelled=relabelled) == key(other, relabelled=relabelled)
    assert equivalent(net, other, relabelled=relabelled)


@settings(max_examples=40, deadline=None)
@given(networks(wired=False), seeds())
def test_a_relabelling_changes_the_key_only_where_labels_matter(net, seed):
    rng = np.random.default_rng(seed)
    other = shuffled(net.relabel(rng.permutation(net.width)), rng)
    assert key(net, relabelled=True) == key(other, relabelled=True)
    assert equivalent(net, other, relabelled=True)
    same = key(net, relabelled=False) == key(other, relabelled=False)
    assert same is equivalent(net, other, relabelled=False)


@settings(max_examples=40, deadline=None)
@given(seeds(), st.integers(2, 4), st.integers(2, 4))
def test_the_key_distinguishes_networks_of_full_stages(seed, depth, block):
    """Few of these networks are isomorphic, but in each of them all wires look alike at first."""
    a, b = (sm.random(2 * block, block=block, depth=depth, rng=seed + k) for k in range(2))
    assume(sm.isomorphism(a, b) is None)
    assert not equivalent(a, b, relabelled=True)
    if block == 2:
        assert key(a, relabelled=True) != key(b, relabelled=True)


@settings(max_examples=40, deadline=None)
@given(networks(wired=False, max_width=8, max_depth=3), seeds())
def test_invariant_objectives_do_not_depend_on_the_labels_of_the_wires(net, seed):
    assume(net.width > 1)
    other = net.relabel(np.random.default_rng(seed).permutation(net.width))
    for name in OBJECTIVES:
        if name != "fit_error" and are_invariant([objective(name)]):
            values = [objective(name).measure(one) for one in (net, other)]
            np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-9, err_msg=name)


def test_functions_and_samples_are_not_invariant():
    def mixing(net):
        return 0.0

    assert not are_invariant([objective(mixing)])
    assert not are_invariant([objective("mixing"), requirement("conditioning>=0.1")])
    assert are_invariant([objective("mixing"), requirement("universal"), requirement("dense")])
