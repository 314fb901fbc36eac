"""report and compare against independent counts, in every output format."""

import json
import math
import pickle
import re
import sys
from dataclasses import FrozenInstanceError
from html.parser import HTMLParser
from itertools import pairwise

import networkx as nx
import pytest
from hypothesis import given, settings

import structmat as sm
from structmat.analysis import report
from structmat.analysis.dimension import Dimension
from structmat.analysis.mixing import energy, fourth_moments
from structmat.errors import MissingExtraError, SpecError, StructmatError
from structmat.testing import families, networks

COLUMNS = ["network", "width", "depth", "parameters", "free_edges", "dense", "depth_needed"]


def counted(net: sm.Network) -> dict:
    """Count on the grid graph alone, with networkx."""
    graph = net.to_networkx()
    switches: dict = {}
    for (t, _), _, number in graph.edges(data="switch"):
        if number is not None:
            switches[t, number] = switches.get((t, number), 0) + 1
    dense_from = [
        k
        for k in range(net.depth + 1)
        if all(
            sum(t == k for t, _ in nx.descendants(graph, (0, j)) | {(0, j)}) == net.width
            for j in range(net.width)
        )
    ]
    edges = graph.number_of_edges()
    return {
        "width": sum(t == 0 for t, _ in graph),
        "depth": max(t for t, _ in graph),
        "parameters": sum(math.comb(math.isqrt(entries), 2) for entries in switches.values()),
        "nonzeros": edges,
        "free_edges": edges - net.depth * net.width,
        "dense": net.depth in dense_from,
        "dense_depth": min(dense_from, default=None),
    }


class Cells(HTMLParser):
    """The rows of a table, as the text of their cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, _attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def shown(value) -> str:
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    return f"{value:,}" if isinstance(value, int) else value


# One network -----------------------------------------------------------------------------------


@given(networks(max_width=8))
def test_a_report_has_the_correct_counts(net):
    found = sm.report(net).to_dict()
    joined = nx.Graph(both for bank in net.straightened().network.banks for both in pairs(bank))
    joined.add_nodes_from(range(net.width))
    assert found.pop("components") == nx.number_connected_components(joined)
    assert (found.pop("why_not_dense") is None) == sm.is_dense(net)
    assert found == counted(net)


def pairs(bank):
    return [(row[0], wire) for row in bank.reads.tolist() for wire in row[1:]]


@given(networks())
def test_text_html_and_json_agree(net):
    found = sm.report(net)
    values = {key: value for key, value in found.to_dict().items() if key != "why_not_dense"}
    expected = [[key.replace("_", " "), shown(value)] for key, value in values.items()]
    assert Cells(found._repr_html_()).rows == expected
    table, *more = str(found).split("\n\n")
    assert [line.rsplit(maxsplit=1) for line in table.splitlines()] == expected
    assert len({len(line) for line in table.splitlines()}) == 1
    assert more == ([] if found.dense else [f"not dense: {found.why_not_dense}"])
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


def test_reports_are_immutable_hashable_and_comparable():
    found = sm.report(sm.benes(8))
    assert found == sm.report(sm.benes(8)) != sm.report(sm.benes(4))
    assert hash(found) == hash(sm.report(sm.benes(8)))
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'depth'"):
        found.depth = 3


def test_free_edges_on_four_wires_are_those_of_the_boft_paper():
    dense, butterfly = sm.block_diagonal(4, 4), sm.butterfly(4)
    assert (sm.report(dense).free_edges, sm.report(butterfly).free_edges) == (12, 8)
    assert sm.report(dense).dense
    assert sm.report(butterfly).dense


@pytest.mark.parametrize("other", ["benes", sm.parse("benes"), None, [[0, 1]]])
def test_only_networks_have_reports(other):
    with pytest.raises(StructmatError, match=r"report of .*: it takes a network"):
        sm.report(other)


# Many networks ---------------------------------------------------------------------------------


@given(families(max_width=16, max_depth=4))
def test_the_row_of_a_family_describes_its_network(case):
    family, width = case
    (row,) = sm.compare(family, width).rows
    found = counted(family(width))
    assert list(row) == [*COLUMNS, "refused"]
    assert row == {
        "network": str(family),
        **{key: found[key] for key in COLUMNS if key in found},
        "depth_needed": sm.dense_depth(family, width),
        "refused": None,
    }


@given(networks(max_width=8))
def test_the_row_of_a_network_has_the_stages_needed_for_density(net):
    rows = sm.compare({"as a network": net, "as a function": lambda _: net}, net.width).rows
    for row in rows:
        assert row["depth_needed"] == counted(net)["dense_depth"]
        assert row["refused"] is None


def test_each_network_at_each_width_in_order():
    specs = ["benes", "shuffle(block=4)", sm.parse("block_diagonal(block=2)")]
    table = sm.compare(specs, [16, 8])
    assert [(row["network"], row["width"]) for row in table.rows] == [
        ("benes", 16),
        ("benes", 8),
        ("shuffle(block=4)", 16),
        ("shuffle(block=4)", 8),
        ("block_diagonal(block=2)", 16),
        ("block_diagonal(block=2)", 8),
    ]
    assert [row["depth_needed"] for row in table.rows] == [4, 3, 2, 2, None, None]


def test_compositions_are_compared_like_families():
    cycled = sm.parse("butterfly * 2")
    assert sm.compare(cycled, 8).rows == sm.compare(["butterfly(repeat=2)"], 8).rows
    rows = sm.compare([cycled, "benes @ shuffle(block=2)"], [8, 12]).rows
    assert [row["network"] for row in rows[::2]] == ["butterfly * 2", "benes @ shuffle(block=2)"]
    assert [row["depth_needed"] for row in rows] == [3, None, 3, None]
    assert rows[3]["refused"].startswith("benes @ shuffle(block=2) at width 12: benes(width=12)")
    with pytest.raises(StructmatError, match="to compare several topologies, pass a list"):
        sm.compare("benes", cycled)


def test_an_unsupported_width_keeps_the_other_rows():
    def even(width):
        if width % 2:
            raise ValueError("even widths only")
        return sm.Network(width)

    table = sm.compare({"mine": even, "net": sm.Network(8), "benes": "benes"}, [7, 8])
    reasons = {(row["network"], row["width"]): row["refused"] for row in table.rows}
    assert [key for key, reason in reasons.items() if reason is None] == [
        ("mine", 8),
        ("net", 8),
        ("benes", 8),
    ]
    assert reasons["mine", 7] == "mine at 7: even widths only"
    assert reasons["net", 7] == "net at 7: this network has width 8"
    assert "width must be 2^n" in reasons["benes", 7]
    for row in table.rows:
        if row["refused"]:
            assert all(row[key] is None for key in COLUMNS[2:])
    assert all(str(table).count(reason) == 1 for reason in reasons.values() if reason)


def test_an_option_valid_at_no_width_is_an_unsupported_row():
    (row,) = sm.compare("butterfly(block=3)", 12).rows
    assert "block must be even" in row["refused"]


MIXED = sm.compare(
    {'a <b> & "c"': "butterfly", "GSOFT": "shuffle(block=8)", "OFT": "block_diagonal(block=2)"},
    [384, 1024],
)


def test_the_text_shows_the_rows():
    lines = str(MIXED).splitlines()
    table = lines[: lines.index("")]
    assert len({len(line) for line in table}) == 1
    cuts = [0]
    for dashes in table[1].split("  "):
        cuts.append(cuts[-1] + len(dashes) + 2)
    cells = [[line[a:b].strip() for a, b in pairwise(cuts)] for line in (table[0], *table[2:])]
    assert cells[0] == [key.replace("_", " ") for key in COLUMNS]
    assert cells[1:] == [[shown(row[key]) for key in COLUMNS] for row in MIXED.rows]
    assert lines[len(table) + 1 :] == [row["refused"] for row in MIXED.rows if row["refused"]]
    assert "5,120" in cells[2]


def test_the_html_shows_the_rows():
    head, *rows = Cells(MIXED._repr_html_()).rows
    assert head == [key.replace("_", " ") for key in COLUMNS]
    for cells, row in zip(rows, MIXED.rows, strict=True):
        keys = COLUMNS if row["refused"] is None else ["network", "width", "refused"]
        assert cells == [shown(row[key]) for key in keys]
    assert "<b>" not in MIXED._repr_html_()


def test_json_contains_copies_of_the_rows():
    data = MIXED.to_dict()
    assert json.loads(json.dumps(data)) == {"rows": MIXED.rows}
    data["rows"][0]["width"] = 0
    assert MIXED.rows[0]["width"] == 384


def test_a_data_frame_contains_the_rows():
    pandas = pytest.importorskip("pandas")
    frame = MIXED.to_dataframe()
    assert list(frame.columns) == [*COLUMNS, "refused"]
    back = [
        {key: None if pandas.isna(value) else value for key, value in row.items()}
        for row in frame.to_dict("records")
    ]
    assert back == MIXED.rows
    assert (str(frame.dtypes["depth"]), str(frame.dtypes["dense"])) == ("Int64", "boolean")
    assert sm.compare({}, 8).to_dataframe().shape == (0, 8)


def test_without_pandas_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pandas is not installed.*structmat\[finetune\]"):
        MIXED.to_dataframe()
    assert str(MIXED)


@pytest.mark.parametrize(
    ("families", "widths", "error", "message"),
    [
        ("buterfly", 8, SpecError, "did you mean butterfly"),
        (["benes", "shuffle"], 8, SpecError, "needs the option block"),
        ({"a": "benes("}, 8, SpecError, "cannot be parsed"),
        (["benes", 3], 8, StructmatError, "topology=3: it must be a spec string"),
        ([sm.benes], 4, StructmatError, "give a function a label"),
        (sm.benes, 4, StructmatError, "give a function a label"),
        (None, 4, StructmatError, "topology=None: it must be a spec string"),
        ({"mine": 3}, 4, StructmatError, "mine: topology=3: it must be a spec string"),
        (
            {"mine": lambda width: width},
            4,
            StructmatError,
            "mine at 4: the function must return a Network, not 4",
        ),
        ("benes", 8.0, StructmatError, "width=8.0: width must be an integer"),
        ("benes", [8, 0], StructmatError, "width=0: width must be an integer ≥ 1"),
        ("benes", float("nan"), StructmatError, "width=nan"),
        ("benes", "16", StructmatError, "width='16'"),
        ("benes", None, StructmatError, "benes: it has a network for each width; give the widths"),
    ],
)
def test_invalid_arguments_are_rejected(families, widths, error, message):
    with pytest.raises(error, match=message):
        sm.compare(families, widths)


def test_networks_are_compared_at_their_own_widths(tmp_path):
    import networkx as nx

    graph = nx.petersen_graph()
    path = tmp_path / "net.json"
    path.write_text(sm.benes(8).to_json())
    table = sm.compare([sm.butterfly(4), graph, path])
    assert [(row["network"], row["width"]) for row in table.rows] == [
        ("network 1", 4),
        ("network 2", 10),
        (str(path), 8),
    ]
    assert table.rows[1]["parameters"] == sm.from_graph(graph).parameters
    assert sm.compare(sm.butterfly(4)).rows[0]["depth_needed"] == 2
    assert sm.compare(graph).rows == sm.compare({"network 1": graph}, 10).rows
    refused = sm.compare([sm.butterfly(4), "benes"], [4, 8]).rows
    assert [row["refused"] is None for row in refused] == [True, False, True, True]


# Expensive parts ------------------------------------------------------------------------------


@settings(max_examples=6)
@given(networks(max_width=6))
def test_expensive_parts_agree_with_the_functions(net):
    found = sm.report(net)
    cheap = set(found.to_dict())
    assert found.dimension == sm.dimension(net)
    assert found.mixing == sm.mixing(net)
    assert found.bounds == sm.lower_bounds(net)
    assert found.dimension is found.dimension  # kept
    assert set(found.to_dict()) == cheap | {"dimension", "mixing", "bounds"}
    assert found.fewest_reached == sm.reach(net).sum(axis=0).min()
    assert found.concentration == pytest.approx(net.width * energy(net).max(), rel=1e-12)
    haar = 3 / net.width / (net.width + 2)
    assert found.fourth_moment == pytest.approx(fourth_moments(net).max() / haar, rel=1e-12)
    json.dumps(found.complete(progress=False).to_dict())
    every = {"dimension", "mixing", "bounds", "conditioning", "sensitivity"}
    every |= {"fewest_reached", "concentration", "fourth_moment"}
    every |= {"spectrum"} if net.width >= 6 else set()
    assert set(found.to_dict()) == cheap | every
    assert found == sm.report(net)


def test_a_complete_report_prints_dimension_bounds_and_spectrum():
    found = sm.report(sm.butterfly(16, block=4)).complete(progress=False)
    said = words(found)
    assert (said["dimension"], said["redundant"], said["mixing"]) == ("56", "16", "0.000")
    assert (said["fewest reached"], said["concentration"]) == ("16", "1.000")
    assert said["fourth moment"] == f"{fourth_moments(found.network).max() * 16 * 18 / 3:.3f}"
    assert 0 < float(said["conditioning"]) < 1
    _, bounds, spectrum = str(found).split("\n\n")
    assert bounds == str(sm.lower_bounds(found.network))
    assert spectrum == str(sm.spectral_statistics(found.network, rng=0))


def test_an_unproved_dimension_is_reported_as_an_interval():
    found = sm.report(sm.butterfly(4))
    vars(found)["dimension"] = Dimension(lower=5, upper=7, parameters=8)
    assert words(found)["dimension"] == "5 to 7"
    assert words(found)["redundant"] == "3"
    vars(found)["dimension"] = Dimension(lower=5, upper=7, parameters=8, ranked=False)
    assert words(found)["dimension"] == "5 to 7"
    assert words(found)["redundant"] == "1 to 3"


def test_reports_fall_back_to_bounds_on_the_dimension(monkeypatch):
    monkeypatch.setattr("structmat.analysis.report._RANK", 20)
    net = sm.butterfly(8).repeat(2)  # 24 dimensions, 12 pairs of wires
    assert sm.dimension(net).value == 24
    assert sm.report(net).dimension == Dimension(12, 24, 24, ranked=False)
    table = sm.compare({"twice": net, "once": sm.butterfly(8)}, 8, full=True, progress=False)
    twice, once = table.rows
    assert (twice["dimension"], twice["redundant"]) == (None, None)
    assert (twice["dimension_lower"], twice["dimension_upper"]) == (12, 24)
    assert (once["dimension"], once["dimension_upper"]) == (12, 12)
    line = str(table).split("\n\n")[1].splitlines()[2]
    assert re.split(r"\s{2,}", line) == ["twice", "8", "12 to 24", "–", "0.000", "8", "1.000"]
    assert "<td>12 to 24</td><td>–</td>" in table._repr_html_()
    json.dumps(table.to_dict())


def test_conditioning_below_rounding_is_none():
    found = sm.report(sm.brickwall(40))
    assert not found.conditioning.resolved
    assert words(found)["conditioning"] == "0 up to rounding"


def test_an_interrupted_comparison_keeps_its_rows():
    def stops(width):
        raise KeyboardInterrupt

    table = sm.compare({"one": sm.butterfly(8), "two": stops, "three": stops}, 8)
    assert [row["network"] for row in table.rows] == ["one"]
    assert str(table).splitlines()[-1] == "interrupted: 1 of 3 rows"
    assert "interrupted: 1 of 3 rows" in Cells(table._repr_html_()).rows[-1]
    assert table.to_dict() == {"rows": table.rows, "missing": 2}
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        sm.compare({"one": stops, "two": sm.butterfly(8)}, 8)


def words(found):
    """Return the lines of a report by name."""
    return dict(re.split(r"\s{2,}", line) for line in str(found).split("\n\n")[0].splitlines())


def test_reports_of_wide_networks_omit_the_conditioning():
    found = sm.report(sm.butterfly(128, block=2, depth=2)).complete(progress=False)
    assert not {"conditioning", "spectrum", "fourth_moment"} & set(found.to_dict())
    assert found.dimension.value == 128


def test_a_complete_report_has_html():
    html = sm.report(sm.butterfly(8)).complete(progress=False)._repr_html_()
    assert html.count("<table>") == 3
    assert "<th>dimension</th><td>12</td>" in html


def test_a_full_comparison_has_more_columns():
    table = sm.compare(["butterfly(block=4)", "gossip", "benes"], [8, 6], full=True, progress=False)
    first = table.rows[0]
    assert (first["dimension"], first["redundant"], first["mixing"]) == (20, 4, pytest.approx(0))
    assert (first["fewest_reached"], first["concentration"]) == (8, pytest.approx(1))
    basic, more, _ = str(table).split("\n\n")
    assert re.split(r"\s{2,}", basic.splitlines()[0]) == [key.replace("_", " ") for key in COLUMNS]
    titles = ["network", "width", "dimension", "redundant", "mixing"]
    titles += ["reached", "concentration"]
    assert re.split(r"\s{2,}", more.splitlines()[0]) == titles
    assert max(map(len, basic.splitlines() + more.splitlines())) <= 100
    refused = next(row for row in table.rows if row["refused"])
    assert refused["dimension"] is None
    assert "dimension" in table._repr_html_()
    assert list(table.to_dataframe().columns) == list(first)
    assert list(first)[-3:] == ["dimension_lower", "dimension_upper", "refused"]
    assert "dimension" not in sm.compare("gossip", 6).rows[0]


def test_mixing_and_concentration_are_floats_in_a_data_frame():
    pytest.importorskip("pandas")
    net = sm.block_diagonal(8, 8)
    table = sm.compare({"all": net}, 8, full=True, progress=False)
    table.rows[0] |= {"mixing": 0.0, "concentration": 1.0}
    dtypes = table.to_dataframe().dtypes
    assert (str(dtypes["mixing"]), str(dtypes["concentration"])) == ("Float64", "Float64")
    refused = sm.compare("benes", 6, full=True, progress=False)
    assert refused.to_dataframe()["mixing"].isna().all()


def test_expensive_parts_are_omitted_at_large_widths(monkeypatch):
    monkeypatch.setitem(report._MOST, "fewest_reached", 8)
    monkeypatch.setitem(report._MOST, "concentration", 4)
    table = sm.compare("butterfly(depth=2)", [4, 8, 16], full=True, progress=False)
    found = [(row["fewest_reached"], row["concentration"]) for row in table.rows]
    assert found == [(4, 1.0), (4, None), (None, None)]
    complete = sm.report(sm.butterfly(16)).complete(progress=False).to_dict()
    assert not {"fewest_reached", "concentration"} & set(complete)


# Unitary blocks --------------------------------------------------------------------------------


def test_a_report_on_unitary_blocks():
    net = sm.brickwall(6)
    found = net.report(field="complex").complete(progress=False)
    values = found.to_dict()
    assert values["field"] == "complex"
    assert values["parameters"] == 4 * net.parameters == found.dimension.parameters
    assert values["dimension"]["value"] == 36
    assert values["bounds"] == sm.lower_bounds(net, field="complex").to_dict()
    assert values["conditioning"]["directions"] == 36
    assert values["spectrum"]["width"] == 6
    assert str(found).startswith("field ")
    assert "besides phases, U(6) has 30 dimensions, a stage ≤ 6" in str(found)
    assert "field" not in sm.report(net).to_dict()
    assert "spectrum" in report.affordable(3, field="complex")
    assert "spectrum" not in report.affordable(3)


def test_a_comparison_of_unitary_networks():
    (row,) = sm.compare("brickwall", 6, field="complex", full=True, progress=False).rows
    assert (row["parameters"], row["dimension"], row["redundant"]) == (60, 36, 24)
    (real,) = sm.compare("brickwall", 6, full=True, progress=False).rows
    assert (real["mixing"], real["free_edges"]) == (row["mixing"], row["free_edges"])
    with pytest.raises(StructmatError, match="field='unitary'"):
        sm.compare("brickwall", 6, field="unitary")
