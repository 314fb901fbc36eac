"""Heat maps and patterns against the matrices and the paths themselves."""

from __future__ import annotations

from functools import reduce
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from matplotlib.figure import Figure

import structmat as sm
from structmat import viz
from structmat.linalg import factors as stagewise
from structmat.testing import networks

NETWORKS = {
    "butterfly": sm.butterfly(16, block=4),
    "wired": sm.benes(8),
    "idle wires": sm.Network.of(6, [[[5, 2, 3, 0], [1, 4]], [[0, 3]]]),
    "wide": sm.shuffle(64, block=8),
    "no stage": sm.Network(3),
}


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_sparsity_shows_factors_and_products(net):
    ax = viz.sparsity(net)
    assert len(ax.images) == (2 * net.depth or 1)
    blocks = sm.random_blocks(net, rng=0)
    for t, factor in enumerate(stagewise.factors(net, blocks)):
        shown = [(image.get_array() < 1).any(axis=2) for image in ax.images[2 * t : 2 * t + 2]]
        np.testing.assert_array_equal(shown[0], factor.toarray() != 0)
        np.testing.assert_array_equal(shown[1], sm.reach(net[: t + 1]))
        share = 100 * sm.reach(net[: t + 1]).mean()
        assert abs(float(shares(ax)[t].rstrip("%")) - share) < 0.1


def shares(ax):
    return [text.get_text() for text in ax.texts if "%" in text.get_text()]


def test_sparsity_of_no_stages_is_the_identity():
    [image] = viz.sparsity(sm.Network(5)).images
    np.testing.assert_array_equal((image.get_array() < 1).any(axis=2), np.eye(5))


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4, 15, 40, 100])
@pytest.mark.parametrize("own", [True, False])
def test_sparsity_titles_fit_and_do_not_overlap(depth, own):
    net = sm.butterfly(4).repeat(100)[:depth]
    given = Figure(figsize=(9, 5)).subplots(1, 2)[0]
    ax = viz.sparsity(net, ax=None if own else given)
    ax.figure.draw_without_rendering()
    names = [text.get_window_extent() for text in [*ax.get_yticklabels(), *ax.texts]]
    panels = [image.get_window_extent() for image in ax.images]
    paper = ax.figure.bbox
    for box in names + panels:
        assert paper.x0 <= box.x0 < box.x1 <= paper.x1
        assert paper.y0 <= box.y0 < box.y1 <= paper.y1
    if own:
        assert not any(a.overlaps(b) for a, b in combinations(names, 2))
        assert min(panel.width for panel in panels) > 0.4 * ax.figure.dpi
        assert max(ax.figure.get_size_inches()) < 25


def test_sparsity_of_a_wide_network_averages_cells():
    net = sm.shuffle(768, block=8, depth=1)  # 3 entries a cell side; blocks of 8 on the diagonal
    ax = viz.sparsity(net)
    shade = 1 - ax.images[1].get_array()[:, :, 0]
    assert shade.shape == (256, 256)
    full = 1 - int("33", 16) / 255
    assert shade.mean() / full == pytest.approx(8 / 768)
    assert shade[0, 0] == pytest.approx(full)


def test_an_almost_full_entry_is_not_shown_as_full():
    net = sm.Network.of(64, [[[*range(63)]], [[*range(62), 63]]])  # 63 never reaches 62
    assert (~sm.reach(net)).sum() == 1
    assert shares(viz.sparsity(net))[-1] == "99.9%"


@settings(deadline=None, max_examples=30)
@given(networks(max_width=8, wired=False))
def test_reach_shows_the_first_column_that_an_input_influences(net):
    shown = viz.reach(net).images[0].get_array()
    graph = net.to_networkx()
    for j in range(net.width):
        after = nx.descendants(graph, (0, j)) | {(0, j)}
        for i in range(net.width):
            times = [t for t, wire in after if wire == i]
            assert shown[i, j] is np.ma.masked if not times else shown[i, j] == min(times)


@settings(deadline=None, max_examples=20)
@given(networks(max_width=8))
def test_reach_is_pale_exactly_where_there_is_no_path(net):
    shown = viz.reach(net).images[0].get_array()
    np.testing.assert_array_equal(~np.ma.getmaskarray(shown), sm.reach(net))


@settings(deadline=None, max_examples=30)
@given(networks(max_width=8))
def test_path_counts_are_products_of_the_patterns(net):
    shown = viz.paths(net).images[0].get_array()
    patterns = [abs(f.toarray()) > 0 for f in stagewise.factors(net, sm.random_blocks(net, rng=0))]
    counts = reduce(lambda so_far, p: p.astype(float) @ so_far, patterns, np.eye(net.width))
    np.testing.assert_allclose(np.ma.filled(10**shown, 0), counts, rtol=1e-9)


def test_numbers_are_shown_where_they_fit():
    small, wide = viz.reach(sm.butterfly(8)), viz.reach(sm.butterfly(32))
    assert sorted({text.get_text() for text in small.texts}) == ["0", "1", "2", "3"]
    assert (len(small.texts), len(wide.texts)) == (64, 0)


def test_numbers_contrast_with_their_background():
    """Contrast of at least 3 to 1, as web guidelines require for large text."""
    ax = viz.reach(sm.brickwall(12))
    [image] = ax.images
    for text in ax.texts:
        column, row = map(int, text.get_position())
        behind = image.to_rgba(image.get_array()[row, column])[:3]
        front = {"white": (1, 1, 1)}.get(text.get_color(), (0.2, 0.2, 0.2))
        light, dark = sorted((luminance(front), luminance(behind)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3


def luminance(rgb):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("draw", [viz.reach, viz.paths])
def test_matrices_name_their_wires(draw):
    labels = [f"wire {k}" for k in range(48)]
    for width, every in ((12, 1), (48, 2)):
        ax = draw(sm.Network(width, sm.brickwall(width, depth=2).stages, labels=labels[:width]))
        for ticks in (ax.get_xticklabels(), ax.get_yticklabels()):
            assert [tick.get_text() for tick in ticks] == labels[:width:every]
        assert ax.get_yticks().tolist() == list(range(0, width, every))
    assert [tick.get_text() for tick in draw(sm.butterfly(4)).get_xticklabels()] == list("0123")


def test_a_cell_of_a_wide_network_shows_its_extremes():
    net = sm.block_diagonal(768, 2)  # 3 entries a cell side: a cell on the diagonal is never full
    latest = viz.reach(net).images[0].get_array()
    assert latest.shape == (256, 256)
    assert latest.count() == 0
    most = viz.paths(net).images[0].get_array()
    assert most[0, 0] == 0
    assert most.count() < 256 * 4


def test_path_counts_beyond_float_range_are_drawn():
    net = sm.Network.of(2, [[[0, 1]]] * 1100)
    assert viz.paths(net).images[0].get_array()[0, 0] == pytest.approx(1099 * np.log10(2))
