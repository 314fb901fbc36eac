"""The SVG of a network is parsed back into its edges; notebook output is well-formed."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree as ET

import networkx as nx
import pytest
from hypothesis import given, settings

import structmat as sm
from structmat.testing import networks

SVG = "{http://www.w3.org/2000/svg}"
HTML = [
    sm.butterfly(8),
    sm.butterfly(128),
    sm.Network(3),
    sm.schedule(sm.monarch(6)),
    sm.schedule(sm.Network(1)),
    sm.catalogue(),
    sm.report(sm.gossip(8)),
    sm.compare("benes", [8, 9]),
]


def picture(net):
    """The svg element of the notebook output for a network."""
    return ET.fromstring(net._repr_html_()).find(f"{SVG}svg")


def edges(svg):
    """The lines of straight paths by position, and the number of paths."""
    paths = svg.findall(f"{SVG}path")
    found = []
    for path in paths:
        for a, b, c, d in re.findall(r"M(\S+) (\S+)L(\S+) (\S+?)(?=M|$)", path.get("d")):
            found.append(((int(a), int(b)), (int(c), int(d))))
    return found, len(paths)


@settings(deadline=None, max_examples=40)
@given(networks(max_width=6, screens=True))
def test_the_picture_has_every_edge_of_the_grid_graph_once(net):
    if net.depth == 0:
        return
    svg = picture(net)
    found, paths = edges(svg)
    circles = [(int(c.get("cx")), int(c.get("cy"))) for c in svg.findall(f"{SVG}circle")]
    xs, ys = (sorted(set(part)) for part in zip(*circles, strict=True))
    assert len(circles) == len(set(circles)) == (net.depth + 1) * net.width
    place = {(x, y): (xs.index(x), ys.index(y)) for x, y in circles}
    drawn = [(place[a], place[b]) for a, b in found]
    assert len(drawn) == net.nonzeros
    assert set(drawn) == set(net.to_networkx().edges)
    bare = sum(len(stage.passing[0]) > 0 for stage in net.stages)
    assert paths == sum(bank.count for bank in net.banks) + bare


def test_a_large_switch_is_a_star():
    svg = picture(sm.block_diagonal(32, 16))
    lines = [path.get("d").count("L") for path in svg.findall(f"{SVG}path")]
    assert lines == [32, 32]


def test_stars_do_not_overlap():
    """This includes interleaved switches; others are placed at their middle."""
    for net in (sm.block_diagonal(64, 16), sm.mixed_radix(64, (4, 16))[1:]):
        paths = picture(net).findall(f"{SVG}path")
        places = {re.findall(r"L(\S+ \S+?)(?=M|$)", path.get("d"))[0] for path in paths}
        assert len(places) == 4
        heights = sorted(float(place.split()[1]) for place in places)
        assert min(b - a for a, b in pairwise(heights)) > 100


def test_names_of_many_wires_do_not_overlap():
    for width in (32, 64):
        texts = picture(sm.butterfly(width)).findall(f"{SVG}text")
        rows = sorted(float(text.get("y")) for text in texts if text.text.isdigit())
        assert min(b - a for a, b in pairwise(rows)) >= 12


def test_a_deep_network_is_truncated_to_the_available_space():
    svg = picture(sm.brickwall(64))
    columns = {c.get("cx") for c in svg.findall(f"{SVG}circle")}
    assert len(columns) < 65
    assert [text.text for text in svg.findall(f"{SVG}text")][-1] == "… B64"
    assert len(sm.brickwall(64)._repr_html_()) < 400_000


def test_wires_are_named_and_names_are_escaped():
    net = sm.from_graph(nx.path_graph(["<b>&", "ok"]))
    names = [text.text for text in picture(net).findall(f"{SVG}text")]
    assert names == ["<b>&", "ok", "B1"]


def test_the_margin_follows_the_longest_name():
    """Every name fits: letters are 6 wide, full-width ones 10."""
    starts = {}
    for name in ("a", "Tornabuoni", 40 * "W", 20 * "語"):
        svg = picture(sm.Network.of(2, [[[0, 1]]], labels=["b", name]))
        text = svg.findall(f"{SVG}text")[1]
        shown = "".join(text.itertext())
        title = text.find(f"{SVG}title")
        if len(name) <= 16:
            assert (title, shown) == (None, name)
        else:
            assert title.text == name
            assert title.tail == name[:15] + "…"
        letters = len(shown) if title is None else len(title.tail)
        starts[name] = float(text.get("x"))
        assert starts[name] >= letters * (6 if name in ("a", "Tornabuoni") else 10)
        right = max(float(c.get("cx")) for c in svg.findall(f"{SVG}circle"))
        assert float(svg.get("width")) - right == 34
    assert starts["a"] == 27 < starts["Tornabuoni"] < starts[40 * "W"] == starts[20 * "語"]


def test_text_and_bare_wires_inherit_the_colour():
    svg = picture(sm.Network.of(3, [[[0, 1]]]))
    assert svg.get("fill") == "currentColor"
    assert svg.findall(f"{SVG}path")[0].get("stroke") == "currentColor"
    assert svg.get("aria-label") == "The grid graph of 3 wires and 1 stage"


def test_wide_networks_are_summarised():
    wide = sm.block_diagonal(96, 8).then(sm.Network.of(96, [[[0, 1], [2, 3, 4]]])).repeat(2)
    rows = ET.fromstring(wide._repr_html_()).find("table")
    texts = [[cell.text for cell in row] for row in rows]
    mixed = "1 switch of radix 2, 1 switch of radix 3, 91 idle wires"
    stages = ["12 switches of radix 8", mixed, "12 switches of radix 8", mixed]
    assert texts == [[f"B{t}", text] for t, text in enumerate(stages, 1)]
    run = ET.fromstring(sm.butterfly(128)._repr_html_()).find("table")
    assert [[cell.text for cell in row] for row in run] == [
        ["B1–B7", "64 switches of radix 2"],
    ]
    many = ET.fromstring(wide.repeat(20)._repr_html_()).find("table")
    assert len(many) == 12
    assert many[-1][1].text == "69 more kinds of stage"


@pytest.mark.parametrize("shown", HTML, ids=lambda some: type(some).__name__)
def test_notebook_output_is_well_formed(shown):
    ET.fromstring(f"<div>{shown._repr_html_()}</div>")


def test_the_catalogue_names_every_family():
    table = ET.fromstring(sm.catalogue()._repr_html_())
    assert [row[0].text for row in table][1:] == [known.name for known in sm.catalogue()]
    assert str(sm.catalogue()).count("\n") == len(sm.catalogue())


def test_a_schedule_shows_its_steps():
    plan = sm.schedule(sm.monarch(6))
    table = ET.fromstring(plan._repr_html_()).find("table")
    assert [row[1].text for row in table][1:] == list(map(str, plan.steps))
    texts = "".join(ET.fromstring(plan._repr_html_()).itertext())
    first, *_, last = plan.explain().splitlines()
    assert first in texts
    assert last in texts


def test_svg_needs_no_optional_package():
    code = (
        "import sys, structmat as sm; sm.butterfly(8)._repr_html_();"
        "assert not {'matplotlib', 'torch', 'IPython'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
