"""The matrices recorded for the tests of the page agree with the library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import structmat as sm
from structmat.explorer.answers import answer
from structmat.linalg.blocks import givens

PATH = Path(__file__).parent / "web" / "rotations.json"
SPECS = [
    ("butterfly", 8),
    ("shuffle(block=4)", 8),
    ("omega", 8),
    ("deal(block=3)", 7),
    ("mixed_radix", 6),
]


def rotation(net, angles):
    """The rotation of a network for angles by stage and switch."""
    numbers = (np.array(one) for stage in angles for one in stage)
    blocks = [
        givens(np.array([next(numbers) for _ in bank.reads]), bank.reads.shape[1])
        for stage in net.stages
        for bank in stage.banks
    ]
    return sm.Rotation(net, blocks)


def recorded(spec, width, seed):
    rng = np.random.default_rng(seed)
    stages = answer({"spec": spec, "width": width})["stages"]
    angles = [
        [
            rng.uniform(-np.pi, np.pi, len(one[0]) * (len(one[0]) - 1) // 2).round(6).tolist()
            for one in stage["switches"]
        ]
        for stage in stages
    ]
    matrix = rotation(sm.parse(spec)(width), angles).matrix()
    kept = [{name: stage[name] for name in ("switches", "moves")} for stage in stages]
    return {"width": width, "stages": kept, "angles": angles, "matrix": matrix.tolist()}


@pytest.mark.parametrize("place", range(len(SPECS)))
def test_recorded_matrices_agree_with_the_library(place):
    ours = recorded(*SPECS[place], place)
    theirs = json.loads(PATH.read_text("utf-8"))[place]
    assert {**ours, "matrix": None} == {**theirs, "matrix": None}
    assert np.abs(np.subtract(ours["matrix"], theirs["matrix"])).max() < 1e-14


if __name__ == "__main__":
    rows = [recorded(*pair, seed) for seed, pair in enumerate(SPECS)]
    PATH.write_text(json.dumps(rows) + "\n", "utf-8")
