"""Smoke test of an installed structmat, to be run outside the source tree.

`python smoke.py` tests the core and the extras; `python smoke.py --bare` tests the core, and that
the errors for missing packages name the extras. `.ci/release` runs it in new environments.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import numpy as np

import structmat as sm
from structmat.linalg import factors as stagewise

LOADED = {
    name.split(".")[0] for name, module in sys.modules.items() if module
}  # by importing structmat, and what is above


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bare", action="store_true", help="no extra is installed")
    bare = parser.parse_args().bare
    for part in (core, command, layer, without_extras if bare else with_extras):
        part()
        print(f"{part.__name__}: passed")


def core() -> None:
    assert sm.__version__ == importlib.metadata.version("structmat")
    assert (Path(sm.__file__).parent / "py.typed").is_file()
    assert not {"torch", "matplotlib", "hypothesis"} & LOADED
    net = sm.from_graph(nx.grid_2d_graph(3, 4, periodic=True), repeat=4)
    r = stagewise.matrix_of(net, sm.random_blocks(net, rng=0))
    assert np.allclose(r @ r.T, np.eye(12), atol=1e-12)
    assert sm.Network.from_json(net.to_json()) == net
    assert (sm.is_dense(net), sm.dimension(net).value) == (True, 66)
    butterfly = sm.parse("butterfly(block=2)")(8)
    swapped = stagewise.matrix_of(butterfly, sm.fit(butterfly, np.eye(8)).blocks)
    assert np.allclose(swapped, np.eye(8), atol=1e-6)
    assert sm.route(sm.benes(8), list(reversed(range(8))))
    assert sm.rank_bound(butterfly[:2], [4, 5], [0, 1]) == 0
    with_matching = nx.DiGraph([((0, 0), (1, 0)), ((0, 1), (1, 0)), ((0, 1), (1, 1))])
    assert sm.from_layers(with_matching, incomplete="complete").parameters == 1


def command() -> None:
    assert called("--version").stdout == f"structmat {sm.__version__}\n"
    rows = json.loads(called("compare", "monarch", "--width", "12", "--json").stdout)["rows"]
    assert (rows[0]["width"], rows[0]["dense"]) == (12, True)
    assert "butterfly(" in called("list").stdout
    refused = called("show", "benes", "--width", "12", code=2)
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1


def called(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "structmat", *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def layer() -> None:
    import torch
    from torch import nn

    from structmat.adapters import adapt, merge

    torch.manual_seed(0)
    model = adapt(nn.Sequential(nn.Linear(12, 12), nn.GELU(), nn.Linear(12, 3)), "monarch")
    x = torch.randn(5, 12)
    free = [p for p in model.parameters() if p.requires_grad]
    step = torch.optim.SGD(free, lr=0.1)
    before = model(x).square().sum()
    before.backward()
    step.step()
    after = model(x)
    assert after.square().sum() < before
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(x), after, atol=1e-5)
    assert torch.allclose(merge(model, unload=True)(x), after, atol=1e-5)


def without_extras() -> None:
    from torch import nn

    from structmat import viz
    from structmat.adapters import adapt, save_adapter

    net = sm.butterfly(8, block=2)
    model = adapt(nn.Linear(8, 8), net)
    refusals = {
        "plot": lambda: viz.grid(net),
        "adapters": lambda: save_adapter(model, "adapter"),
        "testing": lambda: importlib.import_module("structmat.testing"),
        "peft": lambda: importlib.import_module("structmat.peft"),
    }
    for extra, refused in refusals.items():
        assert f'pip install "structmat[{extra}]"' in said_by(refused), extra
    for name, extra in {"finetune": "finetune", "completion": "completion"}.items():
        said = called(name, *{"finetune": ["--quick"], "completion": ["bash"]}[name], code=2).stderr
        assert f'pip install "structmat[{extra}]"' in said, said


def said_by(refused: Callable[[], object]) -> str:
    try:
        refused()
    except ImportError as error:
        return str(error)
    return "nothing, it worked"


def with_extras() -> None:
    import torch
    from hypothesis import given, settings
    from peft import PeftModel, get_peft_model
    from torch import nn

    from structmat import viz
    from structmat.adapters import adapt, load_adapter, save_adapter
    from structmat.convert import convert
    from structmat.peft import StructmatConfig
    from structmat.testing import assert_orthogonal, networks

    def plain() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 3))

    @settings(max_examples=10, deadline=None)
    @given(networks())
    def law(net: sm.Network) -> None:
        assert_orthogonal(
            stagewise.matrix_of(net, sm.random_blocks(net, rng=0)), ulps=50 * net.depth
        )

    law()
    x = torch.randn(5, 12)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        viz.grid(sm.benes(8)).figure.savefig(folder / "benes.svg")

        model = adapt(plain(), "monarch")
        perturb(model)
        save_adapter(model, folder / "ours")
        assert torch.equal(load_adapter(plain(), folder / "ours")(x), model(x))

        tuned = get_peft_model(plain(), StructmatConfig(topology="monarch", target_modules=["0"]))
        perturb(tuned)
        tuned.save_pretrained(folder / "peft")
        assert torch.equal(PeftModel.from_pretrained(plain(), folder / "peft")(x), tuned(x))

        convert(folder / "ours", folder / "there", to="peft")
        assert (folder / "there" / "adapter_config.json").is_file()
    assert "complete" in called("completion", "bash").stdout


def perturb(model: object) -> None:
    import torch

    for parameter in model.parameters():  # type: ignore[attr-defined]
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)


if __name__ == "__main__":
    main()
