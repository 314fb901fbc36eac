"""Plan caches belong to one wiring each."""

import structmat as sm
from structmat.nn.ops.plan_cache import cache_for


def test_a_phase_screen_and_a_crossing_have_different_keys():
    """The arrays of both wirings contain the same numbers in the same order: 0, 1, 1, 0."""
    crossing = sm.Stage(2, [sm.Bank([[0], [1]], [[1], [0]])])
    passing = sm.Stage(2, [sm.Bank([[0]], [[1]])], [[1, 0]])
    caches = [cache_for(sm.Network(2, [stage])) for stage in (crossing, passing)]
    assert caches[0].key != caches[1].key
