"""Selection of layers, their networks and the number of trainable parameters."""

import peft
import pytest
import torch
from torch import nn

import structmat as sm
from structmat.peft import Counts, StructmatConfig, counts
from structmat.peft.summaries import HEADING
from tests.adapters.test_paper_counts import deberta_v3_base
from tests.peft.models import MODELS, Case
from tests.peft.test_lifecycle import adapted, config, layers
from tests.random_modules import randomised

BERT = Case("bert", "all-linear", "shuffle(block=8)")


def chosen(name, **options):
    torch.manual_seed(0)
    made = StructmatConfig(**{"topology": "mixed_radix"} | options)
    return set(layers(peft.get_peft_model(MODELS[name](), made).base_model.model))


@pytest.mark.parametrize("targets", [None, "all-linear"])
def test_all_linear_excludes_the_output_head(targets):
    found = chosen("llama", target_modules=targets)
    assert len(found) == 14
    assert not any("lm_head" in name or "embed" in name for name in found)


def test_all_linear_selects_the_same_layers_for_a_second_adapter():
    model = adapted(BERT)
    model.add_adapter("other", config(BERT, topology="mixed_radix"))
    assert all(set(m.structmat_power) == {"default", "other"} for m in layers(model).values())


@pytest.mark.parametrize("targets", ["all-linear", r".*(query|classifier\..*)"])
def test_modules_to_save_of_another_adapter_are_not_adapted(targets):
    model = adapted(BERT, modules_to_save=["classifier"])
    model.add_adapter("other", config(BERT, topology="mixed_radix", target_modules=targets))
    assert not any("classifier" in name for name in layers(model))
    assert all("other" in m.structmat_power for n, m in layers(model).items() if "query" in n)


@pytest.mark.parametrize(
    ("targets", "excluded", "count"),
    [
        (["query", "value"], None, 4),
        (r".*\.(query|value)", None, 4),
        (["query", "value"], ["value"], 2),
        (["query", "value"], r".*layer\.0.*", 2),
    ],
)
def test_target_modules_selects_the_same_layers_as_for_lora(targets, excluded, count):
    ours = chosen("bert", target_modules=targets, exclude_modules=excluded)
    assert len(ours) == count
    lora = peft.LoraConfig(target_modules=targets, exclude_modules=excluded)
    theirs = peft.get_peft_model(MODELS["bert"](), lora).base_model.targeted_module_names
    assert ours == set(theirs)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "up_proj"], r".*(q|up)_proj"])
@pytest.mark.parametrize("wanted", [1, [1], [0, 1], []])
@pytest.mark.parametrize("pattern", [None, "layers", ["blocks", "layers"]])
def test_layers_to_transform_applies_to_every_form_of_target_modules(targets, wanted, pattern):
    """PEFT itself applies it to lists only."""
    every = chosen("llama", target_modules=targets)
    found = chosen(
        "llama", target_modules=targets, layers_to_transform=wanted, layers_pattern=pattern
    )
    numbers = {wanted} if isinstance(wanted, int) else set(wanted or [0, 1])
    assert found == {name for name in every if int(name.split(".")[2]) in numbers}


def test_layers_to_transform_applies_to_a_top_level_list():
    model = nn.ModuleDict({"h": nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])})
    made = StructmatConfig(topology="butterfly", layers_to_transform=[1])
    assert set(layers(peft.get_peft_model(model, made).base_model.model)) == {"h.1"}


def test_the_first_matching_topology_pattern_applies(tmp_path):
    patterns = {
        "intermediate.dense": "monarch",
        r"layer\.0\..*": "block_diagonal(block=4)",
        r".*dense": sm.parse("mixed_radix"),
    }
    case = Case("bert", ["query", "dense"], "butterfly(block=8)")
    model = adapted(case, topology_pattern=patterns)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(case.model(), tmp_path)
    for made in (model, again):  # JSON sorts its keys, but the order must be kept
        nets = {n.split("encoder.")[-1]: m for n, m in layers(made).items()}
        found = {n: m.structmat_inputs["default"].network for n, m in nets.items()}
        assert found["layer.0.intermediate.dense"] == sm.monarch(32)
        assert found["layer.0.attention.self.query"] == sm.block_diagonal(32, 4)
        assert found["layer.1.output.dense"] == sm.mixed_radix(64)
        assert found["layer.1.attention.self.query"] == sm.butterfly(32, block=8)
    assert torch.equal(case.call(again), case.call(model))


def test_a_network_can_be_given_as_topology(tmp_path):
    net = sm.random(32, 5, 3, rng=1)
    case = Case("bert", ["query"], "unused")
    model = adapted(case, topology=net)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(case.model(), tmp_path)
    for layer in layers(again).values():
        assert layer.structmat_inputs["default"].network == net
    assert torch.equal(case.call(again), case.call(model))


def test_wired_networks_are_straightened():
    model = adapted(Case("bert", ["query"], "omega"), topology="omega")
    assert all(m.structmat_inputs["default"].network.is_straight for m in layers(model).values())


def test_rotations_do_not_mix_groups_of_channels():
    model = nn.Sequential(nn.Conv2d(4, 12, 1, groups=2))
    made = StructmatConfig(topology="mixed_radix", side="both", target_modules=["0"])
    randomised(peft.get_peft_model(model, made), 0)
    merged = model[0].effective(["default"])
    assert merged.shape == (12, 2, 1, 1)
    x = torch.randn(2, 4, 3, 3)
    x[:, :2] = 0
    bias = model[0].base_layer.bias[None, :, None, None]
    assert torch.allclose(model(x)[:, :6], bias[:, :6].expand(2, 6, 3, 3))


# Counting -------------------------------------------------------------------------------------


def deberta():
    with torch.device("meta"):
        return deberta_v3_base()


@pytest.mark.parametrize(
    ("spec", "depth", "block", "reported"),
    [("block_diagonal(block=16)", 1, 16, "0.79M"), ("butterfly(block=8, depth=2)", 2, 8, "0.75M")],
)
def test_parameter_counts_equal_those_of_the_paper_and_of_peft(spec, depth, block, reported):
    model = peft.get_peft_model(deberta(), StructmatConfig(topology=spec, scale=True))
    found = counts(model)
    inputs = 12 * (5 * 768 + 3072)
    outputs = 12 * (5 * 768 + 3072)
    assert found == Counts(
        depth * (block - 1) * inputs // 2 + outputs, depth * block * inputs + outputs, 72
    )
    assert found.paper == model.get_nb_trainable_parameters()[0]
    assert f"{(found.paper + outputs) / 1e6:.2f}M" == reported  # the paper trains biases, too
    with_bias = StructmatConfig(topology=spec, scale=True, bias="structmat_only")
    model = peft.get_peft_model(deberta(), with_bias)
    assert counts(model).paper == found.paper + outputs == model.get_nb_trainable_parameters()[0]


def test_parameter_counts_equal_those_of_pefts_oft():
    theirs = peft.get_peft_model(
        BERT.model(), peft.OFTConfig(target_modules=["query"], oft_block_size=8, bias="none")
    )
    ours = peft.get_peft_model(
        BERT.model(), config(BERT, topology="block_diagonal(block=8)", target_modules=["query"])
    )
    assert counts(ours).paper == theirs.get_nb_trainable_parameters()[0]


def test_both_parameter_counts_are_printed_and_in_the_model_card(tmp_path, capsys):
    model = adapted(BERT, scale=True)
    model.add_adapter("other", config(BERT, topology="mixed_radix"))
    model.print_trainable_parameters()
    printed = capsys.readouterr().out
    assert printed.startswith("trainable params: ")
    for name in ("default", "other"):
        found = counts(model, name)
        for said in (
            f"{name}: ",
            f"{found.paper:,d} params as the BOFT paper counts",
            f"{found.peft:,d} as PEFT's BOFT would store them",
        ):
            assert said in printed
    for _ in range(2):
        model.save_pretrained(tmp_path)
        card = (tmp_path / "README.md").read_text()
        assert card.count(HEADING) == 1
        assert f"- default: shuffle(block=8) and cayley blocks on {counts(model).layers}" in card
        assert "### Framework versions" in card
    assert counts(model, "nobody") == Counts(0, 0, 0)


def test_output_of_other_methods_is_unchanged(tmp_path, capsys):
    model = peft.get_peft_model(BERT.model(), peft.LoraConfig(target_modules=["query"]))
    model.print_trainable_parameters()
    assert capsys.readouterr().out.count("\n") == 1
    model.save_pretrained(tmp_path)
    assert HEADING not in (tmp_path / "README.md").read_text()
