"""The atlas is complete, never better than its bounds, reproducible, and safe against damage."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
import theory
from structmat.errors import FileError, StructmatError
from structmat.networks.network import Network
from structmat.search.atlas.lookup import Atlas, selected, summary
from structmat.search.atlas.questions import BLOCKS, QUESTIONS, WIDTHS
from structmat.search.atlas.record_file import PATH, packaged, read, write
from structmat.search.atlas.stored_topology import Topology, leading
from structmat.search.atlas.verification import mismatch
from structmat.testing import networks

RECORDS = packaged()
NAMED = {(r.purpose, r.width, r.block): r for r in RECORDS}
SMALL = [r for r in RECORDS if r.width <= 48 and r.topology]
COUNTS = [
    name for name, purpose in QUESTIONS.items() if purpose.quantity in ("parameters", "depth")
]


def value(purpose, width, block):
    found = NAMED[purpose, width, block].value
    return math.inf if found is None else found


# The data -------------------------------------------------------------------------------------


def test_every_purpose_has_a_record_at_each_width_and_block():
    assert set(NAMED) == {(n, w, b) for n, p in QUESTIONS.items() for w in p.widths for b in BLOCKS}
    assert len(RECORDS) == len(NAMED)
    assert WIDTHS[:63] == tuple(range(2, 65))
    assert PATH.stat().st_size < 400_000


def test_no_record_is_better_than_its_bound():
    """Compute the bounds by the formulas of the theorems, not by the library."""
    for (purpose, width, block), record in NAMED.items():
        found, pairs = value(purpose, width, block), math.comb(width, 2)
        radix = min(block, width)
        stage = width // radix * math.comb(radix, 2) + math.comb(width % radix, 2)
        least = {
            "dense": 2 * width - 4 if width > 3 else pairs,
            "dense-depth": math.log(width, radix) * (1 - 1e-12),
            "mixing": width * math.log2(width) / 2 * (1 - 1e-12),
            "mixing-depth": math.log(width, radix) * (1 - 1e-12),
            "half-dimension": pairs / 2,
            "full-dimension": pairs,
            "universal": pairs,
            "full-dimension-depth": pairs / stage,
            "universal-depth": pairs / stage,
        }
        if purpose in least:
            assert found >= least[purpose], record
        elif purpose == "dimension":
            assert found <= min(pairs, record.depth * stage), record
        else:
            assert 0 <= found <= 2, record
        if record.value is not None:
            assert record.question.respects(found, width, block), record
            assert record.meets in (None, found == record.bound)


def test_impossible_records_are_those_with_a_large_prime_factor():
    for (purpose, width, block), record in NAMED.items():
        primes = [
            p for p in range(2, width + 1) if width % p == 0 and all(p % k for k in range(2, p))
        ]
        impossible = purpose.startswith("mixing") and max(primes) > block
        assert (record.value is None) == impossible == (record.topology is None)
        if impossible:
            assert f"{max(primes)} divides none of them" in record.reason
            with pytest.raises(StructmatError, match=r"mixes \d+ wires perfectly"):
                _ = record.network


def test_records_of_different_purposes_and_blocks_agree():
    for width in WIDTHS:
        for block in BLOCKS:
            cell = {
                name: value(name, width, block)
                for name in QUESTIONS
                if width in QUESTIONS[name].widths
            }
            assert cell["dense"] <= cell["mixing"]
            assert cell["dense-depth"] <= cell["mixing-depth"]
            assert cell["dense-depth"] <= cell["full-dimension-depth"] <= cell["universal-depth"]
            assert cell["half-dimension"] <= cell["full-dimension"] <= cell["universal"]
        for name in COUNTS:
            found = [value(name, width, block) for block in BLOCKS]
            assert found == sorted(found, reverse=True)


def test_records_have_known_values():
    assert all(value("dense", w, b) == 2 * w - 4 for w in WIDTHS if w > 3 for b in BLOCKS)
    assert all(value("universal", w, b) == math.comb(w, 2) for w in WIDTHS for b in BLOCKS)
    for power in range(1, 13):
        if 2**power in WIDTHS:
            assert value("mixing", 2**power, 2) == power * 2 ** (power - 1)
            assert value("universal-depth", 2**power, 2) == 2**power - 1
    for width in range(3, 64, 2):
        assert value("universal-depth", width, 2) == width
        assert value("dense-depth", width, 2) == (width - 1).bit_length() + 1
    assert value("mixing-depth", 768, 16) == 3  # 6·8·16
    assert value("full-dimension-depth", 256, 16) == 17


@pytest.mark.parametrize("seed", range(2))
def test_computing_random_records_again_finds_no_difference(seed):
    cheap = [r for r in RECORDS if r.width <= 256 and r.evidence != "measured"]
    for record in np.random.default_rng(seed).choice(np.array(cheap, dtype=object), 20):
        assert mismatch(record) is None


def test_computing_a_measured_value_again_finds_no_difference():
    for purpose, width in [("fit", 4), ("conditioning", 6)]:
        assert mismatch(NAMED[purpose, width, 4]) is None


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SMALL))
def test_networks_serve_their_purpose(record):
    """Check by functions that the atlas does not use."""
    net = record.network
    assert net.width == record.width
    assert max(bank.radix for bank in net.banks) <= record.block
    assert (net.parameters, net.depth) == (record.parameters, record.depth)
    if record.question.quantity in ("parameters", "depth"):
        assert record.value == getattr(net, record.question.quantity)
    if record.purpose.startswith("dense"):
        assert (sm.path_counts(net) > 0).all()
    elif record.purpose.startswith("mixing"):
        assert sm.mixing(net) < 1e-12
    elif record.width <= 16 and record.purpose not in ("fit", "conditioning"):
        pairs = math.comb(record.width, 2)
        least = {"half-dimension": -(-pairs // 2), "dimension": record.value}
        assert sm.dimension(net).lower >= least.get(record.purpose, pairs)


def test_the_sources_of_the_bounds_are_theorems_of_theory():
    known = {claim.NUMBER: f"{claim.__name__.rpartition('.')[2]}.py" for claim in theory.claims()}
    for question in QUESTIONS.values():
        for number, file in re.findall(r"(T\d+) \((\w+\.py)\)", question.source):
            assert known[number] == file
        assert question.source in ("none", "σ_min ≤ σ_max") or "T" in question.source


# Selection and tables -------------------------------------------------------------------------


def test_records_are_selected_and_shown_as_a_table():
    table = sm.atlas(24, block=4)
    assert {(r.width, r.block) for r in table} == {(24, 4)}
    assert len(table) == sum(24 in purpose.widths for purpose in QUESTIONS.values())
    lines = str(table).splitlines()
    assert re.sub(r" +", " ", lines[0]) == (
        "purpose width block value bound stages topology holder basis"
    )
    assert len(lines) == len(table) + 1
    assert str(table).count("mixed_radix") == table._repr_html_().count("mixed_radix") >= 1
    assert json.loads(json.dumps(table.to_dict()))["records"][0]["command"] == (
        "structmat atlas --recompute --width 24 --block 4 --purpose dense"
    )
    assert len(str(sm.atlas(24, purpose="dense")).splitlines()) == 2  # the same for all blocks
    assert len(sm.atlas()) == len(RECORDS)


def test_best_prefers_the_smallest_block_of_equal_values():
    assert sm.atlas(64).best("dense").block == 2
    assert sm.atlas(64).best("mixing-depth").block == 8
    assert sm.atlas(10).best("mixing").block == 8
    assert sm.atlas(16).best("conditioning").value == 1


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: sm.atlas(65), "width=65: the atlas has .* nearest are 64 and 96. dense_networks"),
        (lambda: sm.atlas(10**6), "nearest is 4,096"),
        (lambda: sm.atlas("64"), "width='64': the atlas has the widths 2 to 64"),
        (lambda: sm.atlas(1), "width=1: the atlas has"),
        (lambda: sm.atlas(8, block=3), "block=3: the atlas has the largest radices 2, 4, 8 and 16"),
        (lambda: sm.atlas(8, purpose="mixng"), "purpose='mixng': unknown; did you mean mixing"),
        (
            lambda: sm.atlas(8, purpose=3),
            "purpose=3: unknown; it must be one of dense, dense-depth",
        ),
        (lambda: sm.atlas().best("dense"), "best of 74 widths: select one"),
        (lambda: sm.atlas(8).best(), "best of 12 purposes: select one"),
        (lambda: sm.atlas(8).best("speed"), "purpose='speed': unknown"),
        (
            lambda: sm.atlas(10, block=4).best("mixing"),
            "4 mixes 10 wires perfectly: the prime factor 5 divides none",
        ),
        (lambda: sm.atlas(40).best("fit"), "fit: no record is in this selection"),
    ],
)
def test_wrong_selections_are_refused(act, message):
    with pytest.raises(StructmatError, match=message):
        act()


def test_the_summary_counts_records():
    rows = summary(RECORDS)
    assert [row["purpose"] for row in rows] == list(QUESTIONS)
    assert sum(row["records"] for row in rows) == len(RECORDS)
    for row in rows:
        counted = row["met"] + row["open"] + row["impossible"]
        assert counted == (0 if row["purpose"] == "fit" else row["records"])


# Topologies -----------------------------------------------------------------------------------


@given(networks(wired=False), st.data())
def test_leading_keeps_the_first_switches_of_a_network(net, data):
    switches = [row for bank in net.banks for row in bank.reads.tolist()]
    count = data.draw(st.integers(0, len(switches)))
    kept = leading(net, count)
    assert [row for bank in kept.banks for row in bank.reads.tolist()] == switches[:count]
    assert kept.depth <= net.depth
    assert leading(net, len(switches)).parameters == net.parameters


@given(networks())
def test_a_stored_network_is_restored(net):
    stored = Topology(net.width, stored=json.dumps(json.loads(net.to_json())))
    assert Topology.read(net.width, stored.written()).network == net
    assert str(stored) == "a stored network"


def test_a_stored_network_of_another_width_is_refused():
    with pytest.raises(FileError, match="a stored network of width 4, not 8"):
        _ = Topology(8, stored=sm.butterfly(4).to_json()).network


# The file -------------------------------------------------------------------------------------


def test_writing_and_reading_restores_every_record(tmp_path):
    path = write(RECORDS, tmp_path / "atlas.json")
    assert read(path) == RECORDS
    assert path.read_bytes() == PATH.read_bytes()


def one(purpose="dense", **changes):
    return replace(NAMED[purpose, 8, 2], **changes)


def damage(change):
    def edit(text):
        data = json.loads(text)
        change(data)
        return json.dumps(data)

    return edit


def put(column, item, row=0):
    return damage(lambda data: data["records"][row].__setitem__(column, item))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text[:-20], "truncated or not JSON"),
        (lambda _: "[]", "expected"),
        (damage(lambda data: data.update(version=2)), "version 2"),
        (damage(lambda data: data.update(format="other")), "format"),
        (damage(lambda data: data.update(columns=[])), "its columns must be purpose, width"),
        (damage(lambda data: data.update(records={})), "its columns must be purpose, width"),
        (damage(lambda data: data["records"].append(3)), "record 1: invalid"),
        (damage(lambda data: data["records"][0].pop()), "record 0: invalid"),
        (damage(lambda data: data["records"].append(data["records"][0])), "two records for one"),
        (put(0, "speed"), "record 0: purpose='speed': unknown"),
        (put(0, ["dense"]), "unknown"),
        (put(1, 65), "width=65: not a width of dense"),
        (put(2, [2, 3]), r"blocks=\[2, 3\]: they must be among"),
        (put(2, []), r"blocks=\[\]: they must be among"),
        (put(2, 2), "blocks=2: they must be among"),
        (put(3, 11), "11 is better than the proved bound 12, by T7"),
        (put(3, "12"), "value, parameters and depth must be numbers"),
        (put(3, [1]), "value, parameters and depth must be numbers"),
        (put(3, None), "the value is missing, though networks exist"),
        (put(5, -1), "value, parameters and depth must be numbers"),
        (put(6, 7), "topology 7: it must be a spec"),
        (put(6, {"spec": "benes", "switches": "2"}), "it must be a spec"),
        (put(7, "me"), "the holder must be one of family, construction, search"),
        (put(8, "hope"), "the evidence one of closed form"),
        (put(9, 3), "record 0: invalid"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, edit, message):
    path = write([one()], tmp_path / "atlas.json")
    path.write_text(edit(path.read_text("utf-8")), "utf-8")
    with pytest.raises(FileError, match=message) as caught:
        read(path)
    assert "structmat atlas --recompute --write" in str(caught.value) or "version" in message


def test_the_error_for_a_missing_file_names_the_command_that_computes_it(tmp_path):
    with pytest.raises(FileError, match=r"No such file.*compute it again by structmat atlas"):
        read(tmp_path / "none.json")


def test_a_folder_that_cannot_be_written_to_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        write([one()], tmp_path / "file" / "atlas.json")


def test_computing_a_record_again_detects_a_wrong_spec():
    difference = mismatch(one(topology=Topology(8, "butterfy")))
    assert "no family 'butterfy'" in difference.reason
    assert "dense, width 8, block 2" in str(difference)
    assert Atlas(selected(RECORDS, 8, 2, "dense")).best().network == Network.of(
        8, []
    ) @ sm.butterfly(8)
