"""Files of sd-scripts and OneTrainer agree with their published formulas.

Neither program is a package: the files are built here in their layouts, and `pipelines` merges them
independently, in float64.
"""

import pytest
import torch
from torch import nn

from structmat.adapters import save_adapter
from structmat.convert import convert
from structmat.errors import FileError
from tests.convert.models import effective, ours, same
from tests.convert.pipelines import merged_butterfly_inputs, merged_oft, merged_series

files = pytest.importorskip("safetensors.torch")

LINEAR, POINT, FIELD = "down.proj", "down.point", "down.field"
LAYERS = (LINEAR, POINT, FIELD)


def make():
    """Return a model with a linear layer and convolutions with kernels 1×1 and 3×3."""
    torch.manual_seed(0)
    layers = {"proj": nn.Linear(16, 24), "point": nn.Conv2d(8, 12, 1), "field": nn.Conv2d(4, 6, 3)}
    return nn.ModuleDict({"down": nn.ModuleDict(layers)}).eval()


def flat(name, prefix="lora_unet"):
    return f"{prefix}_{name.replace('.', '_')}"


def weights():
    return {name: make().get_submodule(name).weight.detach() for name in LAYERS}


def saved(tensors, path, metadata=None, dtype=None):
    files.save_file(
        {k: v if dtype is None else v.to(dtype) for k, v in tensors.items()}, path, metadata
    )
    return path


def imported(path, **options):
    """Return the merged weights of an imported file, by layer."""
    folder = path.parent / f"{path.stem}-merged"
    folder.mkdir(exist_ok=True)
    files.save_file(make().double().state_dict(), folder / "model.safetensors")
    target = folder / f"{len(list(folder.iterdir()))}.safetensors"
    convert(path, target, to="merged", model=folder / "model.safetensors", **options)
    state = files.load_file(target)
    return {name: state[f"{name}.weight"] for name in LAYERS}


def exact(found, expected):
    """Assert equality to 1e-12 of the norm, both in float64."""
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-12 * value.norm(), name


def triangles(width, size, *, rows=None):
    return 0.2 * torch.randn(rows or width // size, size * (size - 1) // 2)


def series_file(*, marked=False, shared=False, prefix="lora_unet"):
    torch.manual_seed(1)
    tensors = {}
    for name, width, size in ((LINEAR, 16, 4), (POINT, 8, 2), (FIELD, 36, 6)):
        stem = flat(name, prefix)
        tensors[f"{stem}.oft_R.weight"] = triangles(width, size, rows=1 if shared else None)
        if marked:
            tensors[f"{stem}.oft_R.scaled_oft"] = torch.ones((), dtype=torch.bool)
    return tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("marked", [False, True])
def test_an_imported_series_has_the_weights_of_sd_scripts_and_onetrainer(
    tmp_path, dtype, shared, marked
):
    tensors = series_file(marked=marked, shared=shared)
    if dtype is not torch.float32:
        tensors = {k: v if v.dtype == torch.bool else v.to(dtype) for k, v in tensors.items()}
    path = saved(tensors, tmp_path / "a.safetensors")
    expected = {
        name: merged_series(w, tensors[f"{flat(name)}.oft_R.weight"], scaled=marked)
        for name, w in weights().items()
    }
    exact(imported(path), expected)


def test_convolutions_with_dotted_names_need_a_convention(tmp_path):
    tensors = {
        f"unet.{name}.oft_R.weight": series_file()[f"{flat(name)}.oft_R.weight"] for name in LAYERS
    }
    path = saved(tensors, tmp_path / "a.safetensors")
    with pytest.raises(
        FileError, match=r"unet\.down\.(point|field) is a convolution.*--convention"
    ):
        imported(path)
    onetrainer = {
        name: merged_series(w, tensors[f"unet.{name}.oft_R.weight"])
        for name, w in weights().items()
    }
    exact(imported(path, convention="onetrainer"), onetrainer)
    tagged = saved(tensors, tmp_path / "b.safetensors", {"ot_branch": "master"})
    exact(imported(tagged), onetrainer)
    peft = {
        name: merged_series(w.flatten(1), tensors[f"unet.{name}.oft_R.weight"]).reshape(w.shape)
        for name, w in weights().items()
    }
    exact(imported(path, convention="peft"), peft)
    linear = {key: value for key, value in tensors.items() if LINEAR in key}
    alone = imported(saved(linear, tmp_path / "c.safetensors"))
    exact({LINEAR: alone[LINEAR]}, {LINEAR: onetrainer[LINEAR]})


def butterfly_file(factors):
    torch.manual_seed(2)
    tensors = {}
    for name, width, size, outputs in ((LINEAR, 16, 4, 24), (POINT, 8, 2, 12), (FIELD, 36, 2, 6)):
        depth = 1 if name == FIELD else factors  # layers may differ
        blocks = 0.5 * torch.randn(depth, width // size, size, size)
        tensors[f"{flat(name)}.boft_R"] = blocks
        tensors[f"{flat(name)}.boft_s"] = torch.rand(outputs, 1) + 0.5
    return tensors


@pytest.mark.parametrize("factors", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_imported_butterfly_has_the_weights_of_sd_scripts(tmp_path, factors, dtype):
    tensors = {key: value.to(dtype) for key, value in butterfly_file(factors).items()}
    path = saved(tensors, tmp_path / "a.safetensors", {"ss_network_module": "networks.boft"})
    expected = {
        name: merged_butterfly_inputs(
            w, tensors[f"{flat(name)}.boft_R"], tensors[f"{flat(name)}.boft_s"]
        )
        for name, w in weights().items()
    }
    exact(imported(path), expected)


def bounded_by_sd_scripts(alpha, outputs):
    return alpha * outputs


@pytest.mark.parametrize("alpha", [1e-3, 0.05, 10.0, None])
def test_the_first_oft_has_the_weights_of_sd_scripts(tmp_path, alpha):
    torch.manual_seed(3)
    tensors = {}
    for name, outputs in ((LINEAR, 24), (POINT, 12), (FIELD, 6)):
        tensors[f"{flat(name, 'oft_unet')}.oft_blocks"] = torch.randn(3, outputs // 3, outputs // 3)
        if alpha is not None:
            tensors[f"{flat(name, 'oft_unet')}.alpha"] = torch.tensor(alpha)
    path = saved(tensors, tmp_path / "a.safetensors")
    stored = torch.tensor(alpha) if alpha is not None else None
    expected = {
        name: merged_oft(
            w,
            tensors[f"{flat(name, 'oft_unet')}.oft_blocks"],
            stored,
            bounded=bounded_by_sd_scripts,
        )
        for name, w in weights().items()
    }
    found = imported(path)
    for name, value in expected.items():  # sd-scripts adds 1e-8 to norms
        assert (found[name] - value).norm() <= 3e-7 * value.norm()


def test_stacked_parts_of_flux_are_rotated_separately(tmp_path):
    torch.manual_seed(4)
    parts = {
        f"oft_unet_down_proj.oft_blocks.{i}": torch.randn(2, n, n) for i, n in enumerate((3, 3, 6))
    }
    alpha = torch.tensor(0.05)
    path = saved({**parts, "oft_unet_down_proj.alpha": alpha}, tmp_path / "a.safetensors")
    rows = weights()[LINEAR].split([6, 6, 12])
    expected = torch.cat(
        [
            merged_oft(w, x, alpha, bounded=bounded_by_sd_scripts)
            for w, x in zip(rows, parts.values(), strict=True)
        ]
    )
    found = imported(path)[LINEAR]
    assert (found - expected).norm() <= 3e-7 * expected.norm()


def exported(tmp_path, spec, *, side, **options):
    """Return the tensors and metadata of an export, its notes, and the effective weights."""
    adapted = ours(make(), spec, side=side, target_modules=list(LAYERS), **options)
    save_adapter(adapted, tmp_path / "ours")
    done = convert(tmp_path / "ours", tmp_path / "a.safetensors", to="kohya")
    from safetensors import safe_open

    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        metadata = file.metadata()
    return files.load_file(tmp_path / "a.safetensors"), metadata, done.notes, effective(adapted)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("spec", ["block_diagonal(block=4)", "butterfly(block=2, depth=2)"])
def test_rotated_inputs_are_exported_as_boft(tmp_path, spec, scale):
    tensors, metadata, notes, expected = exported(tmp_path, spec, side="inputs", scale=scale)
    assert metadata["ss_network_module"] == "networks.boft"
    assert any("--network_module=networks.boft" in note for note in notes)
    found = {
        name: merged_butterfly_inputs(
            w, tensors[f"{flat(name)}.boft_R"], tensors[f"{flat(name)}.boft_s"]
        )
        for name, w in weights().items()
    }
    same(found, expected, 2e-6)


def test_rotated_outputs_are_exported_as_the_first_oft(tmp_path):
    tensors, metadata, _, expected = exported(tmp_path, "block_diagonal(block=2)", side="outputs")
    assert metadata["ss_network_module"] == "networks.oft"
    counts = {len(x) for key, x in tensors.items() if key.endswith("oft_blocks")}
    assert {str(count) for count in counts} == {metadata["ss_network_dim"]}
    found = {
        name: merged_oft(
            w,
            tensors[f"{flat(name, 'oft_unet')}.oft_blocks"],
            tensors[f"{flat(name, 'oft_unet')}.alpha"],
            bounded=bounded_by_sd_scripts,
        )
        for name, w in weights().items()
    }
    same(found, expected, 2e-6)


def test_a_series_is_exported_as_a_series(tmp_path):
    path = saved(series_file(), tmp_path / "a.safetensors")
    convert(path, tmp_path / "ours", model=make())
    convert(tmp_path / "ours", tmp_path / "b.safetensors", to="kohya")
    before, after = files.load_file(path), files.load_file(tmp_path / "b.safetensors")
    assert before.keys() == after.keys()
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"lora_unet_down_proj.oft_R.weight": torch.zeros(4, 5)}, r"5 numbers for a block"),
        ({"lora_unet_down_proj.oft_R.weight": torch.zeros(3, 6)}, "3 blocks of 4 do not fill 16"),
        ({"lora_unet_down_proj.boft_R": torch.zeros(1, 4, 4, 4)}, "BOFT has boft_R with four axes"),
        ({"lora_unet_down_proj.boft_R": torch.zeros(3, 2, 8, 8),
          "lora_unet_down_proj.boft_s": torch.ones(24, 1)}, "is not a block butterfly"),
        ({"lora_unet_down_proj.oft_R.weight": torch.zeros(4, 6),
          "bundle_emb.x.clip_l": torch.zeros(2)}, "bundle_emb.x.clip_l does not belong"),
        ({"lora_unet_down_proj.oft_R.weight": torch.zeros(4, 6),
          "lora_unet_down_proj.dora_log_multiplier": torch.zeros(24)}, "does not belong"),
        ({"lora_unet_down_proj.oft_R.weight": torch.zeros(4, 6),
          "lora_unet_down_point.oft_blocks": torch.zeros(3, 4, 4)}, "tensors of several formats"),
        ({"oft_unet_down_proj.oft_blocks": torch.zeros(4, 6, 6),
          "oft_unet_down_proj.alpha": torch.ones(2)}, "it must be a number"),
        ({"oft_unet_down_proj.oft_blocks": torch.zeros(4, 6, 6),
          "oft_unet_down_proj.alpha": torch.tensor(torch.nan)}, "it must be a number"),
        ({"oft_unet_down_proj.oft_blocks": torch.zeros(4, 6, 6),
          "oft_unet_down_proj.alpha": torch.tensor(1j)}, "it must be a number"),
        ({"oft_unet_down_proj.oft_blocks": torch.zeros(0, 6, 4, 4)}, r"b ≥ 2"),
        ({"oft_unet_down_proj.oft_blocks": torch.zeros(24, 1, 1)}, r"b ≥ 2"),
        ({"lora_unet_down_proj.oft_R.weight": torch.zeros(0, 6)}, "a row per block"),
        ({"lora_unet_down_proj.oft_R.weight": torch.full((4, 6), torch.inf)}, "NaN or infinity"),
        ({"lora_unet_down_proj.boft_R": torch.zeros(0, 4, 4, 4),
          "lora_unet_down_proj.boft_s": torch.ones(24, 1)}, "is not a block butterfly"),
        ({"lora_unet_down_proj.boft_R": torch.zeros(1, 4, 4, 4),
          "lora_unet_down_proj.boft_s": torch.full((24, 1), torch.nan)}, "boft_s contains NaN"),
        ({"oft_unet_down_proj.oft_blocks": torch.zeros(4, 6, 5)},
         r"it must be \(…, blocks, b, b\)"),
        ({"oft_unet_down_proj.oft_blocks.0": torch.zeros(2, 4, 4),
          "oft_unet_down_proj.oft_blocks.2": torch.zeros(2, 8, 8)}, "a layer must have oft_blocks"),
    ],
)  # fmt: skip
def test_malformed_files_are_rejected(tmp_path, tensors, message):
    path = saved(tensors, tmp_path / "a.safetensors")
    with pytest.raises(FileError, match=message):
        convert(path, tmp_path / "ours", model=make())
    assert not (tmp_path / "ours").exists()


def test_adapters_that_sd_scripts_cannot_represent_are_refused(tmp_path):
    adapted = ours(
        make(), "block_diagonal(block=2)", side="outputs", target_modules=[LINEAR], scale=True
    )
    save_adapter(adapted, tmp_path / "scaled")
    with pytest.raises(FileError, match=r"networks\.oft has no scales"):
        convert(tmp_path / "scaled", tmp_path / "a.safetensors", to="kohya")
    adapted = ours(make(), "shuffle(block=4)", target_modules=[LINEAR])
    save_adapter(adapted, tmp_path / "shuffled")
    with pytest.raises(FileError, match="join two half-blocks"):
        convert(tmp_path / "shuffled", tmp_path / "a.safetensors", to="kohya")
    path = saved(series_file(), tmp_path / "b.safetensors")
    with pytest.raises(FileError, match="convention=comfyui does not apply"):
        convert(path, tmp_path / "ours", model=make(), convention="comfyui")
