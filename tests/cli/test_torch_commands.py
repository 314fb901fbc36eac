"""`structmat convert` and `structmat audit` on real files."""

import json

import pytest
import torch
from torch import nn

from structmat.adapters import adapt, load_adapter, save_adapter
from structmat.cli import main
from structmat.cli.convert import COMPONENTS, CONVENTIONS, TARGETS
from structmat.convert import conversion, detection
from structmat.convert.image_programs import adapter_file
from tests.random_modules import randomised

files = pytest.importorskip("safetensors.torch")


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    one = randomised(adapt(make(), "block_diagonal(block=4)"), 0)
    save_adapter(one, tmp_path / "ours")
    (tmp_path / "model").mkdir()
    files.save_file(dict(make().state_dict()), tmp_path / "model" / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments):
    code = main(arguments)
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def test_convert_accepts_every_target():
    assert tuple(conversion.TARGETS) == TARGETS
    assert set(adapter_file.COMPONENTS) == set(COMPONENTS)
    assert detection.CONVENTIONS == CONVENTIONS


def test_conversion_round_trips(folder, capsys):
    out = run(capsys, "convert", "ours", "theirs", "--to", "peft-oft")
    assert "ours: structmat → PEFT's OFT, theirs" in out
    found = json.loads(run(capsys, "convert", "theirs", "again", "--model", "model", "--json"))
    assert found["format"] == "PEFT's OFT"
    assert found["layers"]["0"]["error"] < 1e-6
    one, other = load_adapter(make(), "ours"), load_adapter(make(), "again")
    x = torch.randn(3, 8)
    torch.testing.assert_close(one(x), other(x))


@pytest.mark.parametrize("to", ["lora", "merged"])
def test_lora_and_merged_are_written_from_the_model(folder, capsys, to):
    rank = ["--rank", "2"] if to == "lora" else []
    out = run(capsys, "convert", "ours", "theirs", "--to", to, "--model", "model", *rank)
    assert ("rank 2 loses" in out) == (to == "lora")
    assert (folder / "theirs").is_dir()


def test_audit_prints_text_and_json_and_writes_a_page(folder, capsys):
    out = run(capsys, "audit", "ours", "--model", "model", "--html", "audit.html")
    assert "merged − unmerged" not in out
    assert "energy: the relative change of the hyperspherical energy" in out
    assert out.endswith("\n\npage: audit.html\n")
    again = run(capsys, "audit", "ours", "--html", "audit.html", "--json", "--force")
    assert "page" not in json.loads(again)
    assert (folder / "audit.html").read_text("utf-8").startswith("<!doctype html>")
    found = json.loads(run(capsys, "audit", "ours", "--json"))
    assert found["layers"]["0"]["orthogonality_error"] < 1e-6
    assert "energy" not in found["layers"]["0"]


def test_an_unwritable_page_is_a_one_line_error(folder, capsys):
    (folder / "page").mkdir()
    assert main(["audit", "ours", "--html", "page"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("structmat audit: --html page: is a directory; give a file in it")
    assert err.count("\n") == 1
