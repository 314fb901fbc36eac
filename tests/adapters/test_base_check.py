"""Loading an adapter warns if the model's weights are not those that it was trained on."""

import json
import warnings

import pytest
import torch
from torch import nn

from structmat.adapters import adapt, adapters, load_adapter, merge, save_adapter
from structmat.adapters.base_check import difference, is_contained
from structmat.adapters.base_fingerprint import fingerprint
from structmat.adapters.checkpoint import SETTINGS
from structmat.errors import BaseModelWarning
from tests.random_modules import randomised

pytest.importorskip("safetensors")


class Model(nn.Module):
    def __init__(self, seed=0, tokens=30, classes=3):
        torch.manual_seed(seed)
        super().__init__()
        self.table = nn.Embedding(30, 24)
        self.image = nn.Conv2d(4, 6, 3, groups=2)
        self.up, self.down = nn.Linear(24, 48), nn.Linear(48, 24)
        self.classifier = nn.Linear(24, 3)
        if tokens != 30:
            old = self.table.weight.data
            self.table = nn.Embedding(tokens, 24)
            self.table.weight.data[:30] = old[:tokens]
        if classes != 3:
            self.classifier = nn.Linear(24, classes)


TARGETS = ["table", "image", "up", "down"]


def trained(model, size=0.1, targets=TARGETS, **options):
    options = {"scale": True, "bias": True} | options
    return randomised(adapt(model, "mixed_radix", target_modules=targets, **options), 0, size)


def saved(folder, **options):
    return save_adapter(trained(Model(), **options), folder)


def warned(model, folder):
    with pytest.warns(BaseModelWarning) as caught:
        load_adapter(model, folder)
    (one,) = caught
    assert one.filename == __file__
    return str(one.message)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model,
        lambda model: model.to(torch.bfloat16),
        lambda model: model.to(torch.float16).to(torch.float32),
        lambda model: model.to(torch.float64),
        lambda model: model.to(memory_format=torch.channels_last),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_copies_of_the_same_model_do_not_warn(tmp_path, change, dtype):
    save_adapter(trained(Model().to(dtype)), tmp_path)
    load_adapter(change(Model().to(dtype)), tmp_path)


def test_other_heads_and_layers_that_are_not_adapted_do_not_warn(tmp_path):
    saved(tmp_path, targets=["up"])
    model = Model(classes=7)
    model.down.weight.data.normal_()
    model.up.bias.data.normal_()
    load_adapter(model, tmp_path)


def test_another_model_is_named_with_its_distance(tmp_path):
    saved(tmp_path)
    message = warned(Model(1), tmp_path)
    assert message.startswith("the base weights of 4 of 4 adapted layers differ from those that")
    assert "use the original model" in message
    model = Model()
    change = torch.randn(48, 24, generator=torch.Generator().manual_seed(1))
    change *= 0.03 * model.up.weight.norm() / change.norm()
    model.up.weight.data += change.detach()
    message = warned(model, tmp_path)
    found = float(message.partition("most in up (relative Frobenius error about ")[2].split(")")[0])
    assert found == pytest.approx(0.03, rel=0.5)
    assert "1 of 4" in message


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": False, "targets": ["up", "table", "image"]},
        {"side": "outputs"},
        {"side": "both", "parametrization": "exp"},
        {"dropout": (0.5, 0.5), "targets": ["up"]},
        {"field": "channels", "targets": ["image"]},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_that_has_already_been_merged_is_recognised(tmp_path, options, dtype):
    one = trained(Model().to(dtype), **options)
    save_adapter(one, tmp_path)
    once = merge(one.eval(), unload=True).train()
    assert "has already been merged into them; start from the original" in warned(once, tmp_path)
    assert once.training


def test_a_merged_adapter_that_is_not_unloaded_is_saved_with_the_original_fingerprints(tmp_path):
    one = trained(Model())
    before = settings(save_adapter(one, tmp_path / "a"))
    assert settings(save_adapter(merge(one), tmp_path / "b")) == before
    load_adapter(Model(), tmp_path / "b")


def settings(folder):
    return json.loads((folder / SETTINGS).read_text("utf-8"))


def test_complex_weights_are_compared(tmp_path):
    def make(seed=0):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(8, 8, dtype=torch.complex64))

    one = randomised(adapt(make(), "butterfly", target_modules=["0"], side="both"), 0)
    save_adapter(one, tmp_path)
    load_adapter(make(), tmp_path)
    assert "1 of 1" in warned(make(1), tmp_path)
    assert "already been merged" in warned(merge(one, unload=True), tmp_path)


def test_files_without_fingerprints_do_not_warn(tmp_path):
    found = settings(saved(tmp_path))
    for layer in found["layers"].values():
        del layer["fingerprint"]
    (tmp_path / SETTINGS).write_text(json.dumps(found), "utf-8")
    load_adapter(Model(1), tmp_path)


def test_an_embedding_with_added_rows_is_compared_in_its_former_rows(tmp_path):
    small, large = Model().table.weight, Model(tokens=40).table.weight
    one = fingerprint(small)
    assert difference(one, large) is None
    assert difference(one, torch.flip(large, [0])) > 0.5
    assert difference(fingerprint(large), small) is None  # unknown, since rows are missing


def test_weights_without_values_are_not_compared(tmp_path):
    with torch.device("meta"):
        model = Model()
    adapted = adapt(model, "mixed_radix", target_modules=["up"])
    assert adapted.up.own.is_meta
    materialised = adapted.to_empty(device="cpu")
    materialised.up.base_layer.weight.data.fill_(float("nan"))
    with torch.no_grad():
        for g in materialised.up.rotation.generators:
            g.zero_()
    save_adapter(materialised, tmp_path)
    assert "fingerprint" not in settings(tmp_path)["layers"]["up"]
    load_adapter(Model(), tmp_path)


def test_offloaded_weights_are_compared(tmp_path):
    accelerate = pytest.importorskip("accelerate")
    saved(tmp_path, targets=["up"], bias=False)
    for seed in (0, 1):
        model = accelerate.cpu_offload(Model(seed), execution_device="cpu")
        assert model.up.weight.is_meta
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            load_adapter(model, tmp_path)
        assert [one.category for one in caught] == [BaseModelWarning] * seed
        assert model.up.base_layer.weight.is_meta


def test_quantised_weights_are_not_compared(tmp_path):
    bnb = pytest.importorskip("bitsandbytes")
    model = Model()
    model.up = bnb.nn.Linear8bitLt(24, 48, has_fp16_weights=False)
    model.up.load_state_dict(Model(1).up.state_dict())
    save_adapter(adapt(model.to("cpu"), "mixed_radix", target_modules=["down", "up"]), tmp_path)
    layers = settings(tmp_path)["layers"]
    assert "fingerprint" in layers["down"]
    assert "fingerprint" not in layers["up"]


def test_tied_weights_have_the_fingerprint_of_the_shared_tensor(tmp_path):
    class Tied(Model):
        def __init__(self, seed=0):
            super().__init__(seed)
            self.head = nn.Linear(24, 30, bias=False)
            self.head.weight = self.table.weight

    one = trained(Tied(), targets=["table", "head"], bias=False)
    save_adapter(one, tmp_path)
    layers = settings(tmp_path)["layers"]
    assert layers["table"]["fingerprint"] == layers["head"]["fingerprint"]
    load_adapter(Tied(), tmp_path)
    assert "2 of 2" in warned(Tied(1), tmp_path)
    assert len(adapters(one)) == 2


def test_inverting_an_adapter_brings_only_merged_weights_nearer_to_the_original():
    assert is_contained(0.3, 0.01)
    assert not is_contained(1.4, 1.39)
