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
from structmat.adapters import adapt, rotate_activations
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


def test_a_layer_is_saved_under_each_of_its_names(tmp_path):
    layer = nn.Linear(128, 8)
    model = rotate_activations(nn.ModuleDict({"a": layer, "b": layer}), grouped_butterfly)
    path = save_paroquant(model, tmp_path / "new" / "inside")
    read = load_paroquant(path)
    assert torch.equal(read["a"].weight, read["b"].weight)
    assert not any("base_layer" in key for key in load_file(path / "model.safetensors"))


@pytest.mark.parametrize("outputs", [128, 256])
def test_transposed_weights_of_transformers_are_saved_as_those_of_linear_layers(tmp_path, outputs):
    conv = pytest.importorskip("transformers.pytorch_utils").Conv1D(outputs, 128)
    nn.init.normal_(conv.weight)
    x = torch.randn(4, 128)
    exact = conv(x)
    model = rotate_activations(nn.Sequential(conv), grouped_butterfly)
    made = load_paroquant(save_paroquant(model, tmp_path / "new"))["0"](x)
    assert (made - exact).norm() < 0.15 * exact.norm()


def test_small_weights_keep_their_relative_precision(tmp_path):
    model = model_of(128, 8)
    errors = []
    for k, factor in enumerate((1.0, 1e-3)):
        model[1].base_layer.weight.data *= factor
        read = load_paroquant(save_paroquant(model, tmp_path / str(k)))["1"]
        exact = model[1].base_layer.weight.detach()
        errors.append(float((read.weight - exact).norm() / exact.norm()))
    assert errors[1] < 1.1 * errors[0] < 0.2


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e6, 3e38])
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_numbers_beyond_float16_are_refused(tmp_path, part, value):
    model = model_of(128, 8)
    getattr(model[1].base_layer, part).data.view(-1)[3] = value
    with pytest.raises(StructmatError, match=f"1: the {part} contains NaN, infinity, or numbers"):
        save_paroquant(model, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_other_tensors_beyond_float16_keep_their_dtype(tmp_path):
    model = model_of(128, 8)
    least = torch.finfo(torch.float32).min
    model.register_buffer("mask", torch.tensor([0.0, least]))
    model.register_buffer("infinite", torch.tensor([0.0, -math.inf]))
    model.register_buffer("count", torch.arange(70_000, 70_002))
    tensors = load_file(save_paroquant(model, tmp_path / "new") / "model.safetensors")
    assert tensors["mask"].tolist() == [0.0, least]
    assert tensors["infinite"].dtype == torch.float16
    assert tensors["count"].tolist() == [70_000, 70_001]


def test_complex_weights_and_adapters_are_refused(tmp_path):
    model = nn.Sequential(nn.Linear(128, 8, dtype=torch.complex64))
    with pytest.raises(StructmatError, match="0: ParoQuant stores real weights"):
        save_paroquant(rotate_activations(model, grouped_butterfly), tmp_path / "new")
    with pytest.raises(StructmatError, match="already has adapters"):
        save_paroquant(adapt(model_of(), "butterfly"), tmp_path / "new")
    with pytest.raises(StructmatError, match="must be a torch"):
        save_paroquant(3, tmp_path / "new")


@pytest.mark.parametrize("kind", [list, np.asarray, torch.Tensor.double, torch.nn.Parameter])
def test_channel_scales_are_any_arrays_of_numbers(tmp_path, kind):
    scales = torch.rand(256, generator=torch.Generator().manual_seed(0)) + 0.5
    path = save_paroquant(model_of(), tmp_path / "new", channel_scales={"1": kind(scales)})
    assert torch.equal(load_paroquant(path)["1"].channel_scales, scales.half().float())


@pytest.mark.parametrize(
    "scales", [2.0, "ones", torch.ones(256, dtype=torch.complex64), torch.full((256,), 1e6)]
)
def test_other_channel_scales_are_refused(tmp_path, scales):
    with pytest.raises(StructmatError, match="channel_scales of 1: they must be 256 positive"):
        save_paroquant(model_of(), tmp_path / "new", channel_scales={"1": scales})


def test_vectors_of_the_wrong_kind_are_refused(tmp_path):
    layer = load_paroquant(save_paroquant(model_of(), tmp_path / "new"))["1"]
    for x, said in (
        (torch.ones(2, 255), r"x of shape \(2, 255\): its last axis must be the width 256"),
        (np.ones(256), "x has type ndarray"),
        (torch.ones(256, dtype=torch.int64), "it must be floating"),
    ):
        with pytest.raises(BlockError, match=said):
            layer(x)
    assert layer(torch.ones(0, 256).bfloat16()).shape == (0, 16)


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(WidthError, match="a network has at most 4,194,304 wires"):
        grouped_butterfly(2**40)
    with pytest.raises(StructmatError, match=r"channel_scales=.*: it must be a dict from layer"):
        save_paroquant(model_of(), tmp_path / "new", channel_scales=torch.ones(256))
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


CHANGES = {
    "rows": lambda v: v.reshape(-1),
    "more axes": lambda v: v[None],
    "scalar": lambda v: v.reshape(-1)[0].clone(),
    "empty": lambda v: v[:0],
    "half the columns": lambda v: v[..., : v.shape[-1] // 2].contiguous(),
    "complex": lambda v: v.to(torch.complex64),
    "boolean": lambda v: v.bool(),
    "float64": lambda v: v.double(),
    "int8": lambda v: v.to(torch.int8),
    "NaN": lambda v: torch.full_like(v, math.nan) if v.is_floating_point() else v.float(),
    "infinity": lambda v: torch.full_like(v, -math.inf) if v.is_floating_point() else -v - 1,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_paroquant(model_of(), tmp_path_factory.mktemp("paroquant") / "new")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "part", ["pairs", "theta", "channel_scales", "qweight", "qzeros", "scales", "bias"]
)
def test_a_tensor_of_another_shape_or_dtype_is_refused(saved, tmp_path, part, change):
    tensors = load_file(saved / "model.safetensors")
    made = CHANGES[change](tensors[f"1.{part}"])
    if (part == "bias" and change == "rows") or (part.startswith("q") and change == "infinity"):
        return  # the tensor is unchanged, or valid with any numbers
    save_file(tensors | {f"1.{part}": made}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    with pytest.raises(FileError, match=r"model\.safetensors: 1\.") as caught:
        load_paroquant(tmp_path)
    assert "\n" not in str(caught.value)


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
