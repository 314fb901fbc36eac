"""Files contain the factors of generators; in files without factors, the factor is 1."""

import json

import pytest
import torch
from torch import nn

import structmat as sm
from structmat.adapters import adapt, adapters, keep_stages, load_adapter, save_adapter
from structmat.adapters.checkpoint import SETTINGS
from structmat.adapters.recipes import Recipe
from structmat.analysis.generator_scale import generator_scale
from structmat.errors import FileError, StructmatError
from structmat.nn import orthogonal_layer
from tests import old_adapters
from tests.random_modules import randomised, state, unchanged

pytest.importorskip("safetensors.torch")


def model(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 12, dtype=dtype), nn.Linear(12, 4, dtype=dtype))


def adapted(dtype=torch.float64, **options):
    options = {"topology_pattern": {"1": "monarch"}, "target_modules": ["0", "1"]} | options
    return randomised(adapt(model(dtype), "mixed_radix", **options), 0)


def edited(folder, change):
    settings = json.loads((folder / SETTINGS).read_text())
    change(settings)
    (folder / SETTINGS).write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("scaling", ["step", "sgd", "none", 0.3])
def test_a_changed_scaling_rule_does_not_affect_saved_adapters(
    tmp_path, monkeypatch, scaling, dtype
):
    side = "both" if dtype == torch.float64 else "inputs"
    one = adapted(dtype, generator_scaling=scaling, side=side)
    save_adapter(one, tmp_path)
    monkeypatch.setattr(orthogonal_layer, "generator_scale", lambda *_, **__: 3.0)
    other = load_adapter(model(dtype), tmp_path)
    for a, b in zip(adapters(one).values(), adapters(other).values(), strict=True):
        assert torch.equal(a.merged_weight(), b.merged_weight())
        assert [r.generator_scale for r in a.rotations()] == [
            r.generator_scale for r in b.rotations()
        ]
    save_adapter(other, tmp_path / "again")
    assert (tmp_path / "again" / SETTINGS).read_text() == (tmp_path / SETTINGS).read_text()


def test_each_layer_has_the_factor_of_its_network_and_field():
    for dtype, field in ((torch.float64, "real"), (torch.complex128, "complex")):
        for layer in adapters(adapted(dtype, parametrization="exp")).values():
            (q,) = layer.rotations()
            assert q.generator_scale == generator_scale(q.network, "exp", field)


def test_the_weight_equals_that_of_scaled_plain_generators():
    one, other = adapted(scale=True), adapted(scale=True, generator_scaling="none")
    for a, b in zip(adapters(one).values(), adapters(other).values(), strict=True):
        with torch.no_grad():
            for g, h in zip(a.rotation.generators, b.rotation.generators, strict=True):
                h.copy_(a.rotation.generator_scale * g)
        torch.testing.assert_close(a.merged_weight(), b.merged_weight())
    torch.testing.assert_close(
        one(torch.ones(2, 12, dtype=torch.float64)), other(torch.ones(2, 12, dtype=torch.float64))
    )


def test_files_without_factors_are_loaded_with_the_factor_one(tmp_path):
    """Such files precede the factors; the loaded weights and their training are unchanged."""
    net = load_adapter(old_adapters.model(), old_adapters.write(tmp_path / "old"))
    assert net[0].rotation.generator_scale == 1
    weight = torch.tensor(old_adapters.WEIGHT, dtype=torch.float64)
    torch.testing.assert_close(net[0].merged_weight(), weight, rtol=0, atol=1e-14)
    after = old_adapters.steps(net, old_adapters.optimiser(net))
    torch.testing.assert_close(
        [*map(torch.tensor, after)], [*map(torch.tensor, old_adapters.AFTER)], rtol=0, atol=1e-7
    )
    save_adapter(net, tmp_path / "new")
    again = load_adapter(old_adapters.model(), tmp_path / "new")
    assert torch.equal(again[0].merged_weight(), net[0].merged_weight())


@pytest.mark.parametrize("side", ["inputs", "both"])
def test_removing_the_factors_from_a_plain_file_changes_nothing(tmp_path, side):
    one = adapted(generator_scaling="none", side=side)
    save_adapter(one, tmp_path)

    def older(settings):
        settings["version"] = 1
        for layer in settings["layers"].values():
            del layer["generator_scale"]

    other = load_adapter(model(), edited(tmp_path, older))
    assert unchanged(other, state(one))
    for a, b in zip(adapters(one).values(), adapters(other).values(), strict=True):
        assert torch.equal(a.merged_weight(), b.merged_weight())


def test_older_readers_refuse_files_with_factors(tmp_path):
    save_adapter(adapted(), tmp_path)
    assert json.loads((tmp_path / SETTINGS).read_text())["version"] == 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "it must contain a factor for each rotated side, inputs"),
        ({"outputs": 1.0}, "it must contain a factor for each rotated side"),
        ({"inputs": -1.0}, "or a positive factor"),
        ({"inputs": 1e999}, "Infinity is not a JSON number"),
        ({"inputs": None}, "it must be a number for each side"),
        ([0.5], "it must be a number for each side"),
    ],
)
def test_invalid_factors_in_files_are_refused(tmp_path, value, message):
    save_adapter(adapted(), tmp_path)
    edited(tmp_path, lambda settings: settings["layers"]["0"].update(generator_scale=value))
    plain = model()
    before = state(plain)
    with pytest.raises(FileError, match=message):
        load_adapter(plain, tmp_path)
    assert unchanged(plain, before)


@pytest.mark.parametrize("scaling", ["step", "sgd", "none", 0.3])
def test_an_adapter_with_fewer_stages_is_saved_with_its_own_factor(tmp_path, scaling):
    one = adapted(generator_scaling=scaling)
    keep_stages(one, range(1))
    for a in adapters(one).values():
        step, sgd = (generator_scale(a.rotation.network, optimiser=o) for o in ("adam", "sgd"))
        factors = {"step": step, "sgd": sgd, "none": 1.0}
        assert a.rotation.generator_scale == factors.get(scaling, scaling)
    save_adapter(one, tmp_path)
    other = load_adapter(model(), tmp_path)
    for a, b in zip(adapters(one).values(), adapters(other).values(), strict=True):
        assert torch.equal(a.merged_weight(), b.merged_weight())


def test_a_recipe_has_one_scaling_or_one_for_each_side():
    net = sm.butterfly(4)
    both = {"inputs": net, "outputs": net}
    assert Recipe(both).scaling_of("outputs") == "step"
    given = Recipe(both, generator_scaling={"inputs": "none", "outputs": 0.5})
    assert [given.scaling_of(side) for side in both] == ["none", 0.5]
    with pytest.raises(StructmatError, match="or a positive factor"):
        Recipe(both, generator_scaling=0)


def test_adapt_rejects_a_mapping_of_factors_by_side():
    with pytest.raises(StructmatError, match='it must be "step", "sgd", "none" or a positive'):
        adapt(model(), "mixed_radix", generator_scaling={"inputs": 0.5})
