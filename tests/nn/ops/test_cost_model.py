"""Candidate plans partition the stages and are sorted by cost."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.linalg.fused_stages import fused, unions
from structmat.linalg.throughput import RATES
from structmat.nn.ops.cost_model import LIMITS, bucket, candidates, rotates_weight
from structmat.testing import networks

TOKENS = st.sampled_from([0, 1, 7, 64, 2048, 10**6])


@given(
    networks(max_width=20, max_depth=6, screens=True),
    TOKENS,
    st.booleans(),
    st.sampled_from(sorted(RATES)),
)
def test_every_plan_partitions_the_stages_into_fusible_runs(net, tokens, reuse, device):
    plans = candidates(net, tokens, reuse=reuse, device=device)
    assert len(plans) == len({plan.ends for plan in plans}) <= len(LIMITS)
    for plan in plans:
        runs = list(zip((0, *plan.ends), plan.ends, strict=False))
        assert all(run in unions(net) for run in runs)
        assert (plan.ends[-1] if plan.ends else 0) == net.depth
        assert fused(net, plan.ends).network.width == net.width
    seconds = [plan.seconds for plan in plans]
    assert seconds == sorted(seconds)


@given(networks(max_width=12, max_depth=5, screens=True), TOKENS)
def test_the_first_plan_is_the_cheapest_of_all_partitions(net, tokens):
    """Exhaustive search finds no cheaper partition into fusible runs."""
    found = unions(net)
    cost = {}
    for first, end in found:  # what a run costs, from the plans of the network that it is
        straight, _, _ = net.straightened()
        plans = [w for w in candidates(straight[first:end], tokens) if w.ends == (end - first,)]
        cost[first, end] = plans[0].seconds if plans else None
    best = candidates(net, tokens)[0].seconds
    for cuts in itertools.product([False, True], repeat=max(net.depth - 1, 0)):
        ends = [k + 1 for k, cut in enumerate(cuts) if cut] + [net.depth] * (net.depth > 0)
        parts = [cost.get(run) for run in zip([0, *ends], ends, strict=False)]
        if None not in parts:
            assert best <= sum(parts) * (1 + 1e-9)


def test_stages_are_fused_for_many_vectors_only():
    net = sm.butterfly(4096)
    assert candidates(net, 1)[0].radices == (2,) * 12
    assert candidates(net, 2048)[0].radices == (16, 16, 16)
    assert max(candidates(net, 1, reuse=True)[0].radices) > 2  # fused once, used often


def test_costs_are_correct_and_proportional_to_the_number_of_vectors():
    net = sm.monarch(64)
    first, tenfold = (candidates(net, n)[0] for n in (1, 10))
    one, ten = first.cost, tenfold.cost
    assert ten.flops == 10 * one.flops == 10 * 2 * 64 * (8 + 8)
    assert one.launches == ten.launches == 4
    assert first.seconds < tenfold.seconds
    half = candidates(net, 10, itemsize=2)[0].cost
    assert 2 * half.bytes == ten.bytes


@given(
    networks(max_width=20, max_depth=5, screens=True), st.integers(1, 5000), st.integers(1, 5000)
)
def test_a_weight_is_rotated_only_if_it_has_fewer_rows(net, tokens, outputs):
    if rotates_weight(net, tokens, outputs):
        assert outputs < tokens
    assert not rotates_weight(net, tokens, tokens)


def test_the_weight_of_a_wide_layer_is_never_rotated():
    """Its product with the vectors costs more than any rotation, and it needs d² memory."""
    for width in (4096, 16_384):
        for tokens in (1, 2048, 10**6):
            assert not rotates_weight(sm.butterfly(width), tokens, width)


@given(st.integers(1, 10**7))
def test_a_bucket_is_the_next_power_of_two(n):
    assert n <= bucket(n) < 2 * n or n == 1
    assert bucket(n).bit_count() == 1
