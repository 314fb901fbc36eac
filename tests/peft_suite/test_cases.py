"""PEFT's test cases for OFT and LoRA are translated into cases for our method."""

import peft
import pytest
import torch

from structmat.peft import StructmatConfig
from tests.peft_suite import cases

PLAIN = {"target_modules": ["lin0"], "init_weights": False}


def translate(*row):
    made = cases.rows([row], ["x"], cases.OURS, every_layer=False)
    return None if made is None else [case.row for case in made]


def test_rows_without_a_configuration_are_not_translated():
    assert translate("linear", 0.5) is None
    assert cases.rows([], [], cases.OURS, every_layer=False) is None


def test_each_oft_row_gives_cases_for_several_configurations():
    rows = [("one", peft.OFTConfig, PLAIN), ("two", peft.IA3Config, {}), ("3", peft.LoraConfig, {})]
    made = cases.rows(rows, ["a", "b", "c"], cases.OURS, every_layer=False)
    assert [case.label for case in made] == [f"a~{name}" for name in cases.MAIN]
    name, config, options = made[0].row
    assert translate("OFT Same", "oft", peft.OFTConfig, PLAIN)[0][:2] == ("OFT Same", "structmat")
    assert (name, config) == ("one", StructmatConfig)
    assert options == cases.CONFIGURATIONS["cayley"] | PLAIN
    many = cases.rows([rows[0]] * 4, list("abcd"), cases.OURS, every_layer=False)
    assert {c.label for c in many if c.place == 0} == {f"a~{name}" for name in cases.CONFIGURATIONS}
    reference = cases.rows(rows, ["a", "b", "c"], cases.OFT, every_layer=False)
    assert reference == [cases.Case("a", rows[0], 0)]


def test_lora_rows_are_used_for_more_layers_or_if_there_are_no_oft_rows():
    rows = [(peft.OFTConfig, PLAIN), (peft.LoraConfig, {"target_modules": ["conv"], "r": 4})]
    made = cases.rows(rows, ["a", "b"], cases.OFT, every_layer=True)
    assert [case.label for case in made] == ["a", "b"]
    assert [row[1]["target_modules"] for row in translate(*rows[1])] == [["conv"]] * 2
    assert all("r" not in row[1] for row in translate(*rows[1]))


@pytest.mark.parametrize("name", cases.CONFIGURATIONS)
def test_a_layer_with_one_output_is_rotated_on_its_inputs(name):
    row = ("Conv1d LoRA", "Conv1d", peft.LoraConfig, {"target_modules": ["conv1d"]})
    options = cases.translated(row, peft.LoraConfig, cases.CONFIGURATIONS[name])[3]
    model = torch.nn.ModuleDict({"conv1d": torch.nn.Conv1d(1, 1, 2)})
    peft.get_peft_model(model, StructmatConfig(**options))
    wide = cases.translated(("MLP", *row[2:]), peft.LoraConfig, cases.CONFIGURATIONS[name])[2]
    assert wide == cases.CONFIGURATIONS[name] | {"target_modules": ["conv1d"]}


def test_a_single_dropout_number_is_used_for_both_probabilities(monkeypatch):
    monkeypatch.setattr(StructmatConfig, "__setattr__", cases.set_option, raising=False)
    config = cases.Small(target_modules=["lin0"])
    config.dropout = 0.5
    assert config.dropout == (0.5, 0.5)
    config.dropout = (1.0, 0.25)
    assert config.dropout == (1.0, 0.25)


def test_cases_with_lora_only_options_are_omitted():
    assert translate(peft.LoraConfig, {"use_dora": True}) == []
    with pytest.raises(cases.OwnOptionError, match="use_dora"):
        cases.options({"use_dora": True}, cases.OURS)
    assert cases.options({"use_dora": False, "rank_pattern": {}}, cases.OURS) == {}


def test_equivalent_options_are_renamed():
    given = {"init_lora_weights": False, "bias": "lora_only", "lora_dropout": 0.1, "lora_alpha": 3}
    assert cases.options(given, cases.OURS) == {
        "init_weights": False,
        "bias": "structmat_only",
        "dropout": (0.1, 0.1),
    }
    assert cases.options(given, cases.OFT)["module_dropout"] == 0.1
    assert cases.options({"bias": "all"}, cases.OFT) == {"bias": "all"}


def test_instances_and_nested_options_are_translated():
    config = peft.OFTConfig(target_modules=["lin0"], r=2, oft_block_size=0, init_weights=False)
    for made, _ in translate(config, "some text"):
        assert type(made) is StructmatConfig
        assert made.target_modules == {"lin0"}
        assert made.init_weights is False
    (_, options), *_ = translate(peft.OFTConfig, {"unet": PLAIN, "text_encoder": PLAIN})
    assert options["unet"] == cases.CONFIGURATIONS["cayley"] | PLAIN


def test_a_configuration_class_alone_accepts_narrow_layers():
    ((config,), *_) = translate(peft.OFTConfig)
    model = torch.nn.ModuleDict({"lin0": torch.nn.Linear(10, 20)})
    adapted = peft.get_peft_model(model, config(target_modules=["lin0"]))
    assert [p.shape[0] for n, p in adapted.named_parameters() if "structmat" in n]


@pytest.mark.parametrize("name", cases.CONFIGURATIONS)
@pytest.mark.parametrize("width", [2, 5, 45])
def test_every_configuration_accepts_the_widths_of_pefts_models(name, width):
    model = torch.nn.ModuleDict({"lin0": torch.nn.Linear(width, 20)})
    given = {**cases.CONFIGURATIONS[name], **PLAIN, "target_modules": ["lin0"]}
    adapted = peft.get_peft_model(model, StructmatConfig(**given)).eval()
    x = torch.ones(2, width)
    plain = adapted.base_model.model["lin0"].base_layer(x)
    assert not torch.allclose(adapted.base_model.model["lin0"](x), plain)


def test_stand_ins_create_our_configuration():
    used = []
    made = cases.stand_in(cases.LORA, cases.OURS, used)
    config = made(target_modules=["lin0"], r=8, init_lora_weights=False)
    assert isinstance(config, StructmatConfig)
    assert isinstance(config, made)
    assert not isinstance(peft.LoraConfig(), made)
    assert used == ["structmat"]
    with pytest.raises(cases.OwnOptionError, match="use_dora"):
        made(use_dora=True)
