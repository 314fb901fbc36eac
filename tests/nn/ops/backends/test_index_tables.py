"""Index tables of the fused kernels; within a stage no row is shared by two units."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError
from structmat.linalg import factors as stagewise
from structmat.linalg.schedule import schedule
from structmat.nn.ops.backends import triton
from structmat.nn.ops.backends.triton import index_tables
from structmat.testing import networks, seeds

WIDE = networks(max_width=40, max_depth=5, screens=True)


def built(net, *, adjoint=False, keep=False):
    units = index_tables.packed(schedule(net))
    return units, index_tables.route(units, adjoint=adjoint, keep=keep)


def applied(units, route, blocks, x, *, adjoint):
    """Return R x (or Rᵀ x) computed in numpy from the tables alone."""
    flat = np.concatenate([b.ravel() for b in blocks]) if blocks else np.zeros(0)
    strip = np.full((route.height, x.shape[1]), np.nan)
    strip[route.entry] = x
    for first, last in route.spans:
        for unit in range(first, last):
            label = units.labels[unit]
            inside = (label[:, None] == label) & (label >= 0)
            at = units.rows[unit][:, None] + units.columns[unit]
            matrix = np.where(inside, flat[np.where(inside, at, 0)], 0.0)
            used = label >= 0
            values = np.zeros((units.size, x.shape[1]))
            values[used] = strip[route.sources[unit][used]]
            product = (matrix.T if adjoint else matrix) @ values
            strip[route.targets[unit][used]] = product[used]
    return strip[route.leave]


@given(WIDE, seeds(), st.booleans(), st.booleans())
def test_applying_the_tables_equals_the_matrix(net, seed, adjoint, keep):
    units, route = built(net, adjoint=adjoint, keep=keep)
    blocks = sm.random_blocks(net, seed)
    r = stagewise.matrix_of(net, blocks)
    found = applied(units, route, blocks, np.eye(net.width), adjoint=adjoint)
    np.testing.assert_allclose(found, r.T if adjoint else r, atol=1e-12)


@given(WIDE, st.booleans(), st.booleans())
def test_units_of_a_stage_share_no_row(net, adjoint, keep):
    # So between two barriers no thread reads what another one writes: the order is irrelevant.
    units, route = built(net, adjoint=adjoint, keep=keep)
    for first, last in route.spans:
        rows = [
            set(route.sources[u][units.labels[u] >= 0])
            | set(route.targets[u][units.labels[u] >= 0])
            for u in range(first, last)
        ]
        assert len(set().union(*rows)) == sum(map(len, rows))
        for unit in range(first, last):
            held = units.labels[unit] >= 0
            assert (route.sources[unit] >= 0).tolist() == held.tolist()
            assert len(set(route.targets[unit][held])) == held.sum()


@given(WIDE, st.booleans())
def test_kept_rows_are_written_once(net, adjoint):
    _, route = built(net, adjoint=adjoint, keep=True)
    written = [*route.entry.tolist(), *route.targets[route.targets >= 0].tolist()]
    assert sorted(written) == list(range(route.height))


@given(WIDE)
def test_every_block_entry_belongs_to_exactly_one_unit(net):
    units, _ = built(net)
    places = []
    for label, rows, columns in zip(units.labels, units.rows, units.columns, strict=True):
        inside = (label[:, None] == label) & (label >= 0)
        places += (rows[:, None] + columns)[inside].tolist()
    assert sorted(places) == list(range(net.nonzeros - _bare(net)))
    assert units.entries == len(places)


def _bare(net):
    return sum(len(stage.passing[0]) for stage in net.stages)


@given(WIDE, st.booleans())
def test_runs_are_contiguous_and_aligned(net, adjoint):
    check_runs(net, adjoint=adjoint)


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize(
    "net",
    [
        sm.butterfly(256),
        sm.butterfly(64, block=8),
        sm.monarch(1024),
        sm.mixed_radix(1024, (16, 16, 4)),
        sm.block_diagonal(96, 24),
        sm.block_diagonal(96, 32),
        sm.benes(64),
    ],
    ids=str,
)
def test_runs_of_common_topologies_are_contiguous_and_aligned(net, adjoint):
    check_runs(net, adjoint=adjoint)


def check_runs(net, *, adjoint):
    units, route = built(net, adjoint=adjoint)
    found = route.runs
    spans = route.spans.tolist()
    middle = list(range(1 if found.reads else 0, len(spans) - 1 if found.writes else len(spans)))
    for length, turn in ((found.reads, 0), (found.writes, -1)):
        if length:
            wires = units.wires[slice(*spans[turn])]
            assert sorted(wires.ravel()) == list(range(net.width))
            check_neighbours(wires, length)
    chosen = [(found.first, 0), (found.last, len(spans) - 1)] if spans else []
    for length, turn in [*chosen, *((found.between, turn) for turn in middle)]:
        for unit in range(*spans[turn]):
            label = units.labels[unit]
            inside = (label[:, None] == label) & (label >= 0)
            at = units.rows[unit][:, None] + units.columns[unit]
            for row, mask in zip(at, inside, strict=True):
                cut = mask.reshape(-1, length)
                assert (cut == cut[:, :1]).all()
                check_neighbours(row.reshape(-1, length)[cut[:, 0]], length)


def check_neighbours(values, length):
    for group in values.reshape(-1, length).tolist():
        assert group[0] % length == 0
        assert group == list(range(group[0], group[0] + length))


def test_runs_have_the_expected_lengths_for_large_and_strided_blocks():
    assert prepared_runs(sm.monarch(4096)) == index_tables.Runs(64, 0, 64, 64, 64)
    assert prepared_runs(sm.monarch(4096), adjoint=True) == index_tables.Runs(0, 64, 64, 64, 64)
    strided = prepared_runs(sm.mixed_radix(4096, (32, 32, 4)))
    assert (strided.reads, strided.writes, strided.between) == (32, 8, 32)


def prepared_runs(net, *, adjoint=False):
    return triton.prepared(schedule(net), "cpu").routes[adjoint].runs


def test_switches_wider_than_64_are_refused():
    net = sm.block_diagonal(130, 65)
    with pytest.raises(
        StructmatError, match="a switch of 65 wires: the Triton kernels support up to"
    ):
        triton.prepared(schedule(net), "cpu")


def test_a_wide_deep_network_is_packed_into_full_units():
    units, _ = built(sm.butterfly(4096, block=2))
    assert units.wires.shape == (12 * 4096 // 16, 16)
