"""The package lycoris-lora is the oracle: it merges imported and loads exported files."""

import pytest
import torch
from torch import nn

from structmat.adapters import adapters, load_adapter, save_adapter
from structmat.convert import convert
from structmat.errors import FileError
from tests.convert.models import copied, effective, linears, merged_weights, ours, same

lycoris = pytest.importorskip("lycoris", reason="needs pip install lycoris-lora")
torch_files = pytest.importorskip("safetensors.torch")

SHAPES = {"diag-oft": (32, 64), "boft": (32, 64), "odd boft": (48, 96)}


def images():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 16, (3, 2)), nn.ReLU(), nn.Conv2d(16, 8, 1, groups=4)).eval()


def trained(model, algo, path, *, size=0.2, dtype=torch.float32, **options):
    """Let LyCORIS adapt a model with random parameters and save it; return its merged weights."""
    torch.manual_seed(1)
    block = 6 if algo.startswith("odd") else 4  # 48 and 96 must be block · 2^k
    network = lycoris.create_lycoris(
        model, 1.0, linear_dim=block, conv_dim=4, algo=algo.split()[-1], **options
    )
    network.apply_to()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.add_(size * torch.randn_like(parameter))
            assert name.endswith(("oft_blocks", "rescale"))
    network.save_weights(path, dtype, {})
    return merged(model, network)


@torch.no_grad()
def merged(model, network):
    """Return the state of a model with the weights that LyCORIS merges."""
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    names = {f"lycoris_{name.replace('.', '_')}": name for name, _ in model.named_modules()}
    for layer in network.loras:
        weight, _ = layer.get_merged_weight()
        state[f"{names[layer.lora_name]}.weight"] = weight.clone()
    return state


@pytest.mark.parametrize("algo", SHAPES)
@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("constraint", [0, 0.01])
def test_an_import_has_the_merged_weights_of_lycoris(tmp_path, algo, rescaled, constraint):
    def make():
        return linears(widths=SHAPES[algo])[0]

    theirs = trained(
        make(), algo, tmp_path / "a.safetensors", rescaled=rescaled, constraint=constraint
    )
    done = convert(tmp_path / "a.safetensors", tmp_path / "ours", model=make())
    assert {row["side"] for row in done.layers.values()} == {"outputs"}
    assert set(done.layers) == {"up", "down"}
    same(merged_weights(make(), tmp_path / "ours"), theirs, 2e-6)


@pytest.mark.parametrize("algo", ["diag-oft", "boft"])
def test_a_convolution_has_the_merged_weights_of_lycoris(tmp_path, algo):
    theirs = trained(images(), algo, tmp_path / "a.safetensors", rescaled=True)
    convert(tmp_path / "a.safetensors", tmp_path / "ours", model=images())
    same(merged_weights(images(), tmp_path / "ours"), theirs, 2e-6)


EXPORTS = [
    "block_diagonal(block=4)",
    "block_diagonal(block=8)",
    "butterfly(block=4)",
    "butterfly(block=4, depth=3)",
]


@pytest.mark.parametrize("spec", EXPORTS)
@pytest.mark.parametrize("scale", [False, True])
def test_an_export_has_the_merged_weights_in_lycoris(tmp_path, spec, scale):
    def make():
        return linears(widths=(32, 64))[0]

    one = ours(make(), spec, side="outputs", scale=scale, target_modules=["up", "down"])
    save_adapter(one, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "a.safetensors", to="lycoris")
    network, _ = lycoris.create_lycoris_from_weights(1.0, tmp_path / "a.safetensors", make())
    assert len(network.loras) == 2
    got = merged(make(), network)
    same({name: got[f"{name}.weight"] for name in ("up", "down")}, effective(one), 2e-6)


def test_round_trips_preserve_weights(tmp_path):
    one = ours(linears(), "butterfly(block=4)", side="outputs", target_modules=["up", "down"])
    save_adapter(one, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "a.safetensors", to="lycoris")
    convert(tmp_path / "a.safetensors", tmp_path / "again", model=linears())
    other = load_adapter(copied(linears(), linears()), tmp_path / "again")
    assert list(adapters(other)) == ["0.up", "0.down"]
    same(effective(other), effective(one))


def test_rotated_inputs_and_unsupported_networks_are_refused(tmp_path):
    options = {"target_modules": ["up"]}
    save_adapter(ours(linears(), "block_diagonal(block=4)", **options), tmp_path / "inputs")
    with pytest.raises(FileError, match=r"0\.up: its inputs are rotated, but LyCORIS rotates"):
        convert(tmp_path / "inputs", tmp_path / "a.safetensors", to="lycoris")
    save_adapter(ours(linears(), "shuffle(block=4)", side="outputs", **options), tmp_path / "other")
    with pytest.raises(FileError, match=r"all 1 \+ log₂.*of a butterfly"):
        convert(tmp_path / "other", tmp_path / "a.safetensors", to="lycoris")
    assert not (tmp_path / "a.safetensors").exists()


def test_importing_lycoris_requires_the_model_for_its_layer_names(tmp_path):
    trained(linears()[0], "boft", tmp_path / "a.safetensors")
    with pytest.raises(FileError, match="underscores instead of dots; give the pretrained model"):
        convert(tmp_path / "a.safetensors", tmp_path / "ours")
    with pytest.raises(FileError, match="do not match layers of this model with a common prefix"):
        convert(tmp_path / "a.safetensors", tmp_path / "ours", model=nn.Sequential(nn.Linear(2, 2)))
    assert not (tmp_path / "ours").exists()


def test_a_file_with_several_methods_is_rejected(tmp_path):
    trained(linears()[0], "boft", tmp_path / "a.safetensors")
    tensors = torch_files.load_file(tmp_path / "a.safetensors")
    tensors["lycoris_x.lora_up.weight"] = torch.zeros(2, 2)
    torch_files.save_file(tensors, tmp_path / "b.safetensors")
    with pytest.raises(
        FileError, match=r"lycoris_x\.lora_up\.weight does not belong to a rotation"
    ):
        convert(tmp_path / "b.safetensors", tmp_path / "ours", model=linears())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_have_the_merged_weights_of_lycoris(tmp_path, dtype):
    trained(linears()[0], "boft", tmp_path / "a.safetensors", rescaled=True, dtype=dtype)
    network, _ = lycoris.create_lycoris_from_weights(1.0, tmp_path / "a.safetensors", linears()[0])
    expected = merged(linears()[0], network)
    convert(tmp_path / "a.safetensors", tmp_path / "ours", model=linears()[0])
    same(merged_weights(linears()[0], tmp_path / "ours"), expected, 2e-6)
