"""ParoQuant checkpoints, against the equations of the format written out in loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

import structmat as sm
from structmat.adapters import rotate_activations
from structmat.convert.paroquant import (
    _packed,
    _unpacked,
    grouped_butterfly,
    load_paroquant,
    save_paroquant,
)
from structmat.errors import BlockError, FileError, StructmatError, WidthError


def model_of(width=256, out=16, rng=0):
    torch.manual_seed(rng)
    model = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out), nn.Linear(out, 3))
    return rotate_activations(model, lambda d: grouped_butterfly(d, rng=rng), target_modules=["1"])


def by_the_equations(tensors, name, x):
    """Return the outputs of a layer for one vector, by loops over the tensors of the file."""
    pairs, theta = tensors[f"{name}.pairs"], tensors[f"{name}.theta"].double()
    width = pairs.shape[1]
    y = x.double() * tensors[f"{name}.channel_scales"][0].double()
    for stage in range(len(pairs)):
        for pair in range(width // 2):
            group = 2 * pair // 128 * 128
            i, j = (group + int(k) for k in pairs[stage, 2 * pair : 2 * pair + 2])
            c, s = math.cos(theta[stage, pair]), math.sin(theta[stage, pair])
            y[i], y[j] = c * y[i] + s * y[j], c * y[j] - s * y[i]
    scales = tensors[f"{name}.scales"].double()
    made = tensors[f"{name}.bias"].double()
    for output in range(scales.shape[1]):
        word, nibble = output // 8, (0, 2, 4, 6, 1, 3, 5, 7).index(output % 8)
        for wire in range(width):
            q, z = (
                int(tensors[f"{name}.{part}"][row, word]) >> 4 * nibble & 15
                for part, row in (("qweight", wire), ("qzeros", wire // 128))
            )
            made[output] += (q - z) * scales[wire // 128, output] * y[wire]
    return made


@given(st.integers(0, 2**32 - 1))
def test_unpacking_inverts_packing(seed):
    values = torch.from_numpy(np.random.default_rng(seed).integers(0, 16, (3, 16)))
    packed = _packed(values)
    assert packed.dtype == torch.int32
    assert packed.shape == (3, 2)
    assert torch.equal(_unpacked(packed), values)


def test_a_loaded_checkpoint_equals_the_model_up_to_the_rounding_of_weights(tmp_path):
    model = model_of()
    scales = torch.rand(256) + 0.5
    path = save_paroquant(model, tmp_path / "new", channel_scales={"1": scales})
    x = torch.randn(256)
    read = load_paroquant(path)["1"]
    tensors = load_file(path / "model.safetensors")
    torch.testing.assert_close(
        read(x).double(), by_the_equations(tensors, "1", x), atol=1e-4, rtol=0
    )
    exact = model[1].weight.double() @ torch.eye(256).double()
    made = read(torch.eye(256, dtype=torch.float64)).T - read.bias.double()[:, None]
    step = (read.weight.amax() - read.weight.amin()) / 15
    assert (made - exact).abs().max() < 8 * step
    assert (made - exact).norm() < 0.15 * exact.norm()
    assert set(tensors) >= {"0.weight", "0.bias", "2.weight", "2.bias"}
    torch.testing.assert_close(tensors["2.weight"].float(), model[2].weight, atol=1e-3, rtol=0)


def test_saving_a_quantised_weight_again_does_not_change_it(tmp_path):
    """Zeros and scales are those of the file, so the second file equals the first."""
    model = model_of(128, 8)
    first = load_paroquant(save_paroquant(model, tmp_path / "a"))["1"]
    again = nn.Sequential(nn.Linear(128, 8))
    again = rotate_activations(again, rotations={"0": first.rotation}, fold=False)
    again[0].base_layer.weight = nn.Parameter(first.weight)
    second = load_paroquant(save_paroquant(again, tmp_path / "b"))["0"]
    torch.testing.assert_close(second.weight, first.weight, atol=2e-3, rtol=0)
    assert second.rotation.network == first.rotation.network


@given(st.integers(1, 3), st.integers(0, 100))
def test_a_grouped_butterfly_spreads_inputs_evenly_over_groups(groups, seed):
    matrix = grouped_butterfly(128 * groups, rng=seed).matrix()
    expected = np.kron(np.eye(groups), np.full((128, 128), 1 / 128))
    np.testing.assert_allclose(matrix**2, expected, atol=1e-15)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(128 * groups), atol=1e-14)


def test_other_networks_of_pairs_are_saved_with_idle_wires_and_fewer_stages(tmp_path):
    net = sm.Network.of(256, [[(0, 5), (130, 128)], [(5, 127)]])
    rotation = sm.Rotation(net, sm.random_blocks(net, rng=1))
    model = rotate_activations(nn.Sequential(nn.Linear(256, 8)), lambda _: rotation)
    read = load_paroquant(save_paroquant(model, tmp_path / "new"))["0"]
    np.testing.assert_allclose(read.rotation.matrix(), rotation.matrix(), atol=2e-3)


@pytest.mark.parametrize(
    ("width", "outputs", "options", "said"),
    [
        (128, 8, {}, "stage 0 does not consist of pairs"),
        (128, 8, {"block": 2}, "stage 0 has a reflection"),
        (192, 8, {}, "192 inputs and 8 outputs"),
        (128, 12, {}, "128 inputs and 12 outputs"),
    ],
)
def test_layers_that_the_format_cannot_store_are_refused(tmp_path, width, outputs, options, said):
    model = nn.Sequential(nn.Linear(width, outputs))
    model = rotate_activations(model, lambda d: sm.rotator(d, **options))
    with pytest.raises(StructmatError, match=f"0: {said}"):
        save_paroquant(model, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_pair_across_groups_and_too_many_stages_are_refused(tmp_path):
    for wires, said in (([[(0, 128)]], "across groups"), ([[(0, 1)]] * 9, "9 stages")):
        net = sm.Network.of(256, wires)
        rotation = sm.Rotation(net, sm.identity_blocks(net))
        model = rotate_activations(nn.Sequential(nn.Linear(256, 8)), lambda _, r=rotation: r)
        with pytest.raises(BlockError, match=said):
            save_paroquant(model, tmp_path / "new")


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(WidthError, match="width=200: ParoQuant rotates groups of 128"):
        grouped_butterfly(200)
    with pytest.raises(StructmatError, match="no activations are rotated"):
        save_paroquant(nn.Sequential(nn.Linear(128, 8)), tmp_path / "new")
    with pytest.raises(StructmatError, match="'7' is not a layer with a rotation"):
        save_paroquant(model_of(), tmp_path / "new", channel_scales={"7": torch.ones(256)})
    with pytest.raises(StructmatError, match="256 positive numbers"):
        save_paroquant(model_of(), tmp_path / "new", channel_scales={"1": torch.zeros(256)})
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="give a new directory"):
        save_paroquant(model_of(), tmp_path)


def test_damaged_files_are_refused(tmp_path):
    path = save_paroquant(model_of(128, 8), tmp_path / "new")
    tensors = load_file(path / "model.safetensors")
    for key, value, said in (
        ("1.theta", tensors["1.theta"][:2], "theta has shape"),
        ("1.pairs", torch.zeros_like(tensors["1.pairs"]), "must be disjoint"),
    ):
        save_file(tensors | {key: value}, path / "model.safetensors")
        with pytest.raises(FileError, match=said):
            load_paroquant(path)
    save_file({k: v for k, v in tensors.items() if k != "1.scales"}, path / "model.safetensors")
    with pytest.raises(FileError, match=r"1\.scales is missing"):
        load_paroquant(path)
    (path / "config.json").write_text("{}")
    with pytest.raises(FileError, match="quant_method=None"):
        load_paroquant(path)
