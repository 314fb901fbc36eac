"""Conversion reads files with any generator factors and writes the default factors."""

import json

import pytest
import torch

from structmat.adapters import adapt, load_adapter, save_adapter
from structmat.adapters.checkpoint import SETTINGS, TENSORS
from structmat.adapters.saved_tensors import from_bytes
from structmat.analysis.generator_scale import generator_scale
from structmat.convert import convert, structmat_format
from structmat.nn import orthogonal_layer
from tests import old_adapters
from tests.random_modules import randomised

pytest.importorskip("structmat.peft.planned_networks")
peft = pytest.importorskip("peft")
WEIGHT = torch.tensor(old_adapters.WEIGHT, dtype=torch.float64)


def weights(folder):
    """Return the merged weight and the rotation of an adapter for `old_adapters.model`."""
    if (folder / SETTINGS).exists():
        layer = load_adapter(old_adapters.model(), folder)[0]
    else:
        layer = peft.PeftModel.from_pretrained(old_adapters.model(), folder).base_model.model[0]
    return layer.merged_weight(), layer.rotations()[0]


@pytest.mark.parametrize(
    ("write", "to"), [(old_adapters.write, "peft"), (old_adapters.write_peft, "structmat")]
)
def test_adapters_written_before_there_were_factors_are_converted(tmp_path, write, to):
    write(tmp_path / "old")
    convert(tmp_path / "old", tmp_path / "new", to=to, model=old_adapters.model())
    weight, rotation = weights(tmp_path / "new")
    torch.testing.assert_close(weight, WEIGHT, rtol=0, atol=1e-12)
    step = generator_scale(rotation.network, rotation.parametrization)
    assert rotation.generator_scale == step != 1


@pytest.mark.parametrize("kind", ["cayley", "exp", "cayley_neumann"])
@pytest.mark.parametrize("scaling", ["step", "none", 0.3])
def test_round_trips_preserve_weights(tmp_path, kind, scaling):
    options = {"target_modules": ["0"], "parametrization": kind, "generator_scaling": scaling}
    spec = "block_diagonal(block=4)"  # a single bank, whose series is preserved
    one = randomised(adapt(old_adapters.model(), spec, **options), 0, 0.2)
    save_adapter(one, tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "b", to="peft", model=old_adapters.model())
    convert(tmp_path / "b", tmp_path / "c", to="structmat", model=old_adapters.model())
    for folder in "bc":
        weight, rotation = weights(tmp_path / folder)
        torch.testing.assert_close(weight, one[0].merged_weight(), rtol=0, atol=1e-12)
        step = generator_scale(rotation.network, rotation.parametrization)
        assert rotation.generator_scale == step
        assert (rotation.parametrization == "cayley_neumann") == (kind == "cayley_neumann")
    if scaling == "step" and kind != "exp":  # blocks of exp become Cayley transforms
        a, c = (from_bytes((tmp_path / f / TENSORS).read_bytes()) for f in "ac")
        for name in a:
            torch.testing.assert_close(c[name], a[name], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("to", ["peft-oft", "peft-boft"])
def test_adapters_of_other_formats_get_the_default_factor(tmp_path, to):
    spec = "block_diagonal(block=2)"
    one = randomised(adapt(old_adapters.model(), spec, target_modules=["0"]), 0)
    save_adapter(one, tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "b", to=to, model=old_adapters.model())
    convert(tmp_path / "b", tmp_path / "c", to="structmat", model=old_adapters.model())
    weight, rotation = weights(tmp_path / "c")
    torch.testing.assert_close(weight, one[0].merged_weight(), rtol=0, atol=1e-6)
    assert rotation.generator_scale == generator_scale(rotation.network)


def test_conversion_with_a_changed_scaling_rule_preserves_weights(tmp_path, monkeypatch):
    one = randomised(adapt(old_adapters.model(), "butterfly", target_modules=["0"]), 0)
    save_adapter(one, tmp_path / "a")
    for start, end, to, rule in (("a", "b", "peft", 3.0), ("b", "c", "structmat", 5.0)):
        for module in (orthogonal_layer, structmat_format):
            monkeypatch.setattr(module, "generator_scale", lambda *_, rule=rule, **__: rule)
        convert(tmp_path / start, tmp_path / end, to=to, model=old_adapters.model())
        weight, rotation = weights(tmp_path / end)
        torch.testing.assert_close(weight, one[0].merged_weight(), rtol=0, atol=1e-12)
        assert rotation.generator_scale == rule


def test_written_configurations_contain_the_factors(tmp_path):
    one = randomised(adapt(old_adapters.model(), "butterfly", target_modules=["0"]), 0)
    save_adapter(one, tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "b", to="peft", model=old_adapters.model())
    config = json.loads((tmp_path / "b" / "adapter_config.json").read_text())
    assert config["schema"] == 2
    assert list(config["generator_scales"].values()) == [one[0].rotation.generator_scale]
