"""The strategies draw valid values, and the assertions fail where they should."""

import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.testing import (
    assert_dense,
    assert_orthogonal,
    blocks_for,
    families,
    layers,
    networks,
    seeds,
    stages,
    targets,
)

QUICK = settings(database=None, deadline=None)


@given(networks(max_width=5, max_depth=3))
def test_drawn_networks_respect_the_bounds(net):
    assert 1 <= net.width <= 5
    assert net.depth <= 3


@given(networks(wired=False))
def test_straight_networks_are_straight(net):
    assert net.is_straight


@given(networks(wired=True))
def test_wired_networks_are_wired(net):
    assert not net.is_straight


@pytest.mark.parametrize(
    "wanted",
    [
        lambda net: any(len({b.radix for b in stage.banks}) > 1 for stage in net.stages),
        lambda net: any(
            len(stage.banks) > len({b.radix for b in stage.banks}) for stage in net.stages
        ),
        lambda net: any(len(stage.idle) and stage.banks for stage in net.stages),
        lambda net: any(len(stage.moves) and stage.banks for stage in net.stages),
        lambda net: any(len(stage.moves) and not stage.banks for stage in net.stages),
        lambda net: any(b.count > 1 and not b.is_straight for b in net.banks),
        lambda net: net.depth == 0,
        lambda net: net.width == 1,
    ],
    ids=["radices", "banks", "idle", "moves", "only moves", "wired", "empty", "one wire"],
)
def test_networks_come_in_every_form(wanted):
    find(networks(), wanted, settings=settings(max_examples=2000, phases=[Phase.generate]))


@pytest.mark.parametrize(
    ("wired", "wanted", "width", "depth"),
    [
        (True, lambda net: net.parameters >= 2, 4, 2),
        (True, lambda net: net.depth >= 3, 4, 3),
        (None, lambda net: net.depth >= 2 and sm.is_dense(net), 2, 2),
        (None, lambda net: net.parameters >= 4, 4, 4),
    ],
    ids=["wired", "deep", "dense", "parameters"],
)
def test_networks_shrink_to_small_ones(wired, wanted, width, depth):
    """Shrinking ends at a local minimum, not always at the smallest example."""
    for seed in range(3):
        found = find(networks(wired=wired), wanted, random=random.Random(seed), settings=QUICK)
        assert found.width <= width, seed
        assert found.depth <= depth, seed


@pytest.mark.parametrize("seed", range(5))
def test_targets_shrink_to_permutations(seed):
    """A permutation is a simpler failing example than a dense matrix."""
    rng = random.Random(seed)
    found = find(targets(sm.butterfly(4)), lambda t: t[0, 0] < 0.9, random=rng, settings=QUICK)
    assert set(found.ravel()) == {0, 1}


@pytest.mark.parametrize("entry", sm.catalogue(), ids=lambda entry: entry.name)
def test_every_family_is_drawn(entry):
    find(families(), lambda case: case[0].name == entry.name)
    find(families(max_width=8, max_depth=3), lambda case: case[0].name == entry.name)


@given(families(max_width=16, max_depth=5))
def test_drawn_families_accept_their_widths(case):
    family, width = case
    net = family(width)
    assert net.width == width <= 16
    assert net.depth <= 5
    assert sm.parse(str(family)) == family


@given(
    st.data(), networks(), st.sampled_from([np.float32, np.float64, np.complex64, np.complex128])
)
def test_blocks_for_a_network_are_orthogonal(data, net, dtype):
    blocks = data.draw(blocks_for(net, dtype))
    assert [b.shape for b in blocks] == [(b.count, b.radix, b.radix) for b in net.banks]
    for block in (block for bank in blocks for block in bank):
        assert block.dtype == dtype
        assert_orthogonal(block)


@given(seeds())
def test_seeds_are_valid_numpy_seeds(seed):
    np.random.default_rng(seed)


def test_empty_bounds_are_rejected():
    with pytest.raises(sm.StructmatError, match=r"max_width=1: .* ≥ 2"):
        networks(max_width=1, wired=True)
    with pytest.raises(sm.StructmatError, match="max_depth=-1"):
        networks(max_depth=-1)
    with pytest.raises(sm.StructmatError, match="no family has such a network"):
        families(max_width=1)


@given(st.integers(2, 6), st.data())
def test_assert_orthogonal_reports_the_columns(width, data):
    first, second = data.draw(st.permutations(range(width)))[:2]
    matrix = np.eye(width)
    matrix[first, second] = 1e-6
    low, high = sorted((first, second))
    with pytest.raises(AssertionError, match=f"columns {low} and {high} have product 1e-06"):
        assert_orthogonal(matrix)
    assert_orthogonal(matrix, ulps=1e-6 / np.finfo(float).eps * 1.01)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (2 * np.eye(3), "column 0 has squared norm 4 instead of 1"),
        (np.eye(3)[:2], r"shape \(2, 3\) is not square"),
        (np.full((2, 2), np.nan), "nan"),
        (np.eye(2) * (1 + 1e-7), "squared norm"),
        (np.array([[1, 1j], [1j, 1]]) * (1 + 1e-3) / np.sqrt(2), "squared norm"),
    ],
)
def test_assert_orthogonal_fails(matrix, message):
    with pytest.raises(AssertionError, match=message):
        assert_orthogonal(matrix)


def test_assert_orthogonal_scales_with_the_dtype():
    assert_orthogonal((np.eye(2) * (1 + 1e-6)).astype(np.float32))
    assert_orthogonal([[0, 1], [1, 0]])
    assert_orthogonal(np.array([[1, 1j], [1j, 1]]) / np.sqrt(2))
    with pytest.raises(AssertionError, match="ulps of float32"):
        assert_orthogonal((np.eye(2) * (1 + 1e-4)).astype(np.float32))


@given(networks())
def test_assert_dense_agrees_with_is_dense(net):
    if sm.is_dense(net):
        assert_dense(net)
    else:
        with pytest.raises(AssertionError, match="does not influence output"):
            assert_dense(net)


def test_missing_hypothesis_names_the_extra():
    program = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "try:\n    import structmat.testing\n"
        "except ImportError as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("MissingExtraError hypothesis is not installed")
    assert 'pip install "structmat[testing]"' in done.stdout


# Stages, layers and targets -------------------------------------------------------------------


@given(stages(max_width=5, straight=True))
def test_straight_stages_are_straight(stage):
    assert stage.is_straight
    assert stage.width <= 5


@pytest.mark.parametrize(
    "wanted",
    [
        lambda stage: not stage.is_straight and stage.parameters,
        lambda stage: len(stage.moves) and stage.parameters,
        lambda stage: len(stage.idle) and stage.parameters,
        lambda stage: len({bank.radix for bank in stage.banks}) > 1,
    ],
)
def test_stages_come_in_every_form_and_shrink_to_a_small_one(wanted):
    assert find(stages(), wanted).width <= 5


@pytest.mark.parametrize(
    "words",
    ["1", "3", "depends on no wire", "depend only", "only common", "not form a complete switch"],
)
def test_layers_are_valid_networks_or_invalid_for_every_reason(words):
    def said(graph):
        try:
            return str(sm.from_layers(graph).depth)
        except sm.StructmatError as error:
            return str(error)

    found = find(layers(), lambda graph: words in said(graph), settings=settings(max_examples=5000))
    assert found.graph["width"] <= 6


@given(layers(max_width=4, max_depth=2))
def test_drawn_layers_are_complete_grids(graph):
    width, depth = graph.graph["width"], graph.graph["depth"]
    assert sorted(graph) == [(t, i) for t in range(depth + 1) for i in range(width)]
    assert all(b[0] == a[0] + 1 for a, b in graph.edges)


@given(st.data(), networks(max_width=5), st.booleans())
def test_targets_are_orthogonal(data, net, special):
    target = data.draw(targets(net, special=special))
    assert target.shape == (net.width, net.width)
    assert_orthogonal(target, ulps=100 * (net.depth + 1))
    if special:
        assert np.linalg.det(target) > 0


def test_targets_include_permutations_exact_matrices_and_arbitrary_ones():
    net = sm.butterfly(4)
    reached = sm.reach(sm.Network.of(4, [[[0, 1]]]))
    assert find(targets(net), lambda t: set(t.ravel()) == {0, 1} and t[0, 0] == 0).shape == (4, 4)
    find(targets(sm.Network.of(4, [[[0, 1]]])), lambda t: (t[~reached] == 0).all() and t[0, 1] % 1)
    find(targets(sm.Network.of(4, [[[0, 1]]])), lambda t: (t != 0).all())
