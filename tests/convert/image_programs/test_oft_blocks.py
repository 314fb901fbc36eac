"""Files of LyCORIS, ComfyUI and sd-scripts agree with the published formulas of each program."""

import pytest
import torch

from structmat.adapters import save_adapter
from structmat.convert import convert
from structmat.errors import FileError
from tests.convert.models import effective, linears, merged_weights, ours, same
from tests.convert.pipelines import cayley, merged_butterfly_outputs, merged_oft

files = pytest.importorskip("safetensors.torch")

EXPORTS = [
    "block_diagonal(block=4)",
    "block_diagonal(block=8)",
    "butterfly(block=4)",
    "butterfly(block=4, depth=3)",
]


def bound_of_lycoris(alpha, outputs):
    return alpha * outputs if alpha > 0 else None


def bound_of_comfyui(alpha, outputs):
    return alpha if alpha > 0 else None


def file_weights(tmp_path, path, **options):
    """Merge a file into a float64 model on disk; return the weights of its layers."""
    files.save_file(linears()[0].double().state_dict(), tmp_path / "model.safetensors")
    target = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
    convert(path, target, to="merged", model=tmp_path / "model.safetensors", **options)
    state = files.load_file(target)
    return {name: state[f"{name}.weight"] for name in ("up", "down")}


def blocks_file(path, stem, *, alpha, factors=None, rescale=False, metadata=None):
    torch.manual_seed(2)
    tensors = {}
    for name, outputs in (("up", 64), ("down", 32)):
        shape = (outputs // 4, 4, 4) if factors is None else (factors, outputs // 4, 4, 4)
        tensors[f"{stem}{name}.oft_blocks"] = 0.3 * torch.randn(shape)
        if alpha is not None:
            tensors[f"{stem}{name}.alpha"] = torch.tensor(alpha)
        if rescale:
            tensors[f"{stem}{name}.rescale"] = torch.rand(outputs, 1) + 0.5
    files.save_file(tensors, path, metadata)
    return tensors


def expected_of(tensors, stem, bounded):
    found = {}
    for name in ("up", "down"):
        x = tensors[f"{stem}{name}.oft_blocks"]
        formula = merged_oft if x.ndim == 3 else merged_butterfly_outputs
        found[name] = formula(
            linears()[0].get_submodule(name).weight.detach(),
            x,
            tensors.get(f"{stem}{name}.alpha"),
            bounded=bounded,
            rescale=tensors.get(f"{stem}{name}.rescale"),
        )
    return found


PROGRAMS = {
    "lycoris_": bound_of_lycoris,
    "lora_unet_": bound_of_lycoris,
    "diffusion_model.": bound_of_comfyui,
}


@pytest.mark.parametrize("stem", PROGRAMS)
@pytest.mark.parametrize("factors", [None, 1, 3])
@pytest.mark.parametrize("alpha", [None, 0.0, 0.01, 1.0])
def test_the_names_determine_the_bound(tmp_path, stem, factors, alpha):
    path = tmp_path / "a.safetensors"
    tensors = blocks_file(path, stem, alpha=alpha, factors=factors, rescale=True)
    expected = expected_of(tensors, stem, PROGRAMS[stem])
    same(file_weights(tmp_path, path), expected, 3e-7)  # programs add 1e-8 to norms


def test_metadata_and_options_determine_the_bound_of_other_files(tmp_path):
    path = tmp_path / "a.safetensors"
    blocks_file(path, "unet.", alpha=0.01)
    with pytest.raises(FileError, match=r"alpha = 0\.01 bounds the rotation.*--convention"):
        file_weights(tmp_path, path)
    tensors = blocks_file(
        path, "unet.", alpha=0.01, metadata={"ss_network_module": "lycoris.kohya"}
    )
    expected = expected_of(tensors, "unet.", bound_of_lycoris)
    same(file_weights(tmp_path, path), expected, 3e-7)
    expected = expected_of(tensors, "unet.", bound_of_comfyui)
    same(file_weights(tmp_path, path, convention="comfyui"), expected, 3e-7)
    tensors = blocks_file(path, "unet.", alpha=1e3)  # inactive for every program
    same(file_weights(tmp_path, path), expected_of(tensors, "unet.", bound_of_lycoris), 1e-12)


@pytest.mark.parametrize("factors", [None, 3])
def test_early_files_contain_the_blocks_themselves(tmp_path, factors):
    tensors = blocks_file(tmp_path / "a.safetensors", "lycoris_", alpha=None, factors=factors)
    expected = expected_of(tensors, "lycoris_", bound_of_lycoris)
    x = {key: value.double() for key, value in tensors.items()}
    early = {
        key.replace("oft_blocks", "oft_diag"): cayley(value - value.mT) for key, value in x.items()
    }
    files.save_file(early, tmp_path / "b.safetensors")
    same(file_weights(tmp_path, tmp_path / "b.safetensors"), expected, 1e-12)
    rounded = {key: value.to(torch.float16) for key, value in early.items()}
    files.save_file(rounded, tmp_path / "c.safetensors")
    with pytest.raises(FileError, match="deviate from orthogonality"):
        convert(tmp_path / "c.safetensors", tmp_path / "ours", model=linears()[0])


@pytest.mark.parametrize(
    "spec", [*EXPORTS, "butterfly(block=8, depth=2)", "block_diagonal(block=16)"]
)
@pytest.mark.parametrize("scale", [False, True])
def test_an_export_has_the_merged_weights_in_comfyui(tmp_path, spec, scale):
    one = ours(linears()[0], spec, side="outputs", scale=scale, target_modules=["up", "down"])
    save_adapter(one, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "a.safetensors", to="comfyui")
    tensors = files.load_file(tmp_path / "a.safetensors")
    assert all(float(tensors[f"diffusion_model.{name}.alpha"]) == 0 for name in ("up", "down"))
    if scale:  # ComfyUI ignores the scales of blocks with three axes
        assert all(x.ndim == 4 for key, x in tensors.items() if key.endswith("oft_blocks"))
    same(expected_of(tensors, "diffusion_model.", bound_of_comfyui), effective(one), 2e-6)


@pytest.mark.parametrize("stem", ["lora_unet_", "diffusion_model."])
def test_imported_adapters_load_into_the_model(tmp_path, stem):
    tensors = blocks_file(tmp_path / "a.safetensors", stem, alpha=0.0)
    done = convert(tmp_path / "a.safetensors", tmp_path / "ours", model=linears()[0])
    assert set(done.layers) == {"up", "down"}
    found = merged_weights(linears()[0], tmp_path / "ours")
    expected = expected_of(tensors, stem, bound_of_lycoris)
    same({name: found[f"{name}.weight"] for name in expected}, expected, 2e-6)
