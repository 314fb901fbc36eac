"""A text diagram is parsed back into the switches of the network."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError
from structmat.testing import networks

ROW = re.compile(r"(.*?) ──([─●┼]*)(?: (.+))?")  # name, columns, output


def switches_of(net):
    """Each stage as a set of switches, which are sets of wires."""
    return [{frozenset(row) for bank in s.banks for row in bank.reads.tolist()} for s in net]


def read(text):
    """Parse a diagram: switches by stage, names of wires, outputs."""
    stages, names, ends = {}, [], []
    for block in text.split("\n\n"):
        head, *rows = block.splitlines()
        if "B1" not in block and ROW.fullmatch(head):  # no stages, no header
            head, rows = "", [head, *rows]
        parts = [ROW.fullmatch(row) for row in rows]
        if not rows or None in parts:
            continue  # the caption
        names, ends = [part[1].strip() for part in parts], [part[3] for part in parts]
        drawn = [part[2] for part in parts]
        assert len(set(map(len, drawn))) == 1
        indent = parts[0].start(2)
        titles = [(m.start() - indent, int(m[1])) for m in re.finditer(r"B(\d+)", head)]
        limits = [*[start for start, _ in titles], len(drawn[0])][1:]
        for (start, number), limit in zip(titles, limits, strict=True):
            found = stages.setdefault(number, set())
            for place in range(start, limit):
                found |= bars("".join(row[place] for row in drawn))
    return [stages[number] for number in sorted(stages)], names, ends


def bars(column):
    """The switches of one column: runs of dots and crossings between two dots."""
    found = set()
    for bar in re.finditer(r"[●┼]+", column):
        assert bar[0][0] == bar[0][-1] == "●"
        found.add(frozenset(bar.start() + k for k, mark in enumerate(bar[0]) if mark == "●"))
    return found


@settings(deadline=None)
@given(networks(), st.integers(24, 100))
def test_a_drawing_shows_exactly_the_switches(net, columns):
    text = sm.diagram(net, columns=columns)
    straight, _, outputs = net.straightened()
    stages, names, ends = read(text)
    assert stages == switches_of(straight)
    assert names == [str(wire) for wire in range(net.width)]
    assert max(map(len, text.splitlines())) <= columns
    if net.is_straight:
        assert ends == [None] * net.width
        assert "wired" not in text
    else:
        assert [int(ends[wire]) for wire in outputs] == list(range(net.width))
        assert "drawn straightened" in " ".join(text.split())


@settings(deadline=None)
@given(networks(wired=False))
def test_switches_use_the_fewest_columns(net):
    """The number of switches at one wire, including the empty wire below each."""
    rows = sm.diagram(net, columns=1000).splitlines()[1:]
    taken = sum("●" in column for column in zip(*rows, strict=True))
    crowds = [
        max((sum(min(s) <= w <= max(s) + 1 for s in switches) for w in range(net.width)), default=0)
        for switches in switches_of(net)
    ]
    assert taken == sum(crowds)


def test_wires_are_named_by_their_labels():
    names = ["Athens", "Rome", "Oslo", "San Pedro Sula"]
    [crossed, *_] = sm.benes(4).stages
    net = sm.Network(4, [crossed], labels=names)
    _, shown, ends = read(sm.diagram(net, columns=40))
    assert shown == ["Athens", "Rome", "Oslo", "San Pedro…"]
    assert ends == ["Athens", "Oslo", "Rome", "San Pedro…"]
    narrow = sm.diagram(net, columns=24)
    assert read(narrow)[1] == ["Athens", "Rome", "Oslo", "San P…"]
    assert max(map(len, narrow.splitlines())) <= 24
    pairs = sm.Network(2, net[:0].stages, labels=[(0, 1), ("a\nb", None)])
    assert read(sm.diagram(pairs, columns=80))[1] == ["(0, 1)", r"('a\nb', None)"]


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("safe\u202egnp", r"safe\u202egnp"),
        ("\udc80", r"\udc80"),
        ("a\tb\nc", "a b c"),
    ],
)
def test_control_characters_are_escaped(label, shown):
    text = sm.diagram(sm.Network(2, labels=[label, "b"]), columns=80)
    assert read(text)[1] == [shown, "b"]
    assert all(mark.isprintable() or mark == "\n" for mark in text)


def test_wide_and_combining_characters_are_aligned():
    """East Asian wide characters take two columns, combining accents none."""
    net = sm.Network.of(3, [[[0, 1, 2]]], labels=["東京", "abcd", "e\u0301tes"])
    rows = sm.diagram(net, columns=80).splitlines()
    assert rows == [
        "       B1",
        "東京 ──●───",
        "abcd ──●───",
        "e\u0301tes ──●───",
    ]
    cut = sm.diagram(sm.Network(1, labels=["東京" * 9]), columns=24)
    assert read(cut)[1] == ["東京…"]


def test_sixty_four_wires_are_drawn_in_full_and_wrapped():
    net = sm.butterfly(64)
    text = sm.diagram(net, columns=80)
    assert read(text)[0] == switches_of(net)
    blocks = text.split("\n\n")
    assert [re.findall(r"B\d+", block) for block in blocks] == [
        ["B1", "B2", "B3", "B4", "B5"],
        ["B6"],
    ]
    assert all(len(block.splitlines()) == 65 for block in blocks)


def test_a_stage_wider_than_the_terminal_is_wrapped():
    net = sm.Network.of(40, [[[i, i + 20] for i in range(20)]])
    text = sm.diagram(net, columns=30)
    assert re.findall(r"B\d+", text) == ["B1", "B1"]
    assert read(text)[0] == switches_of(net)


SUMMARIES = [
    (sm.butterfly(1024, block=8, depth=3)[2:], "B1  128 switches of radix 8, runs of 4, stride 16"),
    (sm.mixed_radix(4096, radices=(16, 4, 64))[1:2], "B1  1,024 switches of radix 4, stride 16"),
    (sm.Network.of(70, [[[0, 1, 3]]]), "B1  1 switch of radix 3, irregular; 67 idle wires"),
    (
        sm.Network.of(65, [[[0, 1], [2, 4]], [[7, 64]]]),
        "B1  2 switches of radix 2, irregular; 61 idle wires\n"
        "B2  1 switch of radix 2, stride 57; 63 idle wires",
    ),
    (sm.Network.of(99, [[]]), "B1  99 idle wires"),
    (sm.Network(99), "no stages: the identity"),
    (
        sm.block_diagonal(66, 2).then(sm.Network.of(66, [[]])).repeat(17),
        "B1, B3, … B33 (17 stages)  33 switches of radix 2, stride 1\n"
        "B2, B4, … B34 (17 stages)  66 idle wires",
    ),
    (sm.block_diagonal(66, 2).repeat(40), "B1–B40  33 switches of radix 2, stride 1"),
]


@pytest.mark.parametrize(("net", "text"), SUMMARIES)
def test_wide_networks_are_summarised(net, text):
    assert sm.diagram(net, columns=80) == text


@settings(deadline=None, max_examples=30)
@given(st.integers(65, 200), st.integers(2, 5), st.integers(1, 4), st.integers(0, 99))
def test_a_summary_counts_every_switch_and_idle_wire(width, block, depth, seed):
    net = sm.random(width, block, depth, rng=seed)
    lines = " ".join(sm.diagram(net, columns=30).split())
    for stage, text in zip(net, re.split(r"B\d+ ", lines)[1:], strict=True):
        found = re.findall(r"(\d+) switch(?:es)? of radix (\d+)", text)
        assert [(int(a), int(b)) for a, b in found] == [(b.count, b.radix) for b in stage.banks]
        idle = re.search(r"(\d+) idle", text)
        assert int(idle[1] if idle else 0) == len(stage.idle)


@pytest.mark.parametrize("run", [1, 2, 3, 6])
@pytest.mark.parametrize("gap", [0, 1, 5])
def test_the_spacing_of_switches_is_described(run, gap):
    """Switches of six wires: runs side by side, then a gap, again and again."""
    wires = np.arange(6) // run * (run + gap) + np.arange(6) % run
    net = sm.Network.of(100, [[wires.tolist(), (wires + 50).tolist()]])
    said = sm.diagram(net, columns=80).partition("radix 6, ")[2].partition(";")[0]
    if gap == 0 or run == 6:
        assert said == "stride 1"
    else:
        assert said == (f"stride {1 + gap}" if run == 1 else f"runs of {run}, stride {run + gap}")


def test_a_deep_wide_network_has_a_readable_summary():
    net = sm.Network.of(100, [[[0, k]] for k in range(1, 90)])
    lines = sm.diagram(net, columns=80).splitlines()
    assert len(lines) == 33
    assert lines[16] == "… 57 more kinds of stage"
    assert sm.diagram(net[:33], columns=80).splitlines()[16] == "… 1 more kind of stage"
    assert lines[0].endswith("stride 1; 98 idle wires")
    assert lines[-1].endswith("stride 89; 98 idle wires")


def test_a_wide_wired_network_is_described_as_wired():
    assert "permutations between stages" in sm.diagram(sm.benes(128), columns=80)


def test_the_default_number_of_columns_is_that_of_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    assert sm.diagram(sm.butterfly(32)) == sm.diagram(sm.butterfly(32), columns=50)
    monkeypatch.setenv("COLUMNS", "3")  # no drawing is so narrow
    assert sm.diagram(sm.butterfly(4)) == sm.diagram(sm.butterfly(4), columns=24)


@pytest.mark.parametrize("columns", [23, 0, 80.0, "80"])
def test_too_few_columns_are_rejected(columns):
    with pytest.raises(StructmatError, match="columns must be an integer ≥ 24"):
        sm.diagram(sm.butterfly(4), columns=columns)


def test_only_networks_are_drawn():
    with pytest.raises(StructmatError, match="diagram of 'butterfly': it takes a network"):
        sm.diagram("butterfly")
