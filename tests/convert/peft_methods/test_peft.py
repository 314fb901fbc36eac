"""PEFT is the oracle: it merges the files that are imported, and loads exported files."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats
from torch import nn

from structmat.adapters import adapt, adapters, load_adapter, save_adapter
from structmat.convert import convert
from structmat.convert.inverse_parametrization import cayley, orthogonal, skew
from structmat.convert.peft_methods.peft_oft import neumann
from structmat.errors import FileError
from structmat.testing import seeds
from tests.convert.models import copied, effective, images, linears, merged_weights, ours, same

peft = pytest.importorskip("peft")
pytest.importorskip("safetensors")

pytestmark = [
    pytest.mark.filterwarnings("ignore:Invalid `(r|oft_block_size)`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Unable to fetch remote file"),
]


@pytest.fixture(autouse=True, scope="module")
def _no_compiler():
    layer = pytest.importorskip("peft.tuners.boft.layer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer, "get_fbd_cuda", lambda: None)  # it would try to compile
        yield


def trained(model, config, folder, size=0.2):
    """Let PEFT adapt a model with random parameters and save it; return its merged weights."""
    torch.manual_seed(1)
    theirs = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.requires_grad and "boft_s" not in name:
                parameter.add_(size * torch.randn_like(parameter))
    theirs.save_pretrained(folder)
    state = theirs.merge_and_unload().state_dict()
    return {name: value.detach().clone() for name, value in state.items()}


CONFIGS = {
    "boft": {"cls": "BOFTConfig", "boft_block_size": 8},
    "boft by number": {"cls": "BOFTConfig", "boft_block_size": 0, "boft_block_num": 4},
    "boft with a bias": {"cls": "BOFTConfig", "boft_block_size": 4, "bias": "boft_only"},
    "oft": {"cls": "OFTConfig", "oft_block_size": 8, "use_cayley_neumann": False},
    "oft by number": {"cls": "OFTConfig", "oft_block_size": 0, "r": 4, "use_cayley_neumann": False},
    "oft shared": {
        "cls": "OFTConfig",
        "oft_block_size": 8,
        "use_cayley_neumann": False,
        "block_share": True,
    },
    "oft constrained": {
        "cls": "OFTConfig",
        "oft_block_size": 8,
        "use_cayley_neumann": False,
        "coft": True,
        "eps": 0.05,
    },
    "oft with a bias": {
        "cls": "OFTConfig",
        "oft_block_size": 4,
        "use_cayley_neumann": False,
        "bias": "oft_only",
    },
    "hra": {"cls": "HRAConfig", "r": 4, "init_weights": False},
    "hra orthogonalised": {"cls": "HRAConfig", "r": 4, "apply_GS": True, "init_weights": False},
}


def config(name, **options):
    given = {"target_modules": ["up", "down"], "init_weights": False} | CONFIGS[name] | options
    return getattr(peft, given.pop("cls"))(**given)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_import_has_pefts_merged_weights(tmp_path, name):
    model = linears()
    theirs = trained(copied(model, linears()), config(name), tmp_path / "theirs")
    done = convert(tmp_path / "theirs", tmp_path / "ours", model=model)
    assert done.format.startswith("PEFT's")
    assert max(row["error"] for row in done.layers.values()) < 3e-6
    same(merged_weights(model, tmp_path / "ours"), theirs)


@pytest.mark.parametrize("name", [n for n in CONFIGS if n.startswith(("boft", "oft"))])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution_has_pefts_merged_weights(tmp_path, name, kernel):
    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(8, 6, kernel), nn.ReLU(), nn.Conv2d(6, 2, 1)).eval()

    theirs = trained(make(), config(name, target_modules=["0"]), tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "ours", model=make())
    same(merged_weights(make(), tmp_path / "ours"), theirs)


@pytest.mark.parametrize("terms", [1, 2, 3, 4, 5, 7])
def test_a_neumann_series_is_kept_or_replaced_by_the_nearest_rotation(tmp_path, terms):
    options = peft.OFTConfig(
        oft_block_size=8,
        num_cayley_neumann_terms=terms,
        target_modules=["up", "down"],
        init_weights=False,
    )
    model = linears()
    theirs = trained(copied(model, linears()), options, tmp_path / "theirs", size=0.02)
    save(model, tmp_path / "model")
    done = convert(tmp_path / "theirs", tmp_path / "merged", to="merged", model=tmp_path / "model")
    assert any("truncated Neumann series" in note for note in done.notes)
    same(load(tmp_path / "merged"), theirs)
    if terms == 5:
        done = convert(tmp_path / "theirs", tmp_path / "series", model=model)
        assert max(row["error"] for row in done.layers.values()) < 1e-6
        same(merged_weights(linears(), tmp_path / "series"), theirs)
        convert(tmp_path / "series", tmp_path / "back", to="peft-oft")
        loaded = peft.PeftModel.from_pretrained(linears(), tmp_path / "back")
        same(dict(loaded.merge_and_unload().state_dict()), theirs)
        convert(tmp_path / "series", tmp_path / "exact", to="peft-oft", nearest=True)
        settings = json.loads((tmp_path / "exact" / "adapter_config.json").read_text())
        assert not settings["use_cayley_neumann"]
        with pytest.raises(
            FileError, match=r"deviate from orthogonality by .*, as those of a truncated"
        ):
            convert(tmp_path / "series", tmp_path / "boft", to="peft-boft")
    elif terms > 1:
        with pytest.raises(
            FileError, match=r"deviate from orthogonality by .*, as those of a truncated"
        ):
            convert(tmp_path / "theirs", tmp_path / "ours", model=model)
    assert not (tmp_path / "ours").exists()
    done = convert(tmp_path / "theirs", tmp_path / "ours", model=model, nearest=True)
    loaded = load_adapter(model, tmp_path / "ours")
    for adapter in adapters(loaded).values():
        assert adapter.rotation.orthogonality_error() < 1e-5
    said = max(row["error"] for row in done.layers.values())
    deviation = max(
        float((effective(loaded)[name] - theirs[f"{name}.weight"]).abs().max())
        for name in effective(loaded)
    )
    assert deviation <= 8 * said + 1e-6  # sums of eight block entries, times weights below 1


@given(seeds(), floats(0.05, 0.95))
def test_a_five_term_series_has_the_documented_error(seed, size):
    q = skew(torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 5, 5))))
    q = size * q / torch.linalg.matrix_norm(q, 2)[:, None, None]
    power = torch.linalg.matrix_power(q, 4)
    expected = cayley(q) @ (torch.eye(5, dtype=q.dtype) - power)
    torch.testing.assert_close(neumann(q, 5), expected)
    polar = orthogonal(neumann(q, 5), nearest=True)
    assert torch.linalg.matrix_norm(neumann(q, 5) - polar, 2).max() == pytest.approx(size**4)


def test_the_series_of_older_peft_versions_ends_with_a_full_term(tmp_path):
    model = linears()
    options = peft.OFTConfig(oft_block_size=8, target_modules=["up"], init_weights=False)
    trained(copied(model, linears()), options, tmp_path / "theirs")
    path = tmp_path / "theirs" / "adapter_config.json"
    settings = json.loads(path.read_text())
    del settings["peft_version"]
    path.write_text(json.dumps(settings))
    save(model, tmp_path / "model")
    convert(tmp_path / "theirs", tmp_path / "merged", to="merged", model=tmp_path / "model")
    tensors = safetensors_load(tmp_path / "theirs" / "adapter_model.safetensors")
    (x,) = tensors.values()
    q = torch.zeros(len(x), 8, 8, dtype=torch.float64)
    rows, columns = torch.triu_indices(8, 8, 1).unbind()
    q[:, rows, columns] = x.double()
    q = q - q.mT
    series = torch.eye(8, dtype=q.dtype) + 2 * (q + q @ q + q @ q @ q + q @ q @ q @ q)
    expected = model[0]["up"].weight.double() @ torch.block_diag(*series).T
    got = load(tmp_path / "merged")["0.up.weight"]
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-6)


def safetensors_load(path):
    return pytest.importorskip("safetensors.torch").load_file(path)


def save(model, folder):
    folder.mkdir()
    pytest.importorskip("safetensors.torch").save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors"
    )


def load(folder):
    return safetensors_load(folder / "model.safetensors")


def test_fully_trained_modules_are_converted_in_both_directions(tmp_path):
    model = linears()
    options = config("boft", modules_to_save=["1"])
    theirs = trained(copied(model, linears()), options, tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "ours", model=model)
    same(merged_weights(linears(), tmp_path / "ours"), theirs)
    convert(tmp_path / "ours", tmp_path / "again", to="peft-boft")
    loaded = peft.PeftModel.from_pretrained(linears(), tmp_path / "again")
    same(dict(loaded.merge_and_unload().state_dict()), theirs)


EXPORTS = {
    "peft-boft": ("block_diagonal(block=8)", True),
    "peft-oft": ("block_diagonal(block=8)", False),
    "lora": ("block_diagonal(block=4)", True),
}


@pytest.mark.parametrize("to", EXPORTS)
@pytest.mark.parametrize("make", [linears, images])
@pytest.mark.parametrize("bias", [False, True])
def test_an_exported_adapter_has_the_same_outputs_in_peft(tmp_path, to, make, bias):
    spec, scale = EXPORTS[to]
    spec = spec if make is linears else "block_diagonal(block=4)"
    targets = {"target_modules": ["up", "down"] if make is linears else ["0", "2"]}
    one = ours(make(), spec, scale=scale, bias=bias, **targets)
    save_adapter(one, tmp_path / "ours")
    extra = {"rank": 1000, "model": make()} if to == "lora" else {}
    convert(tmp_path / "ours", tmp_path / "theirs", to=to, **extra)
    loaded = peft.PeftModel.from_pretrained(make(), tmp_path / "theirs").eval()
    x = torch.randn(3, 4, 4, 4) if make is images else torch.randn(3, 32)
    if make is images and to == "peft-oft":  # PEFT's unmerged convolution has a bug
        loaded = loaded.merge_and_unload()
    run = (lambda m: m(x)) if make is images else (lambda m: m[1](m[0]["down"](m[0]["up"](x))))
    inner = loaded.base_model.model if hasattr(loaded, "base_model") else loaded
    torch.testing.assert_close(run(inner), run(one), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("to", ["peft-boft", "peft-oft"])
def test_round_trips_preserve_parameters(tmp_path, to):
    one = ours(linears(), "block_diagonal(block=8)", target_modules=["up", "down"])
    save_adapter(one, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "theirs", to=to)
    done = convert(tmp_path / "theirs", tmp_path / "again", model=linears())
    assert max(row["error"] for row in done.layers.values()) < 1e-6
    other = load_adapter(linears(), tmp_path / "again")
    for a, b in zip(adapters(one).values(), adapters(other).values(), strict=True):
        assert a.rotation.network == b.rotation.network
        torch.testing.assert_close(
            a.rotation.generators[0], b.rotation.generators[0], rtol=1e-6, atol=1e-6
        )


def test_layers_of_several_widths_share_one_number_of_blocks(tmp_path):
    one = adapt(
        linears(),
        "block_diagonal(block=4)",
        target_modules=["up", "down"],
        topology_pattern={"down": "block_diagonal(block=8)"},
    )
    save_adapter(one, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "theirs", to="peft-oft")
    settings = json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())
    assert (settings["r"], settings["oft_block_size"]) == (8, 0)
    peft.PeftModel.from_pretrained(linears(), tmp_path / "theirs")


def test_a_conv1d_converts_to_lora_but_not_to_boft(tmp_path):
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D

    def make():
        torch.manual_seed(0)
        return nn.Sequential(conv1d(12, 8), nn.ReLU(), nn.Linear(12, 2))

    one = ours(make(), "butterfly(block=4, depth=2)", target_modules=["0"], scale=True)
    save_adapter(one, tmp_path / "ours")
    with pytest.raises(
        FileError, match=r"0: PEFT's BOFT supports only .*, not Conv1D with a weight"
    ):
        convert(tmp_path / "ours", tmp_path / "boft", to="peft-boft")
    convert(tmp_path / "ours", tmp_path / "lora", to="lora", rank=8, model=make())
    loaded = peft.PeftModel.from_pretrained(make(), tmp_path / "lora").eval()
    x = torch.randn(3, 8)
    torch.testing.assert_close(loaded(x), one(x), rtol=1e-5, atol=1e-5)


def test_the_lora_error_is_that_of_the_best_approximation(tmp_path):
    model = linears()
    save_adapter(ours(linears(), "shuffle(block=4)", target_modules=["up"]), tmp_path / "ours")
    done = convert(tmp_path / "ours", tmp_path / "lora", to="lora", rank=5, model=model)
    change = effective(load_adapter(linears(), tmp_path / "ours"))["0.up"]
    change = (change - model[0]["up"].weight).detach().double()
    values = torch.linalg.svdvals(change)
    best = float(values[5:].norm() / values.norm())
    assert done.layers["0.up"]["of_change"] == pytest.approx(best, rel=1e-4)
    of_weight = float(values[5:].norm() / model[0]["up"].weight.detach().double().norm())
    assert done.layers["0.up"]["of_weight"] == pytest.approx(of_weight, rel=1e-4)
    assert done.notes[0] == f"rank 5 loses {best:.2%} of the change (Frobenius norm)"
    loaded = peft.PeftModel.from_pretrained(linears(), tmp_path / "lora").merge_and_unload()
    left = (loaded[0]["up"].weight - model[0]["up"].weight).detach().double() - change
    assert float(left.norm() / change.norm()) == pytest.approx(best, rel=1e-4)


def test_hra_reflections_convert_to_lora_of_equal_rank_without_loss(tmp_path):
    model = linears()
    options = config("hra", r=3, task_type="FEATURE_EXTRACTION")
    theirs = trained(copied(model, linears()), options, tmp_path / "hra")
    with pytest.raises(FileError, match="determinant −1: it is a reflection"):
        convert(tmp_path / "hra", tmp_path / "ours", model=model)
    done = convert(tmp_path / "hra", tmp_path / "lora", to="lora", rank=3, model=model)
    assert max(row["of_change"] for row in done.layers.values()) < 1e-6
    loaded = peft.PeftModel.from_pretrained(linears(), tmp_path / "lora").merge_and_unload()
    same(dict(loaded.state_dict()), theirs)
    settings = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert settings["task_type"] == "FEATURE_EXTRACTION"


REFUSED = {
    "shuffle(block=4)": ("peft-boft", r"0\.up: stage 2 of its network has a switch of wires"),
    "butterfly(block=4, depth=3)": ("peft-oft", r"0\.up: stage 3 .* PEFT's OFT has one stage"),
    "random(block=4, depth=1, rng=0)": ("peft-oft", r"0\.up: stage 1 .* adjacent wires"),
}


@pytest.mark.parametrize("spec", REFUSED)
def test_unsupported_networks_are_refused(tmp_path, spec):
    to, message = REFUSED[spec]
    save_adapter(ours(linears(), spec, target_modules=["up"]), tmp_path / "ours")
    with pytest.raises(FileError, match=message + ".*LoRA and merged models support any network"):
        convert(tmp_path / "ours", tmp_path / "theirs", to=to)
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_scales_and_rotated_outputs_are_refused(tmp_path):
    options = {"target_modules": ["up"]}
    spec = "block_diagonal(block=4)"
    save_adapter(ours(linears(), spec, scale=True, **options), tmp_path / "scaled")
    with pytest.raises(FileError, match="its outputs are scaled, but PEFT's OFT has no scales"):
        convert(tmp_path / "scaled", tmp_path / "a", to="peft-oft")
    save_adapter(ours(linears(), spec, side="outputs", **options), tmp_path / "outputs")
    with pytest.raises(FileError, match="its outputs are rotated, but PEFT's BOFT rotates inputs"):
        convert(tmp_path / "outputs", tmp_path / "a", to="peft-boft")


def test_exporting_a_rotation_by_180_degrees_to_oft_is_refused(tmp_path):
    model = nn.Sequential(nn.Linear(4, 2, dtype=torch.float64), nn.ReLU())
    options = {"target_modules": ["0"], "generator_scaling": "none"}
    one = adapt(model, "block_diagonal(block=4)", parametrization="exp", **options)
    torch.manual_seed(0)
    u, v = torch.linalg.qr(torch.randn(4, 2, dtype=torch.float64))[0].T
    plane = torch.outer(u, v) - torch.outer(v, u)
    with torch.no_grad():
        one[0].rotation.generators[0].copy_(torch.pi * plane[*torch.triu_indices(4, 4, 1)])
    save_adapter(one, tmp_path / "ours")
    with pytest.raises(FileError, match="180°, so it has the eigenvalue −1, which no Cayley"):
        convert(tmp_path / "ours", tmp_path / "theirs", to="peft-oft")


def test_reflections_wider_than_1024_wires_convert_only_to_lora(tmp_path):
    def make():
        return nn.Sequential(nn.Linear(1026, 2, bias=False))

    options = config("hra", r=2, target_modules=["0"])
    theirs = trained(make(), options, tmp_path / "hra")
    model = make()
    with pytest.raises(FileError, match="0: a rotation as one switch of all 1026 wires"):
        convert(tmp_path / "hra", tmp_path / "ours", model=model)
    convert(tmp_path / "hra", tmp_path / "lora", to="lora", rank=2, model=model)
    assert theirs["0.weight"].shape == (2, 1026)


def test_biases_of_other_layers_are_merged_or_refused(tmp_path):
    """PEFT's bias="all" also trains the biases of layers that it does not adapt."""
    model = linears()
    theirs = trained(copied(model, linears()), config("boft", bias="all"), tmp_path / "theirs")
    with pytest.raises(FileError, match=r"1\.bias was trained without the rest of its module"):
        convert(tmp_path / "theirs", tmp_path / "ours", model=model)
    save(model, tmp_path / "model")
    convert(tmp_path / "theirs", tmp_path / "merged", to="merged", model=tmp_path / "model")
    same(load(tmp_path / "merged"), theirs)


def test_orthogonalised_hra_is_converted_to_exponentials(tmp_path):
    model = linears()
    trained(copied(model, linears()), config("hra orthogonalised"), tmp_path / "hra")
    convert(tmp_path / "hra", tmp_path / "ours", model=model)
    loaded = load_adapter(model, tmp_path / "ours")
    assert {adapter.rotation.parametrization for adapter in adapters(loaded).values()} == {"exp"}


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_boft_factors_agree_with_pefts_permutations(tmp_path, depth):
    """PEFT needs its CUDA extension for these, so its formula is the oracle."""
    from tests.convert.peft_methods.test_peft_equivalence import peft_rotation

    save_file = pytest.importorskip("safetensors.torch").save_file
    torch.manual_seed(depth)
    model = nn.Sequential(nn.Linear(64, 5), nn.ReLU())
    x, s = torch.randn(depth, 8, 8, 8), torch.rand(5, 1) + 0.5
    (tmp_path / "theirs").mkdir()
    name = "base_model.model.0."
    save_file(
        {f"{name}boft_R": x, f"{name}boft_s": s, f"{name}boft_P": torch.zeros(1)},
        tmp_path / "theirs" / "adapter_model.safetensors",
    )
    settings = {"peft_type": "BOFT", "boft_n_butterfly_factor": depth, "boft_block_size": 8}
    (tmp_path / "theirs" / "adapter_config.json").write_text(json.dumps(settings))
    done = convert(tmp_path / "theirs", tmp_path / "ours")  # needs no model: len(s) outputs
    assert done.notes == []
    expected = (model[0].weight.double() @ peft_rotation(x.double()).T) * s
    got = merged_weights(model, tmp_path / "ours")["0.weight"]
    torch.testing.assert_close(got.double(), expected.detach(), rtol=0, atol=1e-6)
    done = convert(tmp_path / "ours", tmp_path / "again", to="peft-boft")
    assert any("CUDA extension" in note for note in done.notes) == (depth > 1)
    back = safetensors_load(tmp_path / "again" / "adapter_model.safetensors")[f"{name}boft_R"]
    torch.testing.assert_close(back - back.mT, x - x.mT, rtol=2e-5, atol=2e-5)
    written = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
    assert written["boft_n_butterfly_factor"] == depth
    assert peft.BOFTConfig.from_pretrained(tmp_path / "again").boft_block_size == 8
