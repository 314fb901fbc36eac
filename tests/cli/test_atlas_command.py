"""`structmat atlas`: tables, saved networks, recomputation and submission."""

import json
import re
import subprocess
import sys
from contextlib import suppress

import pytest

import structmat as sm
from structmat.cli import main
from structmat.search.atlas.best_known import measured
from structmat.search.atlas.questions import QUESTIONS
from structmat.search.atlas.record_file import PATH, packaged, read, write
from structmat.search.atlas.stored_topology import Topology
from structmat.search.atlas.verification import submitted, with_records


def run(capsys, *arguments):
    code = main(["atlas", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def read_json(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_without_a_selection_the_purposes_are_counted(capsys):
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[1 : 1 + len(QUESTIONS)]] == list(QUESTIONS)
    assert f"{len(packaged()):,} records" in out


def test_a_selection_is_a_table(capsys):
    code, out, _ = run(capsys, "--width", 64, "--block", 4)
    assert code == 0
    assert str(sm.atlas(64, 4)) in out
    assert "mixing: fewest parameters of a network that mixes perfectly" in out
    rows = read_json(capsys, "--width", 64, "--purpose", "mixing")["records"]
    assert rows == sm.atlas(64, purpose="mixing").to_dict()["records"]


def test_the_best_network_is_saved_for_other_commands(capsys, tmp_path):
    path = tmp_path / "best.json"
    code, _, _ = run(capsys, "--width", 7, "--purpose", "half-dimension", "--save", path)
    assert code == 0
    assert sm.network(str(path)) == sm.atlas(7).best("half-dimension").network
    assert main(["show", str(path)]) == 0


def test_records_are_computed_again(capsys, tmp_path):
    code, out, _ = run(capsys, "--recompute", "--width", 8, "--purpose", "dense")
    assert code == 0
    assert out == "4 records computed again: no difference.\n"
    [record] = sm.atlas(8, 2, "dense")
    wrong = with_records(packaged(), [measured(Topology(8, "brickwall"), "dense", 2)])
    path = write(wrong, tmp_path / "atlas.json")
    assert run(capsys, "--recompute", "--width", 8, "--block", 2, "--file", path)[0] == 0
    text = path.read_text("utf-8").replace('"brickwall"', '"gossip"', 1)
    path.write_text(text, "utf-8")
    code, out, err = run(capsys, "--recompute", "--width", 8, "--purpose", "dense", "--file", path)
    assert code == 2
    assert "1 record of 4 differ: dense, width 8, block 2: the value is 12, not 28" in err
    assert record.value == 12


def test_records_are_found_and_written(capsys, tmp_path):
    path = tmp_path / "atlas.json"
    options = ("--recompute", "--write", "--width", 8, "--purpose", "mixing", "--file", path)
    assert read_json(capsys, *options) == {"records": 4, "changed": 4, "file": str(path)}
    assert read(path) == sm.atlas(8, purpose="mixing").records
    code, out, _ = run(capsys, *options)
    assert (code, out) == (0, f"4 records computed, 0 changed: {path}\n")


def test_a_better_network_is_submitted(capsys, tmp_path):
    path = tmp_path / "atlas.json"
    write(with_records(packaged(), [measured(Topology(16, "benes"), "mixing", 2)]), path)
    net = tmp_path / "net.json"
    net.write_text(sm.butterfly(16).to_json(), "utf-8")
    improved = read_json(capsys, "--submit", net, "--file", path)["improved"]
    assert [(row["purpose"], row["block"], row["value"]) for row in improved] == [("mixing", 2, 32)]
    assert read(path) != packaged()
    code, out, err = run(
        capsys, "--submit", net, "--file", path, "--write", "--holder", "construction"
    )
    assert (code, err) == (0, f"written: {path}\n")
    assert "a stored network" in out
    [record] = [r for r in read(path) if (r.purpose, r.width, r.block) == ("mixing", 16, 2)]
    assert record.holder == "construction"
    assert record.network == sm.butterfly(16)
    code, out, _ = run(capsys, "--submit", "butterfly", "--width", 16, "--file", path, "--write")
    assert (code, out) == (0, "No record is improved.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--width", "70"], "width=70: the atlas has the widths"),
        (["--purpose", "mix"], "purpose='mix': unknown"),
        (["--write"], "--write: nothing to write; give --recompute or --submit"),
        (["--submit", "butterfly"], "butterfly: a family has a network for each width; give"),
        (["--submit", "no.json"], "no.json: No such file"),
        (["--save", "x.txt"], "the suffix must be .json"),
        (["--save", "x.json"], "select one"),
        (["--file", "no.json"], "no.json: No such file.*compute it again"),
        (["--recompute", "--submit", "butterfly"], "not allowed with argument"),
    ],
)
def test_bad_input_raises_an_error_of_one_line(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["atlas", *arguments])
    except SystemExit as stopped:
        code = stopped.code
    err = capsys.readouterr().err
    assert code == 2
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert not list(tmp_path.iterdir())


def test_the_packaged_file_is_not_changed(capsys):
    before = PATH.read_bytes()
    run(capsys, "--recompute", "--width", 4, "--block", 2, "--purpose", "dense")
    assert PATH.read_bytes() == before


def test_submissions_at_the_same_time_are_all_kept(capsys, tmp_path, monkeypatch):
    """The second process submits while the first measures, and would replace what it writes."""
    pytest.importorskip("fcntl", reason="Windows has no lock of a folder")
    path, places = tmp_path / "atlas.json", [("mixing", 8, 2), ("mixing", 16, 2)]
    poor = [measured(Topology(width, "benes"), name, block) for name, width, block in places]
    write(with_records(packaged(), poor), path)
    started = []

    def slowly(records, topology, *, holder):
        found = submitted(records, topology, holder=holder)
        if not started:
            command = "-m structmat atlas --submit butterfly --width 8 --write --file"
            started.append(subprocess.Popen([sys.executable, *command.split(), str(path)]))
            with suppress(subprocess.TimeoutExpired):
                started[0].wait(8)
        return found

    monkeypatch.setattr("structmat.cli.atlas.submitted", slowly)
    assert run(capsys, "--submit", "butterfly", "--width", 16, "--file", path, "--write")[0] == 0
    assert started[0].wait(60) == 0
    values = {(r.purpose, r.width, r.block): r.value for r in read(path)}
    assert [values[place] for place in places] == [12, 32]
