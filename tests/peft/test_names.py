"""Misspelt names: those that PEFT ignores cause a warning, invalid adapter names an error."""

import copy
import warnings

import peft
import pytest
import torch
from torch import nn

from structmat.errors import StructmatError
from structmat.peft import StructmatConfig
from tests.peft.models import Case
from tests.peft.test_lifecycle import adapted, config, layers
from tests.random_modules import state, unchanged

CASE = Case("perceptron", r"layers\.\d", "mixed_radix")


def net(width=16):
    linear = lambda: nn.Linear(width, width)  # noqa: E731
    blocks = [nn.ModuleDict({"q_proj": linear(), "v_proj": linear()}) for _ in range(2)]
    return nn.ModuleDict({"layers": nn.ModuleList(blocks), "head": linear()})


LISTS = [
    (
        {"target_modules": ["q_proj", "value_proj"]},
        "target_modules: 'value_proj' matches no module of this model; did you mean v_proj",
    ),
    (
        {"target_modules": ["q_proj", "layers.7.v_proj"]},
        r"target_modules: 'layers\.7\.v_proj' matches no module",
    ),
    (
        {"target_modules": ["q_proj", "head"], "exclude_modules": ["haed", "layers.1.q_proj"]},
        "exclude_modules: 'haed' matches no module of this model; did you mean head",
    ),
    (
        {"target_modules": ["q_proj"], "modules_to_save": ["head", "hed"]},
        "modules_to_save: 'hed' matches no module of this model; did you mean head",
    ),
    (
        {
            "target_modules": ["q_proj"],
            "layers_to_transform": [0],
            "layers_pattern": ["layers", "layer"],
        },
        "layers_pattern: 'layer' matches no list of layers in this model; did you mean lay",
    ),
    (
        {"target_modules": ["q_proj"], "layers_to_transform": [1, 5]},
        "layers_to_transform: no layer of this model has the number 5; numbers go from 0 to 1",
    ),
]


@pytest.mark.parametrize(("options", "said"), LISTS)
def test_names_that_match_nothing_are_reported_in_a_warning(options, said):
    made = StructmatConfig(topology="mixed_radix", **options)
    with pytest.warns(UserWarning, match=f"{said}.*; it is ignored$"):
        model = peft.get_peft_model(net(), made)
    assert layers(model)
    with pytest.warns(UserWarning, match=said):
        model.add_adapter("other", StructmatConfig(topology="mixed_radix", **options))


@pytest.mark.parametrize(("options", "said"), LISTS)
def test_a_model_is_unchanged_if_the_warning_about_a_name_is_an_error(options, said):
    """Warnings are errors here, unless a test catches them."""
    model = net()
    before = state(model)
    with pytest.raises(UserWarning, match=said):
        peft.get_peft_model(model, StructmatConfig(topology="mixed_radix", **options))
    assert unchanged(model, before)
    assert not hasattr(model, "peft_config")


def test_matching_names_cause_no_warning(tmp_path):
    for options, _ in LISTS:
        names = options["target_modules"]
        peft.get_peft_model(
            net(), StructmatConfig(topology="mixed_radix", target_modules=names[:1])
        )
    shared = nn.Linear(8, 8)
    model = nn.Sequential(nn.ModuleDict({"a": shared}), nn.ModuleDict({"b": shared}))
    peft.get_peft_model(model, StructmatConfig(topology="butterfly", target_modules=["a", "b"]))
    made = StructmatConfig(topology="mixed_radix", target_modules=["q_proj", "gone"])
    base = net()
    with pytest.warns(UserWarning, match="'gone'"):
        peft.get_peft_model(copy.deepcopy(base), made).save_pretrained(tmp_path)
    # No warning on loading: the user may not have chosen the names.
    peft.PeftModel.from_pretrained(base, tmp_path)


def test_unknown_adapter_names_are_refused():
    model = adapted(CASE)
    before = copy.deepcopy(model.state_dict())
    for ask in (
        lambda: model.merge_adapter(["defualt"]),
        lambda: model.merge_and_unload(adapter_names=["default", "defualt"]),
        lambda: model.base_model.set_adapter("defualt"),
        lambda: model.base_model.set_adapter(["default", "defualt"]),
        lambda: model.set_requires_grad("defualt"),
        lambda: model.set_requires_grad(["defualt"], requires_grad=False),
        lambda: model.add_weighted_adapter(["defualt"], [1.0], "new"),
    ):
        with pytest.raises(StructmatError, match="'defualt': no such adapter; did you mean d"):
            ask()
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert model.active_adapters == ["default"]


BAD = ["", "a.b", "keys", "items", "type", "forward", "training", "update", "weight", "bias"]
BAD += ["base_layer", "modules_to_save", "generators", "structmat_inputs", "layers", "3"]


@pytest.mark.parametrize("name", BAD)
def test_invalid_adapter_names_are_refused(name):
    model = CASE.model()
    before = state(model)
    with pytest.raises(StructmatError, match=f"^adapter {name!r}: .*; choose another name$"):
        peft.inject_adapter_in_model(config(CASE), model, name)
    assert unchanged(model, before)
    tuned = adapted(CASE)
    before = state(tuned)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of names that are part of "structmat_"
        with pytest.raises(StructmatError, match=f"^adapter {name!r}: .*; choose another name$"):
            tuned.add_adapter(name, config(CASE))
    assert unchanged(tuned, before)
    assert list(tuned.peft_config) == ["default"]


# Other settings -------------------------------------------------------------------------------


def test_a_configuration_round_trips_through_json_and_dict(tmp_path):
    for made in (
        StructmatConfig(),
        StructmatConfig(
            topology_pattern={"b": "monarch", "a": "butterfly"},
            dropout=(0.1, 0.5),
            target_modules=["v", "q"],
            exclude_modules={"k"},
            layers_to_transform=[1, 2],
            modules_to_save=["head"],
            task_type="SEQ_CLS",
        ),
    ):
        made.save_pretrained(tmp_path)
        assert StructmatConfig.from_json_file(tmp_path / "adapter_config.json") == made.to_dict()
        assert StructmatConfig(**made.to_dict()) == made


def test_a_single_dropout_number_is_refused_and_the_error_shows_the_correct_form():
    with pytest.raises(StructmatError, match=r"dropout=0\.1: it must be two .*\(1, 0\.1\) drops"):
        StructmatConfig(dropout=0.1)
    assert StructmatConfig(dropout=(1, 0.1)).dropout == (1.0, 0.1)
