import csv
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import structmat as sm
from structmat import cli
from structmat.cli import catalogue, finetune, main
from structmat.cli.compare import FAMILIES, WIDTHS
from structmat.explorer.exploring import opening
from structmat.families import unregister
from structmat.finetune import methods


def run(capsys, *arguments):
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def read(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_list_has_every_family_with_its_widths(capsys):
    rows = read(capsys, "list")
    assert [row["family"] for row in rows] == [entry.name for entry in sm.catalogue()]
    code, out, _ = run(capsys, "list")
    assert code == 0
    for entry in sm.catalogue():
        assert f"{entry.name}(" in out
        assert f"widths: {entry.widths}" in out
        assert entry.summary in out


@pytest.mark.parametrize(("width", "budget"), [(2, None), (12, None), (96, 2000), (127, None)])
def test_list_of_a_width_describes_its_networks(capsys, width, budget):
    limit = [] if budget is None else ["--budget", str(budget)]
    found = read(capsys, "list", "--width", str(width), *limit)
    assert (found["width"], found["budget"]) == (width, budget)
    rules = sm.dense_networks(width, budget)
    assert [row["network"] for row in found["networks"]] == [str(rule) for rule in rules]
    for rule, row in zip(rules, found["networks"], strict=True):
        net = rule(width)
        assert (row["parameters"], row["depth"]) == (net.parameters, net.depth)
        assert row["dense_at"] == sm.report(net).dense_depth
        assert row["largest_switch"] == max(bank.radix for bank in net.banks)
        assert row["straight"] is net.is_straight
    named = {rule.name for rule in rules}
    assert found["without"] == [e.name for e in sm.catalogue() if e.name not in named]


def table_of(out):
    """Return the rows of a printed table, as lists of cells."""
    head, *lines = out.partition("\n\n")[0].splitlines()
    assert head.split("  ")[0] == "network"
    return [re.split(r"  +", line) for line in lines]


def test_list_of_a_width_prints_the_best_networks(capsys):
    every = read(capsys, "list", "--width", "96")["networks"]
    _, out, _ = run(capsys, "list", "--width", "96", "--all")
    printed = table_of(out)
    for (marked, *cells), row in zip(printed, every, strict=True):
        name = marked.removesuffix(" *")
        assert (name != marked) == row["recommended"]
        assert name == row["network"] or (name[-1] == "…" and row["network"].startswith(name[:-1]))
        numbers = [row[key] for key in ("parameters", "depth", "dense_at", "largest_switch")]
        wiring = "straight" if row["straight"] else "wired"
        assert cells == [*map("{:,}".format, numbers), wiring]
    assert "--all" not in out

    _, out, _ = run(capsys, "list", "--width", "96")
    shown = table_of(out)
    best = [row for row, cells in zip(every, printed, strict=True) if cells in shown]
    assert len(best) == len(shown) < len(every)
    assert f"{len(shown)} of {len(every)} dense networks" in " ".join(out.split())
    assert {row["family"] for row in best} == {row["family"] for row in every}
    for row in every:  # what is not shown has no fewer parameters and no fewer stages than another
        assert any(
            one["parameters"] <= row["parameters"] and one["depth"] <= row["depth"] for one in best
        )
    assert "benes" in out.partition("\n\n")[2]  # 96 is no power of 2


@pytest.mark.parametrize(("width", "budget"), [(96, None), (43, None), (96, "800")])
def test_list_marks_what_choose_recommends(capsys, width, budget):
    limit = [] if budget is None else ["--budget", budget]
    best = read(capsys, "choose", "--width", str(width), *limit, "--rows", "1")["rows"][0]
    _, out, _ = run(capsys, "list", "--width", str(width), *limit)
    [marked] = [name for name, *_ in table_of(out) if name.endswith(" *")]
    assert marked.removesuffix(" *") == best["network"]
    assert f"Recommended for finetuning: {best['network']}" in " ".join(out.split())


def test_list_recommends_nothing_if_only_wired_networks_are_within_the_budget(capsys, monkeypatch):
    monkeypatch.setattr(catalogue, "choose", lambda *_, **__: sm.choose(96, budget=1))
    code, out, _ = run(capsys, "list", "--width", "96")
    assert code == 0
    assert "Recommended" not in out


def test_choose_prints_the_table_and_its_values(capsys):
    options = ["--width", "12", "20", "12", "--purpose", "mix", "--budget", "depth=4"]
    options += ["--budget", "900", "--rows", "3"]
    found = read(capsys, "choose", *options)
    expected = sm.choose(
        [12, 20, 12], purpose="mix", budget={"depth": 4, "parameters": 900}, rows=3
    )
    assert found == json.loads(json.dumps(expected.to_dict()))
    code, out, _ = run(capsys, "choose", *options)
    assert (code, out) == (0, f"{expected}\n")


def test_long_names_are_truncated_in_the_table(capsys):
    options = [f"option_{k}" for k in range(6)]
    command = ["list", "--width", "5", "--budget", "20"]

    @sm.family("any", choices={name: lambda _: [1] for name in options})
    def with_options(width, option_0, option_1, option_2, option_3, option_4, option_5):
        return sm.Network.of(width, [[range(width)]] * 2)

    try:
        _, out, _ = run(capsys, *command)
        [row] = [r for r in read(capsys, *command)["networks"] if "with_" in str(r)]
    finally:
        unregister("with_options")
    name = f"with_options({', '.join(f'{option}=1' for option in options)})"
    assert row["network"] == name
    assert f"\n{name[:59]}…  " in out
    assert "--json prints them in full" in out


def test_list_does_not_build_huge_networks(capsys):
    """A family may declare a network that is too large for memory."""

    @sm.family("any", claims=lambda *_: sm.families.Claims(depth=10**9, parameters=5, dense_at=7))
    def endless(width):
        raise AssertionError("built")

    try:
        _, out, _ = run(capsys, "list", "--width", "8")
    finally:
        unregister("endless")
    assert re.search(r"endless +5 +1,000,000,000 +7 +– +–", out)


@pytest.mark.parametrize("spec", ["butterfly(block=8, depth=2)", "mirror(butterfly(block=8)) * 2"])
def test_show_prints_the_diagram_the_report_and_the_schedule(capsys, spec):
    net = sm.parse(spec)(64)
    found = read(capsys, "show", spec, "--width", "64")
    plan = sm.schedule(net).to_dict()
    assert found == sm.report(net).to_dict() | {"spec": spec, "schedule": plan}
    _, out, _ = run(capsys, "show", spec, "--width", "64")
    assert out.startswith(sm.diagram(net) + "\n\n")
    assert str(sm.report(net)) in out
    assert sm.schedule(net).explain() in out


HEADS = {".svg": b"<?xml", ".png": b"\x89PNG", ".PNG": b"\x89PNG"}


@pytest.mark.parametrize("ending", HEADS)
@pytest.mark.parametrize(("spec", "width"), [("benes", 8), ("mixed_radix", 66), ("benes", 8192)])
def test_show_saves_a_picture(capsys, tmp_path, spec, width, ending):
    path = tmp_path / f"net{ending}"
    path.write_text("an older one")
    code, out, err = run(
        capsys, "show", spec, "--width", str(width), "--save", str(path), "--force"
    )
    assert (code, err) == (0, "")
    assert out.endswith(f"picture: {path}\n")
    assert path.read_bytes().startswith(HEADS[ending])
    assert list(tmp_path.iterdir()) == [path]


def test_a_network_always_yields_the_same_picture(capsys, tmp_path):
    first, again = tmp_path / "a.svg", tmp_path / "b.svg"
    for path in (first, again):
        assert run(capsys, "show", "benes", "--width", "8", "--save", str(path))[0] == 0
    assert first.read_bytes() == again.read_bytes()


def test_a_picture_is_written_through_a_link(capsys, tmp_path):
    path, link = tmp_path / "far" / "net.svg", tmp_path / "net.svg"
    path.parent.mkdir()
    link.symlink_to(path)
    for _ in range(2):  # at first there is nothing there
        assert run(capsys, "show", "benes", "--width", "8", "--save", str(link), "--force")[0] == 0
        assert link.is_symlink()
        assert path.read_bytes().startswith(b"<?xml")
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("promise", [None, False])
def test_show_limits_the_width_only_of_networks_that_may_be_dense(capsys, monkeypatch, promise):
    """The limit on width² × stages applies only if density is not ruled out."""
    monkeypatch.setattr("structmat.cli.show._PAIRS", 64**2)
    claims = sm.families.Claims(dense=promise)
    monkeypatch.setattr(sm.Family, "claims", lambda *_: claims)
    code, out, err = run(capsys, "show", "brickwall(depth=2)", "--width", "64")
    if promise is None:
        assert (code, out) == (2, "")
        assert "has 2 stages: show accepts width × stages up to" in err
    else:
        assert code == 0


@pytest.mark.parametrize("width", [8, 128])
def test_a_saved_picture_colours_how_inputs_spread(capsys, tmp_path, width):
    drawn = []
    for name, inputs in (("none", []), ("some", ["--inputs", "0,3"])):
        path = tmp_path / f"{name}.svg"
        run(capsys, "show", "benes", "--width", str(width), "--save", str(path), *inputs)
        drawn.append(path.read_text("utf-8"))
    assert "#d4d4d4" not in drawn[0]  # the colour of an edge that carries nothing
    assert "#d4d4d4" in drawn[1]


def test_a_failed_picture_leaves_no_file(capsys, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    path = tmp_path / "net.svg"
    code, out, err = run(capsys, "show", "benes", "--width", "8", "--save", str(path))
    assert (code, out) == (2, "")
    assert err == f"structmat show: {path}: cannot be written (No space left on device)\n"
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_show_draws_text_and_names_the_extra(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run(capsys, "show", "benes", "--width", "8")[0] == 0
    path = tmp_path / "net.svg"
    code, _, err = run(capsys, "show", "benes", "--width", "8", "--save", str(path))
    assert code == 2
    assert 'pip install "structmat[plot]"' in err


@pytest.fixture
def importing(tmp_path, monkeypatch):
    """Change to a directory whose modules are unloaded after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


MINE = """
import structmat as sm
from neighbour import STRIDE

@sm.family("even", lambda width: None if width % 2 == 0 else "width must be even")
def my_halves(width):
    "Join each wire of the first half to one of the second."
    return sm.Network.of(width, [[[i, i + width // 2] for i in range(width // STRIDE)]])
"""


@pytest.mark.parametrize("how", ["mine_file.py", "./mine_file.py", "mine_module"])
def test_custom_families_are_loaded(capsys, importing, how):
    name = how.removeprefix("./").removesuffix(".py")
    (importing / f"{name}.py").write_text(MINE, encoding="utf-8")
    (importing / "neighbour.py").write_text("STRIDE = 2\n", encoding="utf-8")
    try:
        rows = read(capsys, "list", "--load", how)
        assert "my_halves" in [row["family"] for row in rows]
        [row] = read(capsys, "compare", "my_halves", "--width", "8")["rows"]
        assert row["parameters"] == 4
        assert run(capsys, "show", "my_halves", "--width", "7")[0] == 2
    finally:
        unregister("my_halves")


def test_a_file_is_accepted_in_place_of_a_network(capsys, tmp_path):
    path = tmp_path / "my net.json"
    path.write_text(sm.butterfly(8).to_json(), encoding="utf-8")
    found = read(capsys, "show", str(path))
    assert found == read(capsys, "show", "butterfly", "--width", "8") | {"spec": str(path)}
    assert read(capsys, "show", str(path), "--width", "8") == found
    code, _, err = run(capsys, "show", str(path), "--width", "9")
    assert (code, err.count("\n")) == (2, 1)
    assert "the network has width 8, not 9" in err
    one, other = read(capsys, "compare", str(path), "butterfly")["rows"]
    assert one == other | {"network": str(path)}
    method = methods.rotation(str(path))
    assert method.topology(8) == sm.butterfly(8)
    assert opening(str(path))["stages"][0] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    path.write_text(sm.butterfly(128).to_json(), encoding="utf-8")
    assert str(methods.rotation(str(path)).topology) != str(method.topology)  # a resumed run sees


def test_show_explains_why_a_network_can_never_be_dense(capsys):
    _, out, _ = run(capsys, "show", "block_diagonal(block=4)", "--width", "124")
    assert "in 31 connected components, of 4 wires each, so no number of repetitions" in out
    assert "input 0 never influences output 4" in out
    _, out, _ = run(capsys, "show", "butterfly(depth=2)", "--width", "4")
    assert "not dense" not in out


def test_compare_has_a_row_for_every_network_and_width(capsys):
    rows = read(capsys, "compare", "shuffle(block=4)", "benes", "--width", "8", "12")["rows"]
    assert [(row["network"], row["width"]) for row in rows] == [
        ("shuffle(block=4)", 8),
        ("shuffle(block=4)", 12),
        ("benes", 8),
        ("benes", 12),
    ]
    assert "width must be 2^n" in rows[3]["refused"]


def test_full_comparisons_and_reports_have_the_expensive_parts(capsys):
    specs = ["butterfly(block=4)", "benes"]
    table = sm.compare(specs, [8, 6], full=True, progress=False)
    command = ["compare", *specs, "--width", "8", "6", "--full"]  # a slow one shows a bar
    assert json.loads(run(capsys, *command, "--json")[1]) == table.to_dict()
    code, out, _ = run(capsys, *command)
    assert (code, out) == (0, f"{table}\n")

    report = sm.report(sm.butterfly(8)).complete(progress=False)
    assert {"conditioning", "spectrum", "bounds", "dimension"} <= set(report.to_dict())
    command = ["show", "butterfly", "--width", "8", "--full"]
    found = json.loads(run(capsys, *command, "--json")[1])
    plan = sm.schedule(sm.butterfly(8)).to_dict()
    assert found == report.to_dict() | {"spec": "butterfly", "schedule": plan}
    code, out, _ = run(capsys, *command)
    assert code == 0
    assert f"\n{report}\n" in out


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_interrupted_comparison_prints_its_rows(capsys, monkeypatch, form):
    seen = []

    def mixing(_):
        if seen:
            raise KeyboardInterrupt
        return seen.append(1) or 0.5

    monkeypatch.setattr("structmat.analysis.report.mixing", mixing)
    command = ["compare", "butterfly", "--width", "8", "16", "32", "--full", *form]
    code, out, err = run(capsys, *command)
    assert code == 130
    assert err.endswith("structmat compare: interrupted\n")
    if form:
        assert json.loads(out)["missing"] == 2
        assert [row["width"] for row in json.loads(out)["rows"]] == [8]
    else:
        assert out.endswith("\n\ninterrupted: 1 of 3 rows\n")
        assert len(table_of(out)) == 2


def test_compare_defaults_to_the_networks_of_the_demo(capsys):
    rows = read(capsys, "compare")["rows"]
    assert {row["width"] for row in rows} == set(WIDTHS)
    assert {row["network"] for row in rows} >= set(FAMILIES)
    assert all(row["refused"] is None for row in rows)
    code, out, _ = run(capsys, "compare")
    assert code == 0
    assert "torus" in out


WRONG = [
    (["choose", "--width", "64", "--budget", "10"], "the least is 124 parameters, for gossip"),
    (["choose", "--width", "64", "--budget", "depth=x"], "'x' is not a number; write 5000"),
    (["choose", "--width", "64", "--budget", "9", "--budget", "8"], "parameters is limited twice"),
    (["choose", "--width", "64", "--budget", "nan"], "parameters=nan: it must be a finite number"),
    (["choose", "--width", "1"], "width=1: width must be an integer ≥ 2"),
    (["choose", "--width", "64", "--purpose", "finetuning"], "did you mean finetune"),
    (["show", "butterfly", "--width", "48"], "nearest are 32 and 64"),
    (["show", "buterfly", "--width", "48"], "did you mean butterfly"),
    (["show", "butterfly(block=__import__('os'))", "--width", "8"], "must be a literal"),
    (["show", "butterfly +", "--width", "8"], "cannot be parsed; a spec looks like"),
    (["show", "butterfly * 2"], "a family has a network for each width; give --width N"),
    (["show", "butterfly * 1000000000", "--width", "8"], "show accepts width × stages up to"),
    (["compare", "benes @ buterfly", "--width", "8"], "did you mean butterfly"),
    (["show", "butterfly", "--width", "-4"], "width must be an integer ≥ 1"),
    (["list", "--budget", "3"], "--width N, which is missing"),
    (["list", "--all"], "--width N, which is missing"),
    (["list", "--width", "1"], "width must be an integer ≥ 2"),
    (["list", "--width", "16", "--budget", "-1"], "budget must be an integer ≥ 0"),
    (["list", "--width", "16", "--budget", "3"], "no network of width 16 is dense within it"),
    (["list", "--load", "none.py"], "none.py: no such Python file"),
    (["list", "--load", "no/such"], "no/such: no such Python file"),
    (["list", "--load", "no_such_module"], "no_such_module: no such module"),
    (["list", "--load", ""], "'': no such module"),
    (["list", "--load", ".."], "..: no such module"),
    (["list", "--load", "json"], "json: registers no family"),
    (["show", "benes", "--width", "8", "--save", "net.pdf"], "the suffix must be .svg or .png"),
    (["show", "benes", "--width", "8", "--save", "net"], "the suffix must be .svg or .png"),
    (["show", "benes", "--width", "8", "--save", "no/net.svg"], "there is no directory no"),
    (["show", "benes", "--width", "8", "--inputs", "0"], "give --save FILE.svg"),
    (
        ["show", "benes", "--width", "8", "--inputs", "8", "--save", "a.svg"],
        "input 8: a network of width 8 has wires 0 to 7",
    ),
    (
        ["show", "block_diagonal(block=8192)", "--width", "8192", "--save", "a.svg"],
        "20,000,000 free entries of the factors, not 67,108,864",
    ),
    (
        ["show", "triangle", "--width", "11008"],
        "22,013 stages and 60,582,528 parameters: show accepts width × stages up to 20,000,000",
    ),
    (["show", "butterfly", "--width", "131072"], "17 stages and 1,114,112 parameters"),
    (["show", "butterfly"], "a family has a network for each width; give --width N"),
    (["show", "no.json"], "no.json: No such file or directory; expected a network"),
    (["compare", "no.json"], "no.json: No such file"),
    (["finetune", "--topology", "no.json"], "no.json: No such file"),
    (["explore", "no.json"], "no.json: No such file"),
    (["explore", "no.json", "--save", "a.html"], "no.json: --save accepts only families"),
    (["compare", "shuffle(blok=4)"], "no option 'blok'; did you mean block"),
    (["finetune", "--compare", "lor"], "did you mean lora"),
    (["finetune", "--compare", ","], "give at least one"),
    (["finetune", "--topology", "benes(3)"], "options are written name=value"),
    (
        ["finetune", "--topology", "benes", "--rate", "nan"],
        "a learning rate must be a positive number",
    ),
    (["finetune", "--seeds", "0"], "seeds=0: seeds must be an integer ≥ 1"),
    (["finetune", "--epochs", "0"], "epochs=0: epochs must be an integer ≥ 1"),
    (["finetune", "--data", "none.csv"], "--data needs --text COLUMN and --label COLUMN"),
    (["finetune", "--text", "a"], "which is missing"),
    (["finetune", "--keep-duplicates"], "--keep-duplicates applies to --data FILE.csv, which is"),
    (["finetune", "--data", "none.csv", "--text", "a", "--label", "b"], "none.csv: cannot be read"),
    (["finetune", "--model", "./none"], "./none: no such directory"),
    (["convert", "none", "out"], "none: no such file or directory"),
    (["convert", "none", "out", "--to", "lora"], "lora needs a rank"),
    (["convert", "none", "out", "--rank", "3"], "and no other format takes one"),
    (["convert", "none", "out", "--to", "merged"], "give the pretrained model (model=, --model)"),
    (["convert", "none", "out", "--to", "lycoris"], "its name must end in .safetensors"),
    (["convert", "none", "no/out"], "no/out: there is no directory no"),
    (["audit", "none"], "none: no such file or directory"),
    (["audit", "none", "--most", "1"], "most=1: most must be an integer ≥ 2"),
    (["audit", "none", "--html", "no/a.html"], "--html no/a.html: there is no directory no"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda x: " ".join(x)[:40])
def test_invalid_input_is_a_one_line_error_with_exit_code_2(
    capsys, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"structmat {arguments[0]}: ")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["show", "butterfly", "--width", "x"],
        ["show", "butterfly", "--width", "8", "--inputs", "a"],
        ["finetune", "--quick", "--full"],
        ["finetune", "--tune", "--rate", "0.01"],
    ],
)
def test_an_invalid_command_line_is_a_one_line_error_that_names_the_help(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "--help" in captured.err


def test_a_missing_command_shows_the_help_and_is_an_error(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    wanted = capsys.readouterr().out
    code, out, err = run(capsys)
    assert (code, out, err) == (2, "", wanted)
    assert "usage: structmat" in err


def test_the_help_of_finetune_states_the_defaults(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["finetune", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    page = " ".join((Path(__file__).parents[2] / "docs" / "finetuning.md").read_text().split())
    usual, quick, full = (
        finetune._settings(cli._parser().parse_args(["finetune", *given]))
        for given in ([], ["--quick"], ["--full"])
    )
    hyperparameters = usual.hyperparameters
    assert full.hyperparameters == hyperparameters
    assert (quick.hyperparameters.epochs, quick.hyperparameters.max_length) == (
        hyperparameters.epochs,
        hyperparameters.max_length,
    )
    assert f"number of epochs (default: {hyperparameters.epochs})" in said
    assert (
        f"texts per step (default: {hyperparameters.batch}, with --quick"
        f" {quick.hyperparameters.batch})" in said
    )
    assert f"tokens per text (default: {hyperparameters.max_length})" in said
    assert f"runs per method (default: {usual.seeds}, with --full {full.seeds})" in said
    for number, option in (
        (hyperparameters.epochs, "epochs"),
        (f"{hyperparameters.batch}, or {quick.hyperparameters.batch} with `--quick`", "batch"),
        (hyperparameters.max_length, "max-length"),
        (f"{usual.seeds}, or {full.seeds} with `--full`", "seeds"),
    ):
        assert f"`--{option}` ({number})" in page


@pytest.mark.parametrize(
    "command", ["list", "show", "compare", "choose", "bench", "finetune", "convert", "audit"]
)
def test_every_command_has_help_with_an_example(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    out = capsys.readouterr().out
    assert f"example: structmat {command}" in " ".join(out.split())
    assert "--json" in out


BROKEN = [
    ("", "registers no family; decorate a function"),
    ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
    ("1 / 0", "cannot be imported (ZeroDivisionError: division by zero)"),
    ("import json\n\njson.loads('[')", ", line 3: json.loads('[')"),
    ("import structmat as sm\n\nsm.parse('benes')(7)", ", line 3: sm.parse('benes')(7)"),
    ("\n\nx = (", ", line 3"),
    ("raise SystemExit(3)", "cannot be imported (SystemExit: 3)"),
    ("import sys\nsys.exit('enough')", "cannot be imported (SystemExit: enough)"),
    ("def f(:", "cannot be imported (SyntaxError: invalid syntax"),
    (
        "import structmat\n@structmat.family('any')\ndef benes(width): ...",
        "family 'benes' is already registered",
    ),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
@pytest.mark.parametrize("how", ["broken_file.py", "broken_module"])
def test_a_file_that_cannot_be_loaded_is_a_one_line_error(capsys, importing, how, text, message):
    (importing / f"{how.removesuffix('.py')}.py").write_text(text, encoding="utf-8")
    code, out, err = run(capsys, "list", "--load", how)
    assert (code, out) == (2, "")
    assert err.startswith(f"structmat list: {how}: ")
    assert message in err
    assert err.count("\n") == 1


FAULTY = [  # the arguments of sm.family, what the function returns, and what is said of it
    ("", "1 / 0", "its function fails (ZeroDivisionError: "),
    ("", "5", "a family returns a Network of that width, not 5"),
    ("", "sm.benes(4)", "a family returns a Network of that width, not Network(width=4"),
    ("", "sm.Network.of(2, [[[0, 5]]])", "wire 5"),
    (", lambda width, a: 1 / 0", "sm.benes(width)", "its function fails (ZeroDivisionError: "),
    (", choices={'a': lambda width: 1 / 0}", "sm.benes(width)", "its function fails (ZeroDivi"),
    (
        ", claims=lambda width, a: 1 / 0",
        "sm.benes(width)",
        "its function fails (ZeroDivisionError: ",
    ),
    (
        ", claims=lambda width, a: {}",
        "sm.benes(width)",
        "return structmat.families.Claims(…), not {}",
    ),
    (
        ", claims=lambda width, a: sm.families.Claims(2, 3, dense_at=2)",
        "1 / 0",
        "its function fails (ZeroDiv",
    ),
]


@pytest.mark.parametrize(("arguments", "returned", "message"), FAULTY)
def test_a_faulty_family_is_named_in_one_line(capsys, importing, arguments, returned, message):
    text = f"import structmat as sm\n@sm.family('any'{arguments})\n"
    (importing / "faults.py").write_text(f"{text}def faulty(width, a=1):\n    return {returned}\n")
    try:
        code, out, err = run(capsys, "list", "--width", "8", "--load", "faults.py")
    finally:
        unregister("faulty")
    assert (code, out) == (2, "")
    assert err.startswith("structmat list: faulty at width 8: ")
    assert message in err
    assert err.count("\n") == 1


def test_loading_a_file_named_like_an_imported_module_is_refused(capsys, tmp_path):
    (tmp_path / "json.py").write_text("", encoding="utf-8")
    code, _, err = run(capsys, "list", "--load", str(tmp_path / "json.py"))
    assert code == 2
    assert "a module json exists already; give the file another name" in err


def test_an_interrupted_command_exits_with_130(capsys, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.sm, "catalogue", interrupt)
    code, _, err = run(capsys, "list")
    assert (code, err) == (130, "structmat list: interrupted\n")


def test_unencodable_characters_are_replaced_by_similar_ones():
    def printed(encoding):
        """Return what three commands print, run by one process."""
        code = (
            "from structmat.cli import main\n"
            "for line in ('show benes --width 4', 'list --json', 'show --help'):\n"
            "    try:\n        assert main(line.split()) == 0\n"
            "    except SystemExit as end:\n        assert end.code == 0\n"
            "    print('=' * 9)"
        )
        environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, env=environment, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode(encoding).split("=" * 9)

    lines, families, _, _ = printed("utf-8")
    assert "─●─" in lines
    for encoding in ("ascii", "cp1252", "iso8859-9"):
        plain, listed, said, _ = printed(encoding)
        assert "-o-" in plain
        assert list(map(len, plain.splitlines())) == list(map(len, lines.splitlines()))
        assert json.loads(listed) == json.loads(families)
        assert "--width N" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", [["list"], ["show", "benes", "--width", "4", "--json"]])
def test_unwritable_output_is_a_one_line_error(arguments):
    with Path("/dev/full").open("w") as full:  # the first fails while printing, the other after
        done = subprocess.run(
            [sys.executable, "-m", "structmat", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    said = os.strerror(errno.ENOSPC)
    assert done.stderr == f"structmat {arguments[0]}: cannot write ({said})\n"


def test_a_closed_pipe_is_silent():
    end, start = os.pipe()
    os.close(end)
    with os.fdopen(start, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "structmat", "list"], stdout=pipe, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_unexpected_errors_are_not_hidden(monkeypatch):
    def missing():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "a.txt")

    monkeypatch.setattr(cli.sm, "catalogue", missing)
    with pytest.raises(FileNotFoundError, match=r"a\.txt"):
        main(["list"])


def test_commands_that_need_no_model_load_no_torch():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "structmat", "list"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "butterfly(" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert loaded.isdisjoint({"torch", "transformers", "peft"})


COLOURS = ["crimson", "olive", "navy", "teal", "amber", "ivory", "coral", "khaki", "plum", "azure"]
ANIMALS = ["otter", "heron", "lynx", "viper", "moose", "gecko", "raven", "bison", "trout", "crane"]


@pytest.mark.slow
def test_finetune_accepts_custom_data(tmp_path, monkeypatch, capsys):
    """The packaged model, a CSV file and a custom topology."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "kind"])
        for kind, names in (("colour", COLOURS), ("animal", ANIMALS)):
            writer.writerows((f"{a} and {b}", kind) for a in names for b in names if a < b)
    command = ["finetune", "--quick", "--data", path.name, "--text", "what", "--label", "kind"]
    code, _, err = run(capsys, *command, "--topology", "monarch(radices=(24, 16))")
    assert code == 2
    assert err.splitlines()[-1].endswith("inputs of widths 384, 1536")
    assert not (tmp_path / "structmat-finetune").exists()

    command += ["--topology", "mixed_radix(largest=4)", "--compare", "lora", "--json"]
    code, out, err = run(capsys, *command, "--rate", "0.003")
    assert code == 0
    found = json.loads(out)
    assert "mine.csv: 90 rows, all used" in err
    assert "warning: 16 steps may be too few" in err
    assert {row["rate_source"] for row in found["methods"]} == {"given"}
    assert found["ranking"]["top"] in {"lora", "mixed-radix"}
    assert found["task"]["selection"] == {"rows": 90, "dropped": []}
    assert found["task"]["labels"] == ["animal", "colour"]
    assert [row["method"] for row in found["methods"]] == ["lora", "mixed-radix"]
    assert found["best"]["method"] == "mixed-radix"
    assert found["best"]["test"] > 0.8  # of two balanced classes
    assert "mixed-radix, seed 0: trained in" in err
    assert "\r" not in err
    assert (tmp_path / "structmat-finetune" / "report.html").is_file()


def test_unitary_blocks_are_selected_by_the_field(capsys):
    found = read(capsys, "show", "brickwall", "--width", "4", "--field", "complex")
    assert (found["field"], found["parameters"]) == ("complex", 24)
    (row,) = read(capsys, "compare", "brickwall", "--width", "4", "--field", "complex")["rows"]
    assert row["parameters"] == 24
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "brickwall", "--width", "4", "--field", "quaternion"])
    assert "'quaternion' (choose from" in capsys.readouterr().err


def test_an_interrupted_finetuning_states_what_is_saved(tmp_path):
    assert finetune._saved(tmp_path).startswith("no training run has finished, so nothing is saved")
    (tmp_path / "tuning.json").write_text("{}")
    (tmp_path / "runs").mkdir()
    for name in ("head-0", "lora-0"):
        (tmp_path / "runs" / f"{name}.json").write_text("{}")
    assert "the search for learning rates and 2 finished training runs;" in finetune._saved(
        tmp_path
    )
