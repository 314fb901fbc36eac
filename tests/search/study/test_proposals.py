"""Proposals have the given width, respect the limits, and come from all sources."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.families.variants import accepts
from structmat.search.study.proposals import Elite, Space, limits, proposal


class Chosen:
    """A trial that suggests random values, as Optuna does."""

    def __init__(self, rng):
        self.rng, self.params = rng, {}

    def suggest_categorical(self, name, choices):
        return self.params.setdefault(name, choices[self.rng.integers(len(choices))])

    def suggest_int(self, name, low, high):
        return self.params.setdefault(name, int(self.rng.integers(low, high + 1)))

    def suggest_float(self, name, low, high):
        return self.params.setdefault(name, float(self.rng.uniform(low, high)))


def proposed(source, width, seed, *, needs=(), elites=(), suits=lambda _: 0.0):
    rng = np.random.default_rng(seed)
    space = Space(width, None, (), (source,), *limits(width, needs))
    return proposal(space, Chosen(rng), 0, rng, elites, suits)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["families", "free", "edits"]), st.integers(2, 20), st.integers(0, 10**6))
def test_proposals_can_be_rebuilt_from_the_stored_text(source, width, seed):
    made = proposed(source, width, seed)
    assert made.network.width == width
    assert made == proposed(source, width, seed)
    if source == "families":
        assert sm.parse(made.spec)(width) == made.network
        assert accepts(sm.parse(made.spec), width)
    else:
        assert made.network.is_straight
        assert sm.Network.from_json(made.topology) == made.network


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 12), st.integers(2, 4), st.integers(1, 5), st.integers(0, 10**6))
def test_free_networks_obey_the_limits_of_the_requirements(width, radix, depth, seed):
    needs = [f"radix<={radix}", f"depth<={depth}"]
    net = proposed("free", width, seed, needs=needs).network
    assert 1 <= net.depth <= depth
    assert 0 < max(bank.radix for bank in net.banks) <= radix
    edited = proposed("edits", width, seed, needs=needs).network
    assert edited.depth <= depth
    assert max((bank.radix for bank in edited.banks), default=1) <= radix


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_the_most_suitable_edit_of_an_elite_is_proposed(seed):
    seen = []

    def suits(net):
        seen.append((abs(net.parameters - 14), net))
        return seen[-1][0]

    elites = [Elite(7, "butterfly(block=2)"), Elite(9, sm.parse("omega")(8).to_json())]
    made = proposed("edits", 8, seed, elites=elites, suits=suits)
    assert made.parent in (7, 9)
    assert made.network == min(seen, key=lambda pair: pair[0])[1]
    assert len(seen) <= 16
    assert all(missed > 0 for missed, _ in seen[:-1])  # drawing stops at the first suitable edit


@pytest.mark.parametrize("width", [2, 7, 48])
def test_every_family_of_a_width_is_proposed(width):
    space = Space(width, None, (), ("families",), *limits(width, ()))
    for name, specs in space.variants.items():
        assert specs, name
        assert all(accepts(sm.parse(spec), width) for spec in specs)
    listed = {family.name for family in sm.dense_networks(width)}
    assert listed <= set(space.variants)
