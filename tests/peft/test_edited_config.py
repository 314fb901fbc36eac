"""An edited configuration of PEFT means the same as before, or is refused with a clear error."""

import json
import re
import warnings
from collections import OrderedDict

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.tuners.tuners_utils import NoMatchingPeftModuleError
from torch import nn

from structmat.errors import BaseModelWarning, StructmatError
from structmat.peft import StructmatConfig
from tests.json_edits import edits
from tests.random_modules import randomised, state, unchanged

SETTINGS = "adapter_config.json"
X = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(3, 8)
# The fields that PEFT itself reads.
PEFTS = ("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version")
PEFTS += ("revision", "task_type")


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2)).double().eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    config = StructmatConfig(
        topology="mixed_radix",
        topology_pattern={"0": "mixed_radix(largest=4)"},
        target_modules=["0"],
        modules_to_save=["2"],
        side="both",
        scale=True,
    )
    made = randomised(peft.get_peft_model(model(), config), 0)
    folder = tmp_path_factory.mktemp("adapter")
    made.save_pretrained(folder)
    return folder, json.loads((folder / SETTINGS).read_text()), made(X)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_edited_file_loads_as_before_or_is_refused(saved, data):
    folder, original, expected = saved
    own = {key: value for key, value in original.items() if key not in PEFTS}
    changed = data.draw(edits(own).filter(lambda found: isinstance(found, dict)))
    pefts = {key: original[key] for key in PEFTS if key in original}
    (folder / SETTINGS).write_text(json.dumps(pefts | changed))
    one = model()
    before = state(one)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BaseModelWarning)  # of other fingerprints
            warnings.filterwarnings("ignore", "Unexpected keyword arguments")  # an unknown field
            loaded = peft.PeftModel.from_pretrained(one, folder)
    except (StructmatError, NoMatchingPeftModuleError):  # of names of no layer
        assert unchanged(one, before)
        assert type(one[0]) is nn.Linear
    else:
        assert torch.equal(loaded(X), expected)


def test_a_layer_that_is_adapted_and_trained_in_full_is_refused():
    one = nn.Sequential(OrderedDict(first=nn.Linear(8, 6), last=nn.Linear(6, 2)))
    before = state(one)
    config = StructmatConfig(topology="mixed_radix", target_modules=".*", modules_to_save=["st"])
    with pytest.raises(StructmatError, match=r"^first, last: modules_to_save=\['st'\] names"):
        peft.get_peft_model(one, config)
    assert unchanged(one, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator_scales": 5}, "generator_scales=5: it must be a mapping; the field is set"),
        ({"generator_scales": ["ab", 3]}, "it must be a mapping"),
        ({"generator_scales": {"a": "x"}}, "{'a': 'x'}: a factor must be a number"),
        ({"generator_scales": {"a": float("nan")}}, "{'a': nan}: a factor must be"),
        ({"generator_scales": {"a": -1}}, "{'a': -1}: a factor must be"),
        ({"generator_scales": {3: 1.0}}, "it must be a mapping"),
        ({"networks": {"a": 3}}, "networks={'a': 3}: it must contain the fingerprint"),
        ({"fingerprints": {"0": 3}}, "the fingerprint of a base weight is invalid"),
        ({"fingerprints": "x"}, "fingerprints='x': it must be a mapping"),
        ({"topology_pattern": [["a"]]}, "it must be a mapping from regular expressions"),
        ({"topology_pattern": "ab"}, "topology_pattern='ab': it must be a mapping"),
        ({"target_modules": 3}, "target_modules=3: it must be a regular expression or a list"),
        ({"exclude_modules": [3]}, "exclude_modules=[3]: it must be"),
        ({"target_parameters": "up"}, "it must be a list of names, such as ['up']"),
        ({"modules_to_save": "head"}, "it must be a list of names, such as ['head']"),
        ({"layers_to_transform": "1"}, "layers_to_transform='1': layers_to_transform must be an"),
        ({"layers_to_transform": [1, -2]}, "must be an integer ≥ 0"),
        ({"layers_to_transform": 1, "layers_pattern": 4}, "layers_pattern=4: it must be"),
        ({"side": ["inputs"]}, "side=['inputs']: no such choice"),
        ({"bias": {}}, "bias={}: no such choice"),
        ({"parametrization": []}, "[]"),
        ({"dropout": [10**400, 0]}, "it must be two probabilities"),
    ],
)
def test_values_of_the_wrong_type_are_named(options, message):
    with pytest.raises(StructmatError, match=re.escape(message)):
        StructmatConfig(**options)
