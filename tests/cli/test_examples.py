"""The help of every command ends with an example that runs."""

from __future__ import annotations

import argparse
import csv
import itertools
import shlex

import pytest

from structmat import cli

[_COMMANDS] = [
    action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction)
]
EXAMPLES = {name: parser.epilog or "" for name, parser in _COMMANDS.choices.items()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_help_shows_the_example_on_one_line(capsys, name):
    with pytest.raises(SystemExit, match="0"):
        cli.main([name, "--help"])
    out = capsys.readouterr().out
    assert f"\n{EXAMPLES[name]}\n" in out  # whole, to be copied
    assert EXAMPLES[name].startswith(f"example: structmat {name} ")
    assert "--json" in out


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A working directory with the files that the examples read."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def adapter_and_model(folder):
    import torch
    from safetensors.torch import save_file
    from torch import nn

    from structmat.adapters import adapt, save_adapter

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48))
    (folder / "my-model").mkdir()
    save_file(dict(model.state_dict()), folder / "my-model" / "model.safetensors")
    adapted = adapt(model, "butterfly(block=8, depth=2)")
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    save_adapter(adapted, folder / "my-adapter")


def reviews(folder):
    words = {
        "1": "dull slow bad cold loud vain",
        "3": "fair plain long dry odd safe",
        "5": "warm wise new kind deep fun",
    }
    with (folder / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["review", "stars"])
        for stars, few in words.items():
            for three in itertools.combinations(few.split(), 3):
                rows.writerow([", ".join(three), stars])


NEEDS = {"convert": adapter_and_model, "audit": adapter_and_model, "finetune": reviews}
LEAVES = {
    "explore": "shuffle.html",
    "convert": "my-lora",
    "audit": "audit.html",
    "finetune": "structmat-finetune/report.html",
}
SLOW = {"bench", "finetune"}
SHORTER = {"finetune": ["--quick"]}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in EXAMPLES],
)
def test_the_example_of_the_help_runs(capsys, files, name):
    NEEDS.get(name, lambda _: None)(files)
    program, *arguments = shlex.split(EXAMPLES[name].removeprefix("example: "))
    assert program == "structmat"
    assert cli.main([*arguments, *SHORTER.get(name, [])]) == 0
    assert capsys.readouterr().out.strip()
    assert (files / LEAVES.get(name, "")).exists()
