"""Untrusted input is processed within bounds, or rejected with value, rule and remedy.

All inputs are read in a separate process with a memory limit. Nothing is timed: if the cost of an
input grew with a number in it, not with its length, the process would hang or run out of memory.
"""

import json
import os
import resource
import struct
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest

import structmat as sm
from structmat.errors import FileError, SpecError, StructmatError, WidthError, abbreviated
from structmat.explorer.answers import answer
from structmat.families import number_theory, resolution
from structmat.families.registry import nearby
from structmat.linalg import factors as stagewise

MERSENNE = 2**61 - 1  # a prime
_MEMORY = 3 * 2**30  # bytes of addresses, of which Python, numpy and scipy take half
HUGE = "9" * 20_000
ENTITY = "<!DOCTYPE graphml [<!ENTITY a 'b'>]><graphml><graph><node id='&a;'/></graph></graphml>"


def network(width=2, stages=((),), **more):
    data = {"format": "structmat.network", "version": 1, "width": width, "stages": list(stages)}
    return json.dumps(data | more)


SPECS = [
    f"butterfly(block={10**11})",
    f"butterfly(depth={10**11})",
    f"butterfly(block=0x{'f' * 9000})",
    f"butterfly(block={HUGE})",
    f"random(block=2, depth={10**10}, rng=0)",
    f"brickwall(depth={10**12})",
    f"torus(repeat={10**12})",
    f"circulant(offsets=(1, {10**15}))",
    f"de_bruijn(symbols={10**9})",
    f"random_regular(degree={10**9}, rng=0)",
    "mixed_radix(radices=(" + "2," * 10_000 + "))",
    "torus(sides=(" + "3," * 10_000 + "))",
    "butterfly(block=" + "(" * 5000 + "1" + ")" * 5000 + ")",
    "butterfly(block=" + "-" * 50_000 + "1)",
    "x" * 10**6,
    "cayley_graph(generators=(" + "(1, 0)," * 8000 + "(1,)))",
]
JSON = [
    network(10**12),
    network(10**30),
    network("8"),
    network(float("nan")),
    network(float("inf")),
    network(8, [[[[[0, 10**30]]]]]),
    network(8, [[[[[0, float("nan")]]]]]),
    network(8, [[[[["0", "1"]]]]]),
    network(8, [8]),
    network(8, labels=8),
    network(2**22 + 1),
    network().replace('"width": 2', f'"width": {HUGE}'),
    "[" * 100_000,
    '{"a":' * 100_000,
    network().replace("[[]]", "[" * 100_000),
    network(2, labels=[[0], 1]).replace("[0]", "[" * 500 + "]" * 500)[:-2],
    "",
    "null",
    "\ud800",
]


def refused(call, *arguments):
    with pytest.raises(StructmatError) as caught:  # noqa: PT011 (each says its own)
        call(*arguments)
    assert len(str(caught.value)) < 3000, arguments


def read_all(folder):
    """Try every input; it runs in a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    for spec in SPECS:
        for width in (8, MERSENNE):
            refused(lambda s, w: sm.parse(s)(w), spec, width)
    for known in sm.catalogue():
        given = {"block": 4, "depth": 2, "degree": 4, "rng": 0, "graphs": ("path",), "sides": (8,)}
        given["generators"] = ((1, 0),)
        needed = {k: given[k] for k, o in known.options.items() if o.default is o.empty}
        for width in (MERSENNE, 10**18, 10**5000):
            refused(lambda w, f=known.build, o=needed: f(w, **o), width)
    for text in JSON:
        refused(sm.Network.from_json, text)
    for name in ("/dev/zero", "net.json", f"{folder}/none.json", f"{folder}/\0.json"):
        refused(resolution.network, name if "/" in name else f"{folder}/{name}")
    for question in (
        {"spec": "butterfly", "width": HUGE},
        {"spec": "butterfly", "width": "9" * 3000},
        {"spec": f"butterfly(depth={10**11})", "width": 8},
        {"spec": "x" * 10**5, "width": 8},
        {"stages": [[[0, 10**30]]], "width": 8},
        {"stages": [[[0, float("nan")]]], "width": 8},
        {"stages": [[]] * 10**6, "width": 64},
        [[[[]]]],
    ):
        refused(answer, question)
    for call in (
        lambda: sm.butterfly(8).repeat(10**12),
        lambda: sm.butterfly(8).dilate(10**12),
        lambda: sm.Network.of(10**12, [[[0, 1]]]),
        lambda: sm.Stage(10**12),
        lambda: sm.dense_networks(MERSENNE),
        lambda: sm.compare("butterfly", "8"),
    ):
        refused(call)
    rows = sm.compare(["butterfly", "mixed_radix"], [MERSENNE, 10**30]).rows
    assert all("a network has at most" in row["refused"] for row in rows)


def test_parsing_memory_is_linear_in_the_input_length(tmp_path):
    (tmp_path / "net.json").write_text("[" * 10**6, encoding="utf-8")
    folder = os.path.dirname(__file__)  # noqa: PTH120
    program = (
        f"import sys; sys.path.insert(0, {folder!r});"
        f"import test_untrusted; test_untrusted.read_all({str(tmp_path)!r}); print('read')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.stdout == "read\n", done.stderr[-3000:]


def test_an_error_tries_a_bounded_number_of_widths():
    for width in (1, 7, 384, 100_003, 2**22 - 1):
        assert sum(map(len, nearby(width))) <= 2**19
        asked = []

        def refuses(size, asked=asked):
            asked.append(size)
            return "none is taken"

        @sm.family("none", refuses)
        def nothing_at_all(width):
            raise AssertionError(width)

        try:
            with pytest.raises(WidthError, match="none is taken"):
                nothing_at_all(width)
        finally:
            sm.families.registry.unregister("nothing_at_all")
        assert len(asked) <= 2**19 + 1


def test_factoring_a_width_takes_few_divisions():
    class Counted(int):
        divisions = 0

        def __mod__(self, other):
            Counted.divisions += 1
            return int(self) % other

    number_theory.prime_factors(Counted(4_194_301))  # the largest prime width
    assert Counted.divisions <= 2**11


def test_the_cost_of_a_wide_stage_depends_on_its_switches_only():
    text = network(2**22, [[[[[0, 2**21]]]]] * 2000)
    net = sm.Network.from_json(text)
    assert (net.width, net.depth) == (2**22, 2000)
    assert sm.Network.from_json(net.to_json()) == net


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sm.butterfly(MERSENNE), "width=2305843009213693951: a network has at most"),
        (lambda: sm.parse("butterfly(block=0x" + "f" * 900 + ")")(8), "at most 640 digits"),
        (
            lambda: sm.butterfly(8, depth=10**5000),
            "an integer of 16,610 bits: .* have at most 640 digits",
        ),
        (lambda: sm.brickwall(64, depth=10**9), "1,000,000,000 stages of 64 wires; width × stages"),
        (
            lambda: sm.families.circulant(2**20, (1, 2, 3)),
            "the graph has 3,145,728 edges; at most",
        ),
        (lambda: sm.parse("benes" + " " * 70_000), "a spec of 70,005 characters"),
        (lambda: sm.Network.from_json('{"width": NaN}'), "NaN is not a JSON number"),
        (lambda: sm.Network.from_json("[" * 10**5), "nested too deeply"),
    ],
)
def test_limit_errors_state_the_value_and_the_limit(call, message):
    with pytest.raises(StructmatError, match=message):
        call()


def test_long_values_are_abbreviated():
    deep = ()
    for _ in range(100_000):
        deep = (deep,)
    assert len(abbreviated(deep)) < 100
    assert abbreviated([10**5000]) == "a list that cannot be printed"
    assert abbreviated(np.eye(2)) == "array([[1., 0.], [0., 1.]])"
    assert len(abbreviated("x" * 10**6)) <= 200
    while deep:  # a destructor that recurses is none of ours
        (deep,) = deep


# Files -----------------------------------------------------------------------------------------


def test_a_topology_is_a_spec_a_network_a_graph_or_a_file(tmp_path):
    net, graph = sm.butterfly(8, block=4), nx.petersen_graph()
    saved, drawn = tmp_path / "näme of a net.json", tmp_path / "graph.graphml"
    saved.write_text(net.to_json(), encoding="utf-8")
    nx.write_graphml(graph, drawn)
    for one in (net, "butterfly(block=4)", saved, str(saved), sm.parse("butterfly(block=4)")):
        assert resolution.network(one, 8) == net
    for one in (graph, drawn, str(drawn)):
        assert resolution.network(one) == sm.from_graph(graph)
    assert resolution.network(net.to_networkx()) == net
    assert resolution.network(lambda width: sm.benes(width), 8) == sm.benes(8)
    with pytest.raises(WidthError, match="the network has width 8, not 16"):
        resolution.network(saved, 16)
    with pytest.raises(StructmatError, match="function has a network for each width; give the wi"):
        resolution.network(sm.benes)
    with pytest.raises(StructmatError, match="it must be a spec string, a Family"):
        resolution.network(7)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"", "truncated or not JSON"),
        ("a.json", b"\xff\xfe", "not in UTF-8"),
        ("a.json", b"[]", "structmat.network"),
        ("a.graphml", b"", "not GraphML"),
        ("a.graphml", ENTITY.encode(), "must not define entities"),
        ("a.graphml", ENTITY.encode("utf-16"), "must not define entities"),
        ("a.graphml", b"<graphml/>", "not GraphML"),
    ],
)
def test_the_error_for_a_file_without_a_network_names_the_file(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FileError, match=message) as caught:
        resolution.network(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_is_not_parsed_as_a_spec():
    with pytest.raises(FileError, match=r"no\.json: No such file.*expected a network"):
        resolution.network("no.json")
    with pytest.raises(SpecError, match="no family 'nojson'"):
        resolution.network("nojson")


# Adapters and timings ---------------------------------------------------------------------------

WAY = {"ends": [1], "seconds": 1.0}


@pytest.mark.parametrize(
    "damaged",
    [
        {"times": [WAY | {"seconds": seconds}]}
        for seconds in (-1.0, 0, float("nan"), float("inf"), "1", None, True, [1.0])
    ]
    + [
        {"times": [WAY | {"ends": ends}]}
        for ends in (None, [1.5], ["1"], [-1], [True], 3, {"1": 1})
    ]
    + [{"times": times} for times in ([WAY, {}], [WAY, 3], {"ends": [1]}, 3, None, [])]
    + [{"rounds": rounds} for rounds in (0, -1, 1.5, True, "1", None)]
    + [{"spread": spread} for spread in (-0.1, float("inf"), 10**400, True, "0", None)],
)
def test_a_damaged_plan_is_measured_again(tmp_path, monkeypatch, damaged):
    from structmat._util import files
    from structmat.nn.ops import timing_cache

    monkeypatch.setenv(files.CACHE, str(tmp_path))
    timing_cache.forget()
    good = {"rounds": 4, "spread": 0.0, "times": [WAY]}
    data = {"format": "structmat.timings", "version": 1}
    data["timings"] = {"bad": good | damaged, "good": good, "none": None}
    timing_cache.file().write_text(json.dumps(data), encoding="utf-8")
    infinite = "NaN" in json.dumps(data) or "Infinity" in json.dumps(data)  # no JSON at all
    assert timing_cache.recall("bad").seconds == timing_cache.recall("none").seconds == {}
    assert timing_cache.recall("good").seconds == ({} if infinite else {(1,): 1.0})
    timings = timing_cache.Timings({(2,): 0.5}, 3, 0.1)
    timing_cache.remember("bad", timings)
    timing_cache.forget()
    assert timing_cache.recall("bad") == timings
    timing_cache.forget()


@pytest.mark.parametrize("content", [b"[" * 10**5, b" " * (2**22 + 1), b"\xff", b"7", b'{"a": 1}'])
def test_an_invalid_plan_file_is_treated_as_empty(tmp_path, monkeypatch, content):
    from structmat._util import files
    from structmat.nn.ops import timing_cache

    monkeypatch.setenv(files.CACHE, str(tmp_path))
    timing_cache.forget()
    timing_cache.file().write_bytes(content)
    assert timing_cache.recall("any").seconds == {}
    timing_cache.forget()


def test_damaged_adapters_are_rejected_without_side_effects(tmp_path):
    torch = pytest.importorskip("torch")
    from structmat.adapters import adapt, load_adapter, save_adapter

    def model():
        return torch.nn.Sequential(torch.nn.Linear(8, 8))

    folder = save_adapter(adapt(model(), "butterfly"), tmp_path / "a")
    settings = json.loads((folder / "adapter.json").read_text(encoding="utf-8"))
    layer = settings["layers"]["0"]
    odd = [
        "[" * 10**5,
        '{"format":' + "9" * 10_000 + "}",
        json.dumps(settings | {"networks": [json.loads(network(10**12))]}),
        json.dumps(settings | {"networks": [json.loads(network(2**22, [[]] * 1000))]}),
        json.dumps(settings | {"layers": {"0": layer | {"networks": {"inputs": -1}}}}),
        json.dumps(settings | {"layers": {"0": layer | {"networks": {"inputs": "0"}}}}),
        json.dumps(settings | {"layers": {"0": layer | {"weight": [8, float("inf")]}}}),
        json.dumps(settings | {"layers": {"0": layer | {"weight": [10**30, 8]}}}),
        json.dumps(settings | {"layers": {"0": layer | {"dropout": [2, "x"]}}}),
        json.dumps(settings | {"layers": 3}),
    ]
    for text in odd:
        (folder / "adapter.json").write_text(text, encoding="utf-8")
        plain = model()
        with pytest.raises(FileError, match=r"adapter\.json|does not fit"):
            load_adapter(plain, folder)
        assert type(plain[0]) is torch.nn.Linear
    (folder / "adapter.json").write_text(json.dumps(settings), encoding="utf-8")
    for head in (2**62, 10**8, 8):  # the header of a safetensors file says how long it is
        (folder / "adapter.safetensors").write_bytes(struct.pack("<Q", head) + b"{}")
        with pytest.raises(FileError, match="checksum"):
            load_adapter(model(), folder)


def test_fitting_a_scaled_orthogonal_target_reports_the_scale():
    net, source = sm.ruler(8), np.random.default_rng(0)
    matrix = np.linalg.qr(source.standard_normal((8, 8)))[0]
    for scale in (1.0, 2.5, 1e-3):
        found = sm.fit(net, scale * matrix)
        product = stagewise.matrix_of(net, found.blocks)
        assert found.scale == pytest.approx(scale)
        gap = np.linalg.norm(product - scale * matrix)
        assert found.error == pytest.approx(
            gap / np.linalg.norm(scale * matrix), rel=1e-9, abs=1e-13
        )
        assert found.scaled_error < 1e-13
        assert ("times that of an orthogonal matrix" in str(found)) is (scale != 1)
