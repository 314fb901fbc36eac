"""Adapters with different factors of generators on the same layer, and in files."""

import copy
import json

import peft
import pytest
import torch
from torch import nn

from structmat.analysis.generator_scale import generator_scale
from structmat.errors import FileError, StructmatError
from structmat.nn import orthogonal_layer
from structmat.peft import StructmatConfig
from tests import old_adapters
from tests.random_modules import randomised, state, unchanged

X = torch.tensor([[1.0, -1.0, 0.5, 2.0], [0.0, 2.0, 1.0, -1.0]], dtype=torch.float64)
WEIGHT = torch.tensor(old_adapters.WEIGHT, dtype=torch.float64)


def config(**options):
    return StructmatConfig(topology="butterfly", target_modules=["0"], **options)


def adapted(**options):
    return randomised(peft.get_peft_model(old_adapters.model(), config(**options)), 0)


def layer(model):
    return model.base_model.model[0]


def later_rule(monkeypatch):
    """Act as a later release whose rule yields other factors."""
    monkeypatch.setattr(orthogonal_layer, "generator_scale", lambda *_, **__: 3.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("scaling", ["step", "sgd", "none", 0.3])
@pytest.mark.parametrize("reduced", [False, True])
def test_a_later_rule_changes_no_saved_adapter(tmp_path, monkeypatch, scaling, dtype, reduced):
    base = nn.Sequential(nn.Linear(8, 4, dtype=dtype), nn.Linear(4, 4, dtype=dtype))
    options = {"topology": "butterfly(block=4)", "target_modules": ["0", "1"], "reduced": reduced}
    given = StructmatConfig(generator_scaling=scaling, side="both", **options)
    if dtype.is_complex:
        given.side = "inputs"
    model = randomised(peft.get_peft_model(copy.deepcopy(base), given), 0)
    model.save_pretrained(tmp_path)
    later_rule(monkeypatch)
    other = peft.PeftModel.from_pretrained(base, tmp_path)
    pairs = (made.base_model.adapted().values() for made in (model, other))
    for a, b in zip(*pairs, strict=True):
        assert torch.equal(a.merged_weight(["default"]), b.merged_weight(["default"]))
        for p, q in zip(a.rotations(), b.rotations(), strict=True):
            assert p.generator_scale == q.generator_scale
    other.save_pretrained(tmp_path / "again")
    one, two = (
        json.loads((folder / "adapter_config.json").read_text())
        for folder in (tmp_path, tmp_path / "again")
    )
    assert one == two


def test_files_of_the_first_schema_are_loaded_with_the_factor_one(tmp_path):
    """Such files were saved before there were factors; weights and training are the same."""
    folder = old_adapters.write_peft(tmp_path / "old")
    model = peft.PeftModel.from_pretrained(old_adapters.model(), folder, is_trainable=True)
    assert model.peft_config["default"].generator_scaling == "none"
    assert layer(model).rotation.generator_scale == 1
    torch.testing.assert_close(layer(model).merged_weight(), WEIGHT, rtol=0, atol=1e-14)
    after = old_adapters.steps(model, old_adapters.optimiser(model))
    for found, expected in zip(after, old_adapters.AFTER, strict=True):
        assert found == pytest.approx(expected, abs=1e-7)
    model.save_pretrained(tmp_path / "new")
    saved = json.loads((tmp_path / "new" / "adapter_config.json").read_text())
    assert (saved["schema"], saved["generator_scaling"]) == (2, "none")
    again = peft.PeftModel.from_pretrained(old_adapters.model(), tmp_path / "new")
    assert torch.equal(layer(again).merged_weight(), layer(model).merged_weight())


def test_adapters_with_different_factors_share_a_layer(tmp_path):
    model = adapted()
    model.load_adapter(old_adapters.write_peft(tmp_path / "old"), "old")
    made = layer(model)
    factors = [made.rotations(name)[0].generator_scale for name in ("default", "old")]
    assert factors == [generator_scale(made.rotations("old")[0].network, "cayley"), 1.0]
    torch.testing.assert_close(made.merged_weight(["old"]), WEIGHT, rtol=0, atol=1e-12)
    expected = torch.stack([X[0] @ WEIGHT.T, X[1] @ made.merged_weight(["default"]).T])
    torch.testing.assert_close(model(X, adapter_names=["old", "default"]), expected)
    own = model.base_model.add_weighted_adapter
    for weights, wanted in (([0.0, 1.0], WEIGHT), ([1.0, 0.0], made.merged_weight(["default"]))):
        name = f"mean {weights[0]:.0f}"
        own(["default", "old"], weights, name)
        torch.testing.assert_close(made.merged_weight([name]), wanted, rtol=0, atol=1e-9)
        model.save_pretrained(tmp_path, selected_adapters=[name])
        again = peft.PeftModel.from_pretrained(old_adapters.model(), tmp_path / name)
        assert torch.equal(layer(again).merged_weight(), made.merged_weight([name]))


@pytest.mark.parametrize("scaling", ["step", "sgd", "none"])
def test_training_resumes_as_if_it_had_not_stopped(tmp_path, scaling):
    """The state of the optimiser refers to the stored tensors."""
    options = {"generator_scaling": scaling}
    once = adapted(**options)
    expected = old_adapters.steps(once, old_adapters.optimiser(once), 6)
    model = adapted(**options)
    optimiser = old_adapters.optimiser(model)
    old_adapters.steps(model, optimiser)
    model.save_pretrained(tmp_path)
    resumed = adapted(**options)
    resumed.load_adapter(tmp_path, "default", is_trainable=True)
    again = old_adapters.optimiser(resumed)
    again.load_state_dict(optimiser.state_dict())
    assert old_adapters.steps(resumed, again) == expected


def test_resuming_with_other_factors_is_refused(tmp_path, monkeypatch):
    model = adapted()
    old = old_adapters.write_peft(tmp_path / "old", parametrization="cayley")
    before = state(model)
    with pytest.raises(FileError, match=r"multiplied by 1, but .* StructmatConfig\(generator_scal"):
        model.load_adapter(old, "default")
    assert unchanged(model, before)
    plain = adapted(generator_scaling="none")
    plain.load_adapter(old, "default")
    assert torch.equal(layer(plain).rotation.generators[0], torch.tensor([[-0.25], [0.0]]).double())
    adapted().save_pretrained(tmp_path / "new")
    later_rule(monkeypatch)
    with pytest.raises(FileError, match=r"by 3 .*; create the model with PeftModel\.from"):
        adapted().load_adapter(tmp_path / "new", "default")
    (tmp_path / "old" / "adapter_config.json").unlink()
    plain.load_adapter(tmp_path / "old", "default")  # without a configuration


def test_random_rotations_have_the_same_size_for_every_factor():
    sizes = []
    for scaling in ("step", "none", 0.01):
        torch.manual_seed(0)
        options = config(init_weights=False, generator_scaling=scaling)
        sizes.append(layer(peft.get_peft_model(old_adapters.model(), options)).merged_weight())
    for other in sizes[1:]:
        torch.testing.assert_close(other, sizes[0])


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ({"generator_scaling": "adam"}, 'it must be "step", "sgd", "none" or a'),
        ({"generator_scales": {"a": -1.0}}, "a factor must be a number from 1e-30 to 1e30"),
    ],
)
def test_invalid_factors_are_refused(bad, rule):
    with pytest.raises(StructmatError, match=rule):
        StructmatConfig(**bad)
