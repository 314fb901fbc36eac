"""A typical user script: the tests run it, and mypy checks its types strictly.

`assert_type` fails if a type has been lost to Any. The ignored line is wrong on purpose: if mypy
did not find the mistake, it would report the ignore as unused.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, assert_type

import torch
from hypothesis import given, settings
from matplotlib.axes import Axes
from torch import nn

import structmat as sm
from structmat import viz
from structmat.adapters import AdaptedLayer, adapt, adapters, load_adapter, merge, save_adapter
from structmat.analysis.comparison import Comparison
from structmat.analysis.dimension import Dimension
from structmat.analysis.report import Report
from structmat.families import Rule
from structmat.linalg import factors as stagewise
from structmat.linalg.schedule import Schedule
from structmat.nn import Orthogonal
from structmat.testing import assert_dense, assert_orthogonal, networks, seeds


@sm.family("multiples of 2", lambda width: "width must be even" if width % 2 else None)
def mirrored(width: int) -> sm.Network:
    """Join each wire to its mirror image, then each to the next."""
    ends = [[i, width - 1 - i] for i in range(width // 2)]
    return sm.Network.of(width, [ends, [[i, i + 1] for i in range(0, width, 2)]])


@settings(max_examples=5, deadline=None)
@given(networks(), seeds())
def members_are_orthogonal(net: sm.Network, seed: int) -> None:
    assert_orthogonal(
        stagewise.matrix_of(net, sm.random_blocks(net, rng=seed)), ulps=50 * net.depth
    )


def mathematics() -> None:
    net = sm.butterfly(8, block=2)
    assert_type(net, sm.Network)
    assert_type(mirrored(8), sm.Network)
    assert_type(net @ net.inverse(), sm.Network)
    assert_type(sm.parse("mirrored") * 2, Rule)
    assert_type(mirrored(8, repeat=2), sm.Network)
    assert_type(sm.butterfly(8, mirror=True), sm.Network)
    assert_type(net.width, int)
    assert_type(sm.is_dense(net), bool)
    assert_type(sm.dimension(net), Dimension)
    assert_type(sm.report(net), Report)
    assert_type(sm.compare(["monarch"], 12), Comparison)
    assert_type(sm.schedule(net), Schedule)
    assert_type(sm.route(sm.benes(4), [3, 2, 1, 0]) is None, bool)
    assert_type(sm.mixing(net), float)
    assert_dense(net)
    if TYPE_CHECKING:
        sm.rank_bound("butterfly", [0], [1])  # type: ignore[arg-type]


def learning(folder: Path) -> None:
    rotation = Orthogonal(sm.monarch(12))
    assert_type(rotation.adjoint(torch.ones(3, 12)), torch.Tensor)
    assert_type(rotation.matrix(), torch.Tensor)
    plain = nn.Sequential(nn.Linear(12, 4))
    model = adapt(copy.deepcopy(plain), "monarch")
    assert_type(model, nn.Module)
    assert_type(adapters(model), dict[str, AdaptedLayer])
    save_adapter(model, folder / "adapter")
    again = load_adapter(plain, folder / "adapter")
    assert_type(merge(again, unload=True), nn.Module)


def pictures() -> None:
    assert_type(viz.grid(sm.benes(8), inputs=0), Axes)
    drawn = viz.curves({"monarch": [(1.0, 0.5), (2.0, 0.25)]}, x="step", y="loss")
    drawn.set_title("a run")
    assert_type(viz.sparsity(sm.benes(8)), Axes)


if __name__ == "__main__":
    members_are_orthogonal()
    mathematics()
    with tempfile.TemporaryDirectory() as name:
        learning(Path(name))
    pictures()
