"""Records are compared with all candidates and small networks, submitted, and verified."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis.mixing import mixes_exactly
from structmat.errors import StructmatError
from structmat.search.atlas.best_known import best_known, candidates, is_better, measured
from structmat.search.atlas.questions import BLOCKS, QUESTIONS
from structmat.search.atlas.record_file import packaged
from structmat.search.atlas.stored_topology import Topology
from structmat.search.atlas.verification import mismatch, submitted, with_records
from theory._tools import every_network

RECORDS = packaged()
NAMED = {(r.purpose, r.width, r.block): r for r in RECORDS}
QUICK = [
    name for name, p in QUESTIONS.items() if p.quantity in ("parameters", "depth", "dimension")
]


@settings(max_examples=4, deadline=None)
@given(st.integers(2, 5), st.sampled_from(BLOCKS), st.sampled_from(QUICK))
def test_no_candidate_is_better_than_the_best(width, block, purpose):
    best = best_known(purpose, width, block)
    assert not is_better(best, NAMED[purpose, width, block])  # or the file is out of date
    for topology in candidates(width):
        if topology.radix <= block:
            record = measured(topology, purpose, block)
            assert record is None or not is_better(record, best)


@pytest.mark.parametrize(("width", "depth"), [(2, 2), (3, 3), (4, 2)])
def test_no_small_network_beats_a_record(width, depth):
    """Compare with every network of this width and depth."""
    best = dict.fromkeys(itertools.product(QUICK, BLOCKS), math.inf)
    for net in every_network(width, depth):
        dimension = sm.dimension(net).lower
        real = [stage for stage in net.stages if stage.banks]
        holds = {
            "dense": sm.is_dense(net),
            "mixing": mixes_exactly(net),
            "full": dimension == math.comb(width, 2),
            "half": 2 * dimension >= math.comb(width, 2),
        }
        for purpose, block in best:
            radix = max([1, *(bank.radix for bank in net.banks)])
            if radix <= block and holds.get(purpose.split("-")[0]):
                found = len(real) if purpose.endswith("depth") else net.parameters
                best[purpose, block] = min(best[purpose, block], found)
    for (purpose, block), found in best.items():
        if found < math.inf:
            assert found >= NAMED[purpose, width, block].value, (purpose, block)
            if purpose != "full-dimension-depth":
                assert found == NAMED[purpose, width, block].value, (purpose, block)


# Computing again ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": 33}, "the value is 32, not 33"),
        ({"parameters": 31}, "the parameters is 32, not 31"),
        ({"depth": 5}, "the depth is 4, not 5"),
        ({"evidence": "rounding"}, "the evidence is closed form, not rounding"),
        ({"topology": Topology(16, "gossip")}, "gossip does not serve the purpose"),
        ({"topology": Topology(16, "shuffle(block=4)")}, "it has radix 4, above 2"),
        ({"topology": Topology(16, "monarch(radices=(3, 5))")}, "product 15 must be the width"),
        ({"topology": None}, "networks exist for this purpose"),
    ],
)
def test_a_changed_record_differs_from_what_is_computed(changes, reason):
    record = NAMED["mixing", 16, 2]
    assert mismatch(record) is None
    assert reason in mismatch(replace(record, **changes)).reason


def test_a_measured_value_outside_its_interval_differs():
    record = NAMED["conditioning", 4, 2]
    assert mismatch(record) is None
    low, high = record.interval
    assert low <= record.value <= high
    assert mismatch(replace(record, value=low * 0.5, interval=(low * 0.4, low * 0.6)))


# Records from elsewhere -----------------------------------------------------------------------


def poorer(purpose, width, block, spec):
    """Return the records, with one replaced by that of another network."""
    return with_records(RECORDS, [measured(Topology(width, spec), purpose, block)])


def test_a_better_network_replaces_a_record():
    worse = poorer("mixing", 16, 2, "benes")
    better = submitted(worse, sm.butterfly(16))
    assert [(r.purpose, r.width, r.block, r.holder) for r in better] == [
        ("mixing", 16, 2, "search"),
    ]
    assert better[0].network == sm.butterfly(16)
    assert mismatch(better[0]) is None
    merged = {(r.purpose, r.width, r.block): r for r in with_records(worse, better)}
    assert merged["mixing", 16, 2].value == NAMED["mixing", 16, 2].value
    assert submitted(list(merged.values()), sm.butterfly(16)) == []
    again = submitted(worse, Topology(16, "butterfly"))
    assert str(again[0].topology) == "butterfly"


@given(st.sampled_from([r for r in RECORDS if r.width in (3, 5, 7) and r.topology]))
@settings(max_examples=8, deadline=None)
def test_no_record_improves_the_atlas(record):
    assert submitted(RECORDS, record.network) == []


def test_equal_values_are_ordered_by_parameters_then_depth():
    record = NAMED["dense-depth", 8, 2]
    assert not is_better(record, record)
    assert is_better(replace(record, parameters=record.parameters - 1), record)
    assert is_better(replace(record, depth=record.depth - 1), record)
    worse = replace(record, value=record.value + 1, parameters=0)
    assert is_better(record, worse)
    assert not is_better(worse, record)
    largest = NAMED["dimension", 8, 2]
    assert is_better(replace(largest, value=largest.value + 1), largest)
    impossible = NAMED["mixing", 3, 2]
    assert is_better(record, impossible)
    assert not is_better(impossible, record)
    assert not is_better(impossible, impossible)


def test_networks_that_the_atlas_cannot_hold_are_refused():
    with pytest.raises(StructmatError, match="width=70: the atlas has the widths"):
        submitted(RECORDS, sm.gossip(70))
    with pytest.raises(StructmatError, match="characters as JSON: the atlas stores up to 20,000"):
        submitted(RECORDS, sm.brickwall(128))
    with pytest.raises(StructmatError, match=r"butterfly\(block=4\): it has radix 4, above 2"):
        measured(Topology(16, "butterfly(block=4)"), "dense", 2)
