"""An edited adapter.json means the same as before, or is refused with a clear error."""

import functools
import json
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from structmat.adapters import adapt, load_adapter, save_adapter
from structmat.adapters.checkpoint import SETTINGS
from structmat.errors import BaseModelWarning, FileError, StructmatError
from tests.json_edits import edits
from tests.random_modules import randomised, state, unchanged

pytest.importorskip("safetensors.torch")

X = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(3, 8)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)).double().eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    made = adapt(
        model(),
        "mixed_radix",
        target_modules=["0"],
        trainable=["2"],
        side="both",
        scale=True,
        bias=True,
        parametrization="exp",
    )
    folder = tmp_path_factory.mktemp("adapter")
    save_adapter(randomised(made, 0), folder)
    return folder, json.loads((folder / SETTINGS).read_text()), made(X)


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_an_edited_file_loads_as_before_or_is_refused(saved, data):
    folder, original, expected = saved
    (folder / SETTINGS).write_text(json.dumps(data.draw(edits(original))))
    one = model()
    before = state(one)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BaseModelWarning)  # of other fingerprints
            loaded = load_adapter(one, folder)
    except StructmatError:
        assert unchanged(one, before)
        assert type(one[0]) is nn.Linear
    else:
        assert torch.equal(loaded(X), expected)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("generator_scale",), "sgd", "generator_scale='sgd': it must be a number for each side"),
        (("generator_scale",), {"inputs": 1.0}, "a factor for each rotated side, inputs and outp"),
        (("generator_scale", "inputs"), -1, "generator_scaling=-1: it must be"),
        (("generator_scale", "inputs"), "none", "it must be a number for each side"),
        (("networks",), {}, "no layer is adapted, or one has no networks"),
        (("dropout",), [10**400, 0], "it must be two probabilities"),
        (("names",), "junk", "names='junk': it must be a list of names"),
    ],
)
def test_a_wrong_entry_of_a_layer_is_named(saved, place, value, message):
    folder, original, _ = saved
    found = json.loads(json.dumps(original))
    *heads, last = place
    functools.reduce(dict.__getitem__, heads, found["layers"]["0"])[last] = value
    (folder / SETTINGS).write_text(json.dumps(found))
    with pytest.raises(FileError, match=message):
        load_adapter(model(), folder)
