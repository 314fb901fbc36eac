"""The scaling measurements: the script, its record, and the tables and curves."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm

DOCS = Path(__file__).parents[2] / "docs"


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script():
    return loaded("scaling")


@pytest.fixture(scope="module")
def short(script, tmp_path_factory):
    """Return the record of a quick run."""
    path = tmp_path_factory.mktemp("scaling") / "short.json"
    script.main(["--quick", "--minutes", "0", "--warmup", "1", "--output", str(path)])
    assert list(path.parent.iterdir()) == [path]
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def record(script):
    return json.loads(script.PATH.read_text("utf-8"))


def checked(script, record, *, quick):
    for axis, points in script.axes(quick=quick).items():
        rows = record["axes"][axis]
        assert [
            tuple(row[k] for k in ("curve", "x", "spec", "width", "tokens")) for row in rows
        ] == [(p.curve, p.x, p.spec, p.width, p.tokens) for p in points]
        for row in rows:
            if row["spec"] == script.DENSE:
                assert (row["depth"], row["parameters"]) == (None, row["width"] ** 2)
            else:
                net = sm.parse(row["spec"])(row["width"])
                assert (row["depth"], row["parameters"]) == (net.depth, net.parameters)
            for kind in ("forward", "step"):
                assert 0 < row[kind]["low"] <= row[kind]["median"] <= row[kind]["high"]
                assert row[kind]["rounds"] >= 3
        for kind in ("forward", "step"):  # all points of an axis are interleaved
            assert len({row[kind]["rounds"] for row in rows}) == 1


def test_the_record_contains_every_point_of_the_script(script, record):
    checked(script, record, quick=False)
    assert record["command"].startswith("python docs/scaling.py")
    assert {"model", "cores", "threads", "versions"} <= set(record["machine"])


def test_a_quick_run_contains_every_point(script, short):
    checked(script, short, quick=True)
    assert short["command"] == "python docs/scaling.py --quick --minutes 0 --warmup 1"


def test_the_axes_have_the_documented_points(script):
    axes = script.axes(quick=False)
    curves = {axis: {p.curve for p in points} for axis, points in axes.items()}
    assert curves["width"] == curves["tokens"] == {*script.SPECS, script.DENSE}
    assert max(p.width for p in axes["width"]) == 16_384
    assert max(p.width for p in axes["width"] if p.spec == script.DENSE) == 8192
    assert {p.tokens for p in axes["tokens"]} == {4**k for k in range(8)}
    assert {p.x for p in axes["depth"] if p.curve == "butterfly(block=2)"} == set(range(1, 13))
    assert [p.x for p in axes["radix"]] == [2, 4, 8, 16, 32, 64, None]
    assert set(script.SHARES) == set(axes)
    assert sum(script.SHARES.values()) == pytest.approx(1)


def test_the_timed_layers_are_not_the_identity(script):
    """Zero generators could take a shortcut that training does not have."""
    point = script.Point("monarch", 16, "monarch", 16, 4)
    matrix = point.module().matrix()
    assert (matrix.diagonal() < 1).all()
    assert (matrix == point.module().matrix()).all()


def of(law, places):
    spread = {x: {"median": law(x), "low": law(x), "high": law(x), "rounds": 3} for x in places}
    return {x: {"forward": spread[x], "step": spread[x]} for x in places}


@given(st.floats(-3, 3), st.floats(1e-6, 1e3))
def test_the_exponent_of_a_power_law_is_recovered(script, power, scale):
    rows = of(lambda d: scale * d**power, [2**k for k in range(6, 15)])
    assert script.exponent(rows, "step") == pytest.approx(power, abs=1e-9)


def test_the_exponent_is_fitted_to_wide_networks_only(script):
    rows = of(lambda d: 1.0 if d < 1024 else d / 1024, [256, 512, 1024, 4096])
    assert script.exponent(rows, "forward") == pytest.approx(1)
    assert script.exponent(of(float, [256, 512, 1024]), "forward") is None


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_a_crossover_is_where_a_curve_stays_ahead(script, ahead):
    rows = of(lambda x: 1.0 if ahead[x] else 3.0, range(len(ahead)))
    others = of(lambda _: 2.0, range(len(ahead)))
    first = script.overtakes(rows, others, "step")
    if first is None:
        assert not ahead[-1]
    else:
        assert all(ahead[first:])
        assert first == 0 or not ahead[first - 1]


def test_only_common_points_are_compared(script):
    assert script.overtakes(of(lambda _: 1.0, [1, 2, 3]), of(lambda _: 2.0, [2]), "step") == 2


@pytest.mark.parametrize("which", ["record", "short"])
def test_tables_contain_the_measured_times(script, which, request):
    found = request.getfixturevalue(which)
    about, *parts = script.tables(found)
    assert f"`{found['command']}`" in about
    assert len(parts) == 4
    for axis, part in zip(found["axes"], parts, strict=True):
        names = {"tokens": "number of tokens", "radix": "largest radix"}
        assert f"by {names.get(axis, axis)}, " in part
        rows = found["axes"][axis]
        for row in (rows[0], rows[-1]):  # of a place that every table has
            cell = " / ".join(script._milliseconds(row[k]["median"]) for k in ("forward", "step"))
            assert cell in part or (axis in ("width", "tokens") and row is rows[-1])
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (1.5, "1,500"),
        (0.0123456, "12.3"),
        (0.00123456, "1.23"),
        (0.0001234, "0.123"),
        (1e-5, "0.010"),
    ],
)
def test_milliseconds_have_three_digits(script, seconds, said):
    assert script._milliseconds(seconds) == said


def test_the_pictures_show_every_curve(script, short, tmp_path, monkeypatch):
    pictures = loaded("pictures")
    path = tmp_path / "scaling.json"
    path.write_text(json.dumps(short), encoding="utf-8")
    monkeypatch.setattr(pictures.scaling, "PATH", path)
    figure = pictures.growth()
    assert len(figure.axes) == 4
    for ax in figure.axes:
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        assert [line.get_label() for line in ax.lines[:5]] == [*script.SPECS, script.DENSE]
    words = {text.get_text() for text in figure.axes[0].texts}
    assert words == {"linear", "d·log d"}
    drawn, linear, growing = (figure.axes[0].lines[k] for k in (0, 5, 6))
    for line, law in ((linear, lambda d: d), (growing, lambda d: d * math.log2(d))):
        x, y = line.get_data()
        assert y[-1] == pytest.approx(drawn.get_ydata()[-1])
        assert y[-1] / y[0] == pytest.approx(law(x[-1]) / law(x[0]))
    for ax, curves in zip(pictures.stages().axes, [2, 1] * 2, strict=True):
        levels = [line for line in ax.lines if len(set(line.get_ydata())) == 1]
        assert len(ax.lines) == curves + len(levels) + (curves == 2)
        assert len(levels) == 1
