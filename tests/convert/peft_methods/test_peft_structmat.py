"""Conversion between structmat's own files and those of its PEFT method."""

import json

import pytest
import torch
from torch import nn

from structmat import Network, butterfly, family, shuffle
from structmat.adapters import adapt, load_adapter, save_adapter
from structmat.audit import audit
from structmat.convert import convert
from structmat.errors import FileError, UnknownFamilyError
from structmat.families import unregister
from tests.convert.models import effective, images, linears, ours, same

peft = pytest.importorskip("peft")
files = pytest.importorskip("safetensors.torch")
from structmat.peft import StructmatConfig  # noqa: E402 (needs peft)


def theirs(model, folder, **options):
    """Save random PEFT adapters for a model and return the merged weights."""
    torch.manual_seed(1)
    made = peft.get_peft_model(model, StructmatConfig(init_weights=False, **options))
    made.save_pretrained(folder)
    merged = made.merge_and_unload()
    return {k: v.detach().clone() for k, v in merged.state_dict().items()}


CASES = [
    {"topology": "shuffle(block=4)"},
    {"topology": "butterfly(block=8, depth=3)", "reduced": True, "scale": True},
    {"topology": "monarch", "side": "outputs", "parametrization": "exp"},
    {"topology": "block_diagonal(block=4)", "parametrization": "cayley_neumann", "scale": True},
    {"topology": "mixed_radix", "topology_pattern": {"up": "benes"}, "bias": "structmat_only"},
    {"topology": "mixed_radix(largest=8)", "parametrization": "givens"},
    {"topology": "block_diagonal(block=4)", "parametrization": "householder"},
]


@pytest.mark.parametrize("options", CASES)
def test_an_import_has_pefts_merged_weights(tmp_path, options):
    want = theirs(linears(), tmp_path / "peft", target_modules=["up", "down"], **options)
    files.save_file(linears().state_dict(), tmp_path / "model.safetensors")
    convert(
        tmp_path / "peft",
        tmp_path / "merged.safetensors",
        to="merged",
        model=tmp_path / "model.safetensors",
    )
    same(files.load_file(tmp_path / "merged.safetensors"), want, 2e-6)
    convert(tmp_path / "peft", tmp_path / "ours", model=linears())
    loaded = effective(load_adapter(linears(), tmp_path / "ours"))
    same(loaded, {name: want[f"{name}.weight"] for name in loaded}, 5e-6)


@pytest.mark.parametrize("field", ["receptive", "channels"])
def test_a_convolution_has_pefts_merged_weights(tmp_path, field):
    want = theirs(
        images(), tmp_path / "peft", topology="mixed_radix", target_modules=["0"], field=field
    )
    convert(tmp_path / "peft", tmp_path / "ours", model=images())
    loaded = effective(load_adapter(images(), tmp_path / "ours"))
    same(loaded, {"0": want["0.weight"]}, 2e-6)


def test_a_grouped_convolution_has_pefts_merged_weights(tmp_path):
    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(6, 9, 2, groups=3))

    want = theirs(make(), tmp_path / "peft", topology="mixed_radix", target_modules=["0"])
    convert(tmp_path / "peft", tmp_path / "ours", model=make())
    loaded = effective(load_adapter(make(), tmp_path / "ours"))
    same(loaded, {"0": want["0.weight"]}, 2e-6)


EXPORTS = [
    {"topology": "shuffle(block=4)"},
    {"topology": "butterfly(block=8, depth=2)", "side": "outputs", "scale": True},
    {"topology": "monarch", "topology_pattern": {"down": "gossip"}, "bias": True},
    {"topology": lambda width: (shuffle if width > 40 else butterfly)(width, block=8)},
]


@pytest.mark.parametrize("options", EXPORTS)
def test_peft_loads_exported_adapters(tmp_path, options):
    one = ours(linears(), target_modules=["up", "down"], spec=options["topology"], **rest(options))
    save_adapter(one, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "peft", to="peft")
    loaded = peft.PeftModel.from_pretrained(linears(), tmp_path / "peft")
    merged = loaded.merge_and_unload().state_dict()
    want = effective(one)
    same({name: merged[f"{name}.weight"] for name in want}, want, 2e-6)
    assert torch.equal(merged["0.up.bias"], one[0]["up"].bias)
    done = convert(tmp_path / "peft", tmp_path / "again", model=linears())
    assert done.format == "structmat in PEFT"
    same(effective(load_adapter(linears(), tmp_path / "again")), want, 2e-6)


@pytest.mark.parametrize("field", ["receptive", "channels"])
def test_peft_loads_the_network_of_one_group(tmp_path, field):
    def make():
        torch.manual_seed(0)
        return nn.ModuleDict({"conv": nn.Conv1d(4, 4, 4, groups=2)})

    one = ours(make(), "mixed_radix", target_modules=["conv"], field=field)
    save_adapter(one, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "peft", to="peft")
    loaded = peft.PeftModel.from_pretrained(make(), tmp_path / "peft").merge_and_unload()
    same({"conv": loaded["conv"].weight}, effective(one), 2e-6)


def rest(options):
    return {key: value for key, value in options.items() if key != "topology"}


def test_a_boft_adapter_converts_to_the_structmat_method(tmp_path):
    """After conversion, BOFT with several factors runs in PEFT without the CUDA extension."""
    one = ours(linears(), "butterfly(block=4, depth=3)", target_modules=["up"])
    save_adapter(one, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "boft", to="peft-boft")
    convert(tmp_path / "boft", tmp_path / "peft", to="peft", model=linears())
    loaded = peft.PeftModel.from_pretrained(linears(), tmp_path / "peft").merge_and_unload()
    same({"0.up": loaded[0]["up"].weight}, effective(one), 2e-6)


def test_an_audit_reads_peft_files(tmp_path):
    theirs(linears(), tmp_path / "peft", topology="shuffle(block=4)", target_modules=["up"])
    (row,) = audit(tmp_path / "peft", model=linears()).layers.values()
    assert row["orthogonality_error"] < 1e-6
    assert row["angle_drift"] < 1e-5


def tuned(**options):
    torch.manual_seed(1)
    return peft.get_peft_model(linears(), StructmatConfig(init_weights=False, **options))


def test_an_audit_of_a_peft_model_agrees_with_its_files(tmp_path):
    options = {"topology": "shuffle(block=4)", "target_modules": ["up", "down"], "scale": True}
    made = tuned(**options)
    made.save_pretrained(tmp_path)
    files_say = audit(tmp_path, model=linears()).layers
    for merged in (False, True):
        if merged:
            made.merge_adapter()
        before = {key: value.clone() for key, value in made.state_dict().items()}
        found = audit(made).layers
        assert found.keys() == files_say.keys() == {"0.up", "0.down"}
        for name, row in found.items():
            for key in ("orthogonality_error", "singular_value_drift", "energy_drift"):
                assert row[key] == pytest.approx(files_say[name][key], abs=1e-5)
            assert row["merge_difference"] < 1e-5
        after = made.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_an_audit_lists_both_sides_and_several_adapters():
    made = tuned(topology="monarch", side="both", target_modules=["up"], scale=True)
    found = audit(made).layers
    assert list(found) == ["0.up (inputs)", "0.up (outputs)"]
    # Rotating inputs keeps the angles of neurons; the scales change singular values at the end.
    assert found["0.up (inputs)"]["angle_drift"] < 1e-5
    assert found["0.up (inputs)"]["singular_value_drift"] < 1e-6
    assert found["0.up (outputs)"]["singular_value_drift"] > 1e-3
    made.add_adapter("other", StructmatConfig(topology="shuffle(block=4)", target_modules=["up"]))
    made.base_model.set_adapter(["default", "other"])
    found = audit(made).layers
    assert list(found)[-1] == "0.up (other, inputs)"
    assert found["0.up (other, inputs)"]["stages"][0]["largest"] == 0
    with made.disable_adapter():
        assert "merge_difference" not in audit(made).layers["0.up (other, inputs)"]


def test_adapters_of_both_sides_are_refused(tmp_path):
    options = {"topology": "monarch", "side": "both", "target_modules": ["up"]}
    theirs(linears(), tmp_path / "peft", **options)
    with pytest.raises(FileError, match="inputs and outputs are rotated, which conversion does"):
        convert(tmp_path / "peft", tmp_path / "ours", model=linears())


def test_a_file_whose_networks_cannot_be_identified_is_refused(tmp_path):
    theirs(linears(), tmp_path / "peft", topology="monarch", target_modules=["up"])
    path = tmp_path / "peft" / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"networks": {}}))
    with pytest.raises(
        FileError, match=r"up: no network in the configuration has generators of the shapes \("
    ):
        convert(tmp_path / "peft", tmp_path / "ours", model=linears())


def test_layers_that_one_peft_configuration_cannot_describe_are_refused(tmp_path):
    def make():
        torch.manual_seed(0)
        parts = {name: nn.ModuleDict({"up": nn.Linear(8, 8)}) for name in "xy"}
        return nn.ModuleDict({**parts, "up": nn.Linear(8, 8)})

    patterns = {"x.up": "butterfly", "y.up": "butterfly"}
    one = ours(make(), "monarch", topology_pattern=patterns, target_modules=".*up")
    save_adapter(one, tmp_path / "ours")
    with pytest.raises(FileError, match=r"x.up ends in the name of a layer with another network"):
        convert(tmp_path / "ours", tmp_path / "peft", to="peft")
    options = {"target_modules": ["up", "down"], "generator_scaling": "none"}
    one = adapt(linears(), "block_diagonal(block=8)", parametrization="exp", **options)
    with torch.no_grad():
        one[0]["up"].rotation.generators[0][0, 0] = torch.pi
    save_adapter(one, tmp_path / "half")
    with pytest.raises(
        FileError, match=r"has parametrization='.*', but all layers of a PEFT adapter must"
    ):
        convert(tmp_path / "half", tmp_path / "peft", to="peft")


def test_the_error_for_an_unregistered_family_names_the_remedy(tmp_path):
    @family("any")
    def star(width):
        """Join the first wire to each other."""
        return Network.of(width, [[[0, i]] for i in range(1, width)])

    try:
        theirs(linears(), tmp_path / "peft", topology="star", target_modules=["up"])
    finally:
        unregister("star")
    said = r"peft: no family 'star' as in this adapter; a user-defined family .* --load FILE\.py\)$"
    with pytest.raises(UnknownFamilyError, match=said):
        convert(tmp_path / "peft", tmp_path / "ours", model=linears())
    with pytest.raises(UnknownFamilyError, match=said):
        peft.PeftModel.from_pretrained(linears(), tmp_path / "peft")


def test_load_adapter_refuses_peft_files_and_names_the_remedy(tmp_path):
    theirs(linears(), tmp_path / "peft", topology="benes", target_modules=["up"])
    said = r"written by PEFT; load it with peft\.PeftModel\.from_pretrained\(model, .*/peft'\), or"
    with pytest.raises(FileError, match=said + " convert it with `structmat convert`"):
        load_adapter(linears(), tmp_path / "peft")
