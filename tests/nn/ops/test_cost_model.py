"""The ways to run a network: whole partitions, the cheapest one first, and what is said of them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.linalg.fusion import merged, unions
from structmat.nn.ops.cost_model import LIMITS, RATES, bucket, choices, explain, turns_weight
from structmat.testing import networks

TOKENS = st.sampled_from([0, 1, 7, 64, 2048, 10**6])


@given(networks(max_width=20, max_depth=6), TOKENS, st.booleans(), st.sampled_from(sorted(RATES)))
def test_every_way_is_a_partition_into_unions(net, tokens, reuse, device):
    ways = choices(net, tokens, reuse=reuse, device=device)
    assert len(ways) == len({way.ends for way in ways}) <= len(LIMITS)
    for way in ways:
        runs = list(zip((0, *way.ends), way.ends, strict=False))
        assert all(run in unions(net) for run in runs)
        assert (way.ends[-1] if way.ends else 0) == net.depth
        assert merged(net, way.ends).network.width == net.width
    seconds = [way.cost.seconds for way in ways]
    assert seconds == sorted(seconds)


@given(networks(max_width=12, max_depth=5), TOKENS)
def test_the_first_way_is_the_cheapest_of_all_partitions(net, tokens):
    """An oracle by exhaustion: no partition into unions is cheaper than the one that is found."""
    found = unions(net)
    cost = {}
    for first, end in found:  # what a run costs, from the ways of the network that it is
        straight, _, _ = net.straightened()
        ways = [w for w in choices(straight[first:end], tokens) if w.ends == (end - first,)]
        cost[first, end] = ways[0].cost.seconds if ways else None
    best = choices(net, tokens)[0].cost.seconds
    for cuts in itertools.product([False, True], repeat=max(net.depth - 1, 0)):
        ends = [k + 1 for k, cut in enumerate(cuts) if cut] + [net.depth] * (net.depth > 0)
        parts = [cost.get(run) for run in zip([0, *ends], ends, strict=False)]
        if None not in parts:
            assert best <= sum(parts) * (1 + 1e-9)


def test_few_vectors_merge_nothing_and_many_do():
    net = sm.butterfly(4096)
    assert choices(net, 1)[0].radices == (2,) * 12
    assert choices(net, 2048)[0].radices == (16, 16, 16)
    assert max(choices(net, 1, reuse=True)[0].radices) > 2  # multiplied out once, used often


def test_costs_grow_with_the_vectors_and_count_what_they_say():
    net = sm.monarch(64)
    one, ten = (choices(net, n)[0].cost for n in (1, 10))
    assert ten.flops == 10 * one.flops == 10 * 2 * 64 * (8 + 8)
    assert one.launches == ten.launches == 4
    assert one.seconds < ten.seconds
    half = choices(net, 10, itemsize=2)[0].cost
    assert 2 * half.bytes == ten.bytes


@given(networks(max_width=16, max_depth=5), st.integers(1, 5000))
def test_every_way_is_explained(net, tokens):
    text = explain(net, tokens)
    assert "→ " in text
    assert "nothing was measured" in text
    for way in choices(net, tokens):
        assert str(way) in text


def test_what_was_measured_is_said():
    net = sm.butterfly(64)
    ways = choices(net, 5000)
    text = explain(net, 5000, chosen=ways[-1], measured={ways[-1]: 0.00125})
    assert "1.25" in text
    assert "measured here" in text
    assert f"→ {ways[-1]}" in text


@pytest.mark.parametrize("tokens", [-1, 1.5, "many"])
def test_explain_refuses_what_is_no_number_of_vectors(tokens):
    with pytest.raises(sm.StructmatError, match="tokens"):
        explain(sm.butterfly(4), tokens)


@given(networks(max_width=20, max_depth=5), st.integers(1, 5000), st.integers(1, 5000))
def test_a_weight_is_turned_only_if_it_has_fewer_rows(net, tokens, outputs):
    if turns_weight(net, tokens, outputs):
        assert outputs < tokens
        assert "weight is rotated" in explain(net, tokens, outputs=outputs)
    assert not turns_weight(net, tokens, tokens)


def test_no_weight_of_a_wide_layer_is_turned():
    """Its product with the vectors costs more than any rotation, and its memory is d²."""
    for width in (4096, 16_384):
        for tokens in (1, 2048, 10**6):
            assert not turns_weight(sm.butterfly(width), tokens, width)


@given(st.integers(1, 10**7))
def test_a_bucket_is_the_next_power_of_two(n):
    assert n <= bucket(n) < 2 * n or n == 1
    assert bucket(n).bit_count() == 1
