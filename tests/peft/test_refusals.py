"""Invalid configurations, layers and files are refused and leave the model unchanged."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import structmat as sm
from structmat.errors import BlockError, FileError, SpecError, StructmatError, WidthError
from structmat.families import registry
from structmat.peft import StructmatConfig, StructmatLayer
from tests.peft.models import Case
from tests.peft.test_lifecycle import adapted, config, layers
from tests.random_modules import randomised, state, unchanged

CASE = Case("perceptron", r"layers\.\d", "mixed_radix")
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"


def kinds(model):
    return [(name, type(m)) for name, m in model.named_modules()]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (
            {"topology": "shuffle(block=16)"},
            WidthError,
            r"layers\.0 has 12 inputs: shuffle.*nearest is 16.*mixed_radix\(12\) serves any"
            r".*select another network for it with",
        ),
        (
            {
                "topology": "butterfly(block=4, depth=2)",
                "side": "outputs",
                "target_modules": "head",
            },
            WidthError,
            "head has 3 outputs: butterfly",
        ),
        (
            {"topology_pattern": {r"layers\.1": "butterfly(block=16)"}},
            WidthError,
            r"layers\.1 has 24 inputs",
        ),
        (
            {"topology_pattern": {"up": "monarch"}},
            StructmatError,
            "'up' matches none of the layers to be adapted",
        ),
        ({"topology": sm.butterfly(16)}, WidthError, r"layers\.0 .*the network has width 16"),
        ({"topology": "random(block=4, depth=2)"}, SpecError, "give it a seed, such as rng=0"),
        (
            {"target_modules": "layers"},
            StructmatError,
            "type ModuleList, which cannot be adapted",
        ),
        ({"target_modules": ["nowhere"]}, ValueError, "nowhere.* not found in the base model"),
    ],
)
def test_a_refused_configuration_leaves_the_model_unchanged(options, error, said):
    model = CASE.model()
    before, modules = state(model), kinds(model)
    made = config(CASE, **options)
    targets = made.target_modules
    with pytest.raises(error, match=said):
        peft.get_peft_model(model, made)
    assert unchanged(model, before)
    assert kinds(model) == modules
    assert not hasattr(model, "peft_config")
    assert made.target_modules == targets
    model = adapted(CASE)
    before, modules = state(model), kinds(model)
    with pytest.raises(error, match=said):
        model.add_adapter("other", config(CASE, **options))
    assert unchanged(model, before)
    assert kinds(model) == modules
    assert list(model.peft_config) == ["default"]
    assert all(list(layer.structmat_power) == ["default"] for layer in layers(model).values())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_injection_leaves_the_model_unchanged(error, monkeypatch):
    case = Case("bert", ["query", "value"], "shuffle(block=8)")

    def breaking(layer, *_):
        breaking.calls += 1
        if breaking.calls == 3:
            raise error("halfway")
        return update(layer, *_)

    update = StructmatLayer.update_layer
    model = case.model()
    for number in range(2):
        before, modules = state(model), kinds(model)
        breaking.calls = 0
        with monkeypatch.context() as patch:
            patch.setattr(StructmatLayer, "update_layer", breaking)
            start = (lambda m, c: m.add_adapter("other", c)) if number else peft.get_peft_model
            made = config(case, topology="monarch", modules_to_save=["classifier"])
            with pytest.raises(error, match="halfway"):
                start(model, made)
        assert unchanged(model, before)
        assert kinds(model) == modules
        if not number:
            assert not hasattr(model, "peft_config")
            model = adapted(case, modules_to_save=["classifier"])
    assert all(list(layer.structmat_power) == ["default"] for layer in layers(model).values())
    assert list(model.peft_config) == ["default"]
    model.add_adapter("other", config(case, topology="monarch"))


def test_layers_whose_custom_forward_would_be_bypassed_are_refused():
    class Own(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = nn.Sequential(nn.ModuleDict({"a": nn.Linear(8, 8)}), Own(8, 8))
    with pytest.raises(StructmatError, match="1: Own overrides forward"):
        peft.get_peft_model(
            model, StructmatConfig(topology="butterfly", target_modules=["a", "1"], scale=True)
        )
    assert type(model[0]["a"]) is nn.Linear
    peft.get_peft_model(model, StructmatConfig(topology="butterfly", target_modules=["a", "1"]))
    lora = peft.get_peft_model(CASE.model(), peft.LoraConfig(target_modules=["head"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's, that there are adapters already
        with pytest.raises(StructmatError, match="head has type Linear, which cannot"):
            peft.get_peft_model(lora.base_model.model, config(CASE, target_modules=["head"]))


@pytest.mark.parametrize("name", ["layers", "generators", "0"])
def test_adapter_names_that_peft_would_confuse_are_refused(name):
    model = CASE.model()
    with pytest.raises(StructmatError, match="PEFT would confuse them; choose another"):
        peft.get_peft_model(model, config(CASE), adapter_name=name)
    assert not any(isinstance(m, StructmatLayer) for m in model.modules())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"topology": "buterfly"}, SpecError, "did you mean butterfly"),
        ({"topology_pattern": {"a": "nothing_like"}}, SpecError, "no family 'nothing_like'"),
        ({"topology": lambda width: sm.butterfly(width)}, StructmatError, "cannot be saved"),
        ({"parametrization": "cayly"}, BlockError, "did you mean cayley"),
        ({"side": "input"}, StructmatError, "did you mean inputs"),
        ({"bias": "lora_only"}, StructmatError, "bias='lora_only': no such choice"),
        ({"scale": 1}, StructmatError, "scale=1: it must be True or False"),
        ({"dropout": 0.5}, StructmatError, r"dropout=0\.5"),
        ({"layers_pattern": "h"}, StructmatError, "give the indices"),
        ({"schema": 3}, FileError, "schema version 3, but .* reads versions 1 to 2; upgrade"),
    ],
)
def test_invalid_settings_are_refused(options, error, said):
    with pytest.raises(error, match=said):
        StructmatConfig(**options)


# Files ----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    adapted(CASE).save_pretrained(tmp_path)
    return tmp_path


def edit(path, **changes):
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | changes))


def cut(folder):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def lacking(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def infinite(folder):
    tensors = load_file(folder / WEIGHTS)
    next(iter(tensors.values())).fill_(torch.inf)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def extra(folder):
    tensors = load_file(folder / WEIGHTS)
    name = next(iter(tensors))
    tensors[name.replace("structmat_inputs", "structmat_outputs")] = tensors[name].clone()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


LOST = (
    r"no family 'lost' as in this adapter; a user-defined family .* is imported.*--load FILE\.py\)$"
)


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (cut, FileError, "is truncated or not a safetensors file"),
        (lacking, FileError, r"does not fit this model: .*generators\.\d is not in the file"),
        (infinite, FileError, r"generators\.\d contains NaN or infinity"),
        (extra, FileError, r"structmat_outputs.* is in the file, but not in the model"),
        (lambda f: edit(f / SETTINGS, schema=7), FileError, "schema version 7"),
        (lambda f: edit(f / SETTINGS, topology="lost"), SpecError, LOST),
        (lambda f: edit(f / SETTINGS, topology="butterfli"), SpecError, "'butterfli' as in this"),
        (
            lambda f: edit(f / SETTINGS, topology="butterfly(block=6)"),
            FileError,
            r"has shape \(.*\) in the file, \(.*\) in the model",
        ),
        (
            lambda f: edit(f / SETTINGS, networks={"mixed_radix at 12": "0" * 16}),
            FileError,
            "is not the network that the adapter was trained with",
        ),
    ],
)
def test_a_damaged_file_is_refused_and_leaves_the_model_unchanged(saved, spoil, error, said):
    spoil(saved)
    model = CASE.model()
    before, modules = state(model), kinds(model)
    with pytest.raises(error, match=said):
        peft.PeftModel.from_pretrained(model, saved)
    assert unchanged(model, before)
    assert kinds(model) == modules
    assert not hasattr(model, "peft_config")
    other = adapted(CASE)
    before, modules = state(other), kinds(other)
    with pytest.raises(error, match=said):
        other.load_adapter(saved, "second")
    assert unchanged(other, before)
    assert kinds(other) == modules
    assert list(other.peft_config) == ["default"]
    peft.get_peft_model(model, config(CASE))  # and can be used still


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda tensors, name: tensors.pop(name), "is not in the file"),
        (lambda tensors, name: tensors[name].fill_(torch.nan), "contains NaN or infinity"),
    ],
)
def test_a_module_trained_whole_is_checked_as_well(tmp_path, spoil, said):
    def make():
        return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))

    options = {"topology": "butterfly", "target_modules": ["0"], "modules_to_save": ["1"]}
    peft.get_peft_model(make(), StructmatConfig(**options)).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    spoil(tensors, next(name for name in tensors if ".1." in name))
    save_file(tensors, tmp_path / WEIGHTS, metadata={"format": "pt"})
    model = make()
    before, modules = state(model), kinds(model)
    with pytest.raises(FileError, match=said):
        peft.PeftModel.from_pretrained(model, tmp_path)
    assert unchanged(model, before)
    assert kinds(model) == modules


def test_adapters_of_a_convolution_have_one_field():
    options = {"topology": "mixed_radix", "target_modules": ["0"]}
    model = peft.get_peft_model(nn.Sequential(nn.Conv2d(4, 4, 3)), StructmatConfig(**options))
    before = state(model)
    with pytest.raises(StructmatError, match=r"field='channels': .* with field='receptive', and"):
        model.add_adapter("second", StructmatConfig(**options, field="channels"))
    assert unchanged(model, before)


def test_an_adapter_of_another_width_is_refused_and_leaves_the_model_unchanged(saved):
    model = CASE.model()
    model.layers[1] = nn.Linear(24, 18)
    model.layers[2] = nn.Linear(18, 12)
    before = state(model)
    with pytest.raises(FileError, match=r"layers\.2.* has shape"):
        peft.PeftModel.from_pretrained(model, saved)
    assert unchanged(model, before)


def test_a_file_that_does_not_fit_leaves_a_trained_adapter_unchanged(saved):
    lacking(saved)
    model = randomised(peft.get_peft_model(CASE.model(), config(CASE)), 3)
    before = state(model)
    with pytest.raises(FileError, match="is not in the file"):
        model.load_adapter(saved, "default")
    assert unchanged(model, before)


def test_a_family_that_builds_another_network_is_refused(saved):
    """The name and the options are the same; only the fingerprint differs."""
    known = registry.entry("mixed_radix")
    changed = registry.Entry(
        known.name,
        lambda width, radices=None: known.build(width, radices).inverse(),
        known.widths,
        known.refuses,
        known.claims,
    )
    registry._ENTRIES["mixed_radix"] = changed
    try:
        with pytest.raises(FileError, match="another function of this name"):
            peft.PeftModel.from_pretrained(CASE.model(), saved)
    finally:
        registry._ENTRIES["mixed_radix"] = known


def test_merging_non_finite_weights_is_refused():
    model = adapted(CASE)
    last = list(layers(model).values())[-1]
    with torch.no_grad():
        last.structmat_inputs["default"].generators[0][0] = torch.nan
    before, modules = state(model), kinds(model)
    for merge in (
        lambda: model.merge_adapter(safe_merge=True),
        lambda: model.merge_and_unload(safe_merge=True),
        model.merge_and_unload,
    ):
        with pytest.raises(ValueError, match=r"layers\.2: NaNs detected in the merged weights"):
            merge()
        now = state(model)
        assert now.keys() == before.keys()
        assert kinds(model) == modules
    with torch.no_grad():
        last.structmat_inputs["default"].generators[0][0] = 0.0
        last.base_layer.weight[0, 0] = torch.inf
    with pytest.raises(StructmatError, match="or the model itself contains"):
        model.merge_adapter()


def test_importing_without_peft_names_the_extra():
    program = "import sys; sys.modules['peft'] = None\nimport structmat.nn\nimport structmat.peft"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert 'pip install "structmat[peft]"' in done.stderr
    program = "import structmat.nn, sys; assert 'peft' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_the_error_for_an_unsupported_module_lists_the_supported_types():
    model = nn.ModuleDict({"norm": nn.LayerNorm(8), "up": nn.Linear(8, 8)})
    said = "norm has type LayerNorm, .* Linear, Conv1D, Conv1d, Conv2d, Conv3d, Embedding. List"
    with pytest.raises(StructmatError, match=said):
        peft.get_peft_model(model, StructmatConfig(target_modules=["norm", "up"]))
    assert type(model["up"]) is nn.Linear
