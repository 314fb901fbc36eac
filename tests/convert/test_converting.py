"""Conversion detects formats from files, and writes everything or nothing."""

import json

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from structmat import block_diagonal, butterfly, random_blocks
from structmat.adapters import adapt, adapters, load_adapter, merge, save_adapter
from structmat.convert import convert
from structmat.convert.common_form import rotated
from structmat.convert.gsoft import network as gsoft_network
from structmat.convert.inverse_parametrization import (
    cayley,
    coordinates,
    from_upper,
    logarithms,
    skew,
    upper,
)
from structmat.convert.lora import Limits, truncate
from structmat.convert.subnetworks import place, placed
from structmat.errors import BlockError, FileError, StructmatError
from structmat.linalg.factors import matrix_of
from structmat.networks.network import Network
from structmat.testing import networks, seeds
from tests.convert.models import effective, images, linears, ours, same
from tests.random_modules import randomised

safetensors = pytest.importorskip("safetensors")
files = pytest.importorskip("safetensors.torch")


def saved_model(model, folder, shards=1):
    """Save a model as transformers does: in shards with an index, among other files."""
    folder.mkdir()
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    names = [f"model-{k}-of-{shards}.safetensors" for k in range(shards)]
    home = {key: names[i % shards] for i, key in enumerate(tensors)}
    for name in names:
        part = {key: value for key, value in tensors.items() if home[key] == name}
        files.save_file(part, folder / name)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": home}))
    (folder / "training_args.bin").write_bytes(b"pickle")
    return folder


def all_tensors(folder):
    return {k: v for path in folder.glob("*.safetensors") for k, v in files.load_file(path).items()}


@given(networks(wired=False), st.sampled_from(["inputs", "outputs"]), seeds())
@settings(max_examples=40)
def test_converting_to_merged_equals_merging_in_memory_for_any_network(
    tmp_path_factory, net, side, seed
):
    folder = tmp_path_factory.mktemp("convert")

    def make():
        torch.manual_seed(0)
        layer = nn.Linear(net.width, 3) if side == "inputs" else nn.Linear(3, net.width)
        return nn.Sequential(layer)

    one = randomised(
        adapt(make(), net, target_modules=["0"], side=side, scale=True, bias=True), seed
    )
    save_adapter(one, folder / "ours")
    saved_model(make(), folder / "model")
    convert(folder / "ours", folder / "merged", to="merged", model=folder / "model")
    merged = merge(one, unload=True).state_dict()
    same(all_tensors(folder / "merged"), dict(merged), 2e-6)


SIDES = [
    *((to, "inputs") for to in ("peft-boft", "peft-oft", "gsoft", "kohya")),
    *((to, "outputs") for to in ("lycoris", "comfyui", "kohya")),
]


@st.composite
def parts_of_formats(draw):
    """Draw a format, the rotated side, and a network with some of the stages that it supports.

    The wires of each switch are in any order.
    """
    to, side = draw(st.sampled_from(SIDES))
    size = 2 * draw(st.integers(1, 3))
    if to == "gsoft":
        whole = gsoft_network(size * draw(st.integers(2, 4)), size)
    elif to == "peft-oft" or (to, side) == ("kohya", "outputs"):
        whole = block_diagonal(size * draw(st.integers(1, 4)), size)
    else:
        depth = draw(st.integers(1, 3))
        odd = 1 if to == "lycoris" else draw(st.sampled_from([1, 3]))
        whole = butterfly(odd * size << (depth - 1), size, depth)
    rng = np.random.default_rng(draw(seeds()))
    taken = [stage for stage in whole.stages if rng.random() < 0.7] or [whole.stages[0]]
    stages = []
    for stage in taken:
        switches = [rng.permutation(row) for bank in stage.banks for row in bank.reads]
        kept = [switches[k] for k in rng.permutation(len(switches)) if rng.random() < 0.8]
        stages.append([row.tolist() for row in kept or switches[:1]])
    return to, side, Network.of(whole.width, stages)


@given(parts_of_formats(), seeds())
@settings(max_examples=60)
def test_converting_to_a_format_and_back_preserves_the_weights(tmp_path_factory, drawn, seed):
    to, side, net = drawn
    folder = tmp_path_factory.mktemp("convert")
    shape = (net.width, 3) if side == "inputs" else (3, net.width)

    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(*shape), nn.ReLU())

    scale = to != "peft-oft" and (to, side) != ("kohya", "outputs")
    one = randomised(adapt(make(), net, target_modules=["0"], side=side, scale=scale), seed)
    save_adapter(one, folder / "ours")
    there = folder / ("there" if to.startswith("peft") else "there.safetensors")
    done = convert(folder / "ours", there, to=to)
    assert done.layers["0"]["error"] < 1e-5
    convert(there, folder / "back", model=make())
    same(effective(load_adapter(make(), folder / "back")), effective(one), 5e-6)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merged_model_has_the_same_files_with_merged_weights(tmp_path, shards, dtype):
    make = lambda: images().to(dtype)  # noqa: E731
    saved_model(make(), tmp_path / "model", shards)
    one = ours(make(), "mixed_radix", target_modules=["0", "2"], scale=True)
    save_adapter(one, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "merged", to="merged", model=tmp_path / "model")
    theirs = {path.name for path in (tmp_path / "model").iterdir()}
    assert {path.name for path in (tmp_path / "merged").iterdir()} == theirs - {"training_args.bin"}
    got = all_tensors(tmp_path / "merged")
    assert {value.dtype for value in got.values()} == {dtype}
    exact = {name: adapter.weight for name, adapter in adapters(one.double()).items()}
    for name, weight in exact.items():  # rounded once, from float64
        error = (got[f"{name}.weight"].double() - weight).abs()
        assert bool((error <= torch.finfo(dtype).eps * weight.abs() + 2e-7).all())
    assert torch.equal(got["2.bias"], make()[2].bias)


def test_a_model_in_one_file_is_merged_into_one_file(tmp_path):
    files.save_file(dict(linears().state_dict()), tmp_path / "model.safetensors")
    save_adapter(ours(linears(), "butterfly", target_modules=["up"]), tmp_path / "ours")
    target = tmp_path / "merged.safetensors"
    convert(tmp_path / "ours", target, to="merged", model=tmp_path / "model.safetensors")
    got = files.load_file(target)
    assert not torch.equal(got["0.up.weight"], linears()[0]["up"].weight)
    assert torch.equal(got["0.down.weight"], linears()[0]["down"].weight)


def test_a_model_in_one_file_is_not_merged_into_a_directory(tmp_path):
    saved(tmp_path / "ours", target_modules=["up"])
    model = tmp_path / "model.safetensors"
    files.save_file(linears().state_dict(), model)
    with pytest.raises(FileError, match=r"like the pretrained one, is one file; its name must end"):
        convert(tmp_path / "ours", tmp_path / "out", to="merged", model=model)
    assert not (tmp_path / "out").exists()


def test_names_match_with_or_without_a_base_model_prefix(tmp_path):
    inner = linears()
    wrapped = nn.ModuleDict({"bert": inner, "head": nn.Linear(2, 2)})
    saved_model(wrapped, tmp_path / "model")
    save_adapter(ours(linears(), "butterfly", target_modules=["up", "down"]), tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "merged", to="merged", model=tmp_path / "model")
    expected = effective(load_adapter(linears(), tmp_path / "ours"))
    got = all_tensors(tmp_path / "merged")
    same({name: got[f"bert.{name}.weight"] for name in expected}, expected)
    saved_model(inner, tmp_path / "base")
    other = ours(wrapped, "butterfly", target_modules=["up", "down"])
    save_adapter(other, tmp_path / "of the whole")
    convert(tmp_path / "of the whole", tmp_path / "b", to="merged", model=tmp_path / "base")
    expected = {name.removeprefix("bert."): w for name, w in effective(other).items()}
    got = all_tensors(tmp_path / "b")
    same({name: got[f"{name}.weight"] for name in expected}, expected)


def test_statistics_and_fully_trained_modules_are_merged(tmp_path):
    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))

    saved_model(make(), tmp_path / "model")
    one = ours(make(), "butterfly", target_modules=["0"], trainable=["2"])
    one.train()(torch.randn(9, 8))
    save_adapter(one, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "merged", to="merged", model=tmp_path / "model")
    same(all_tensors(tmp_path / "merged"), dict(merge(one, unload=True).state_dict()))
    with pytest.raises(FileError, match="1 has running statistics that training changed"):
        convert(tmp_path / "ours", tmp_path / "a", to="lora", rank=2, model=make())


def test_a_head_that_the_base_model_lacks_is_added(tmp_path):
    one = ours(linears(), "butterfly", target_modules=["up"], trainable=["1"])
    save_adapter(one, tmp_path / "ours")
    base = linears()
    del base[1]
    saved_model(base, tmp_path / "model", 2)
    done = convert(tmp_path / "ours", tmp_path / "a", to="merged", model=tmp_path / "model")
    assert done.notes == [
        "not copied, because they contain the old weights, training state or an adapter:"
        " training_args.bin",
        "added, because the pretrained model lacks them: 1.bias, 1.weight",
    ]
    assert torch.equal(all_tensors(tmp_path / "a")["1.weight"], one[1].weight)
    index = json.loads((tmp_path / "a" / "model.safetensors.index.json").read_text())
    assert index["weight_map"]["1.weight"] == "model-1-of-2.safetensors"


@pytest.mark.parametrize("inside", ["", "model."])
@pytest.mark.parametrize("options", [{}, {"bias": True, "scale": True}])
def test_a_layer_with_two_names_is_merged_under_both(tmp_path, inside, options):
    def make():
        torch.manual_seed(0)
        shared = nn.Linear(8, 8)
        return nn.ModuleDict({"a": shared, "other": nn.Linear(8, 8), "b": shared})

    one = ours(make(), "monarch", target_modules=["a"], **options)
    save_adapter(one, tmp_path / "ours")
    base = {inside + key: value.clone() for key, value in make().state_dict().items()}
    files.save_file(base, tmp_path / "base.safetensors")
    convert(
        tmp_path / "ours",
        tmp_path / "merged.safetensors",
        to="merged",
        model=tmp_path / "base.safetensors",
    )
    want = {inside + key: value for key, value in merge(one, unload=True).state_dict().items()}
    same(files.load_file(tmp_path / "merged.safetensors"), want)


# Helper functions -----------------------------------------------------------------------------


@given(networks(wired=False), seeds())
def test_rotated_equals_the_dense_product(net, seed):
    arrays = random_blocks(net, rng=seed)
    tensors = [torch.from_numpy(block) for block in arrays]
    got = rotated(net, tensors, torch.eye(net.width, dtype=torch.float64)).numpy()
    assert np.abs(got - matrix_of(net, arrays)).max(initial=0.0) < 1e-12


@given(networks(wired=False), seeds())
def test_placing_a_network_in_another_preserves_the_matrix(net, seed):
    assume(net.width > 1)
    arrays = random_blocks(net, rng=seed)
    tensors = [torch.from_numpy(block) for block in arrays]
    pairs = list(range(net.width - net.width % 2))
    first = Network.of(net.width, [[pairs[k : k + 2] for k in pairs[::2]]])
    order = np.random.default_rng(seed).permutation(net.width).tolist()
    for inside in (Network.of(net.width, [[order]]), first.then(Network.of(net.width, [[order]]))):
        got = matrix_of(inside, [b.numpy() for b in placed(net, tensors, inside)])
        assert np.abs(got - matrix_of(net, arrays)).max() < 1e-12


@given(st.integers(1, 4), st.sampled_from([2, 4, 8]), seeds())
def test_parts_of_a_butterfly_are_located_in_it(depth, block, seed):
    whole = butterfly(64, block=block, depth=depth)
    chosen = np.random.default_rng(seed).random(depth) < 0.5
    part = Network(64, [stage for stage, take in zip(whole.stages, chosen, strict=True) if take])
    assert place(part, whole) == tuple(np.flatnonzero(chosen))
    if depth > 1 and block < 8:
        assert place(whole[::-1], whole) is None


@given(st.integers(1, 5), st.integers(2, 6), seeds(), st.floats(0.01, 3.0))
def test_coordinates_and_logarithms_invert_their_parametrizations(count, radix, seed, size):
    q = skew(torch.from_numpy(np.random.default_rng(seed).normal(size=(count, radix, radix))))
    q = size * q
    blocks = cayley(q)
    for dtype in (torch.float32, torch.float64):
        far = 1 + float(q.abs().max()) ** 2
        found = coordinates(blocks, dtype)
        assert found.q.dtype == dtype
        assert (found.q.double() - q).abs().max() <= 50 * radix * far * torch.finfo(dtype).eps
        assert found.error <= 50 * radix * torch.finfo(dtype).eps
        again = logarithms(blocks, dtype)
        assert again.error <= 50 * radix * torch.finfo(dtype).eps
        assert (again.q.mT == -again.q).all()
        assert torch.linalg.eigvals(again.q.double()).imag.abs().max() <= np.pi + 1e-6
    assert torch.equal(from_upper(upper(q)), q)


@given(st.integers(1, 3), st.integers(1, 3), seeds())
def test_a_rotation_by_180_degrees_has_a_logarithm_but_no_cayley_transform(halves, rest, seed):
    size = 2 * halves + rest
    basis, _ = torch.linalg.qr(
        torch.from_numpy(np.random.default_rng(seed).normal(size=(size, size)))
    )
    signs = torch.tensor([-1.0] * 2 * halves + [1.0] * rest, dtype=torch.float64)
    block = (basis * signs @ basis.T)[None]
    assert logarithms(block, torch.float64).error < 1e-12
    with pytest.raises(BlockError, match="eigenvalue −1"):
        coordinates(block, torch.float64)
    block[0] = basis * torch.tensor([-1.0] + [1.0] * (size - 1)) @ basis.T
    with pytest.raises(BlockError, match="determinant −1"):
        logarithms(block, torch.float64)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 8), seeds())
def test_truncate_returns_the_best_approximation_of_the_rank(rows, columns, rank, seed):
    matrix = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, columns)))
    found = truncate(matrix, torch.float64, Limits(rank))
    values = torch.linalg.svdvals(matrix)
    best = float(values[rank:].norm() / values.norm())
    assert found.error == pytest.approx(best, abs=1e-7)
    assert found.b.shape == (rows, min(rank, rows, columns))
    torch.testing.assert_close(found.b.norm(dim=0), found.a.norm(dim=1))


def test_truncating_a_zero_matrix_yields_zero_factors():
    found = truncate(torch.zeros(3, 2, dtype=torch.float64), torch.float64, Limits(2))
    assert found.error == 0.0
    assert not found.a.any()


# Invalid input --------------------------------------------------------------------------------


def saved(folder, **options):
    save_adapter(ours(linears(), "butterfly(block=4, depth=2)", **options), folder)
    return folder


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"to": "boft"},
            StructmatError,
            "to='boft': no such format; did you mean gsoft",
        ),
        ({"to": "lora"}, StructmatError, "lora needs a rank"),
        ({"to": "peft-oft", "rank": 2}, StructmatError, "and no other format takes one"),
        ({"to": ["lora"]}, StructmatError, "no such format"),
        ({"to": "lora", "rank": 0}, StructmatError, "rank=0: rank must be an integer ≥ 1"),
        ({"to": "lora", "rank": 10**12}, StructmatError, "it must be at most 65536"),
        (
            {"to": "lora", "rank": 2, "prefix": "unet.", "model": linears()},
            StructmatError,
            "not end with a dot",
        ),
        ({"to": "lora", "rank": 2}, StructmatError, "needs the weights; give the pretrained"),
        ({"to": "merged"}, StructmatError, "needs the weights; give the pretrained"),
        (
            {"to": "merged", "model": nn.Linear(2, 2)},
            StructmatError,
            "call load_adapter and then merge",
        ),
        (
            {"to": "gsoft", "prefix": "unet"},
            StructmatError,
            "prefix='unet': it must be text that does not end with a dot, and only lora",
        ),
        ({"to": "lycoris"}, FileError, r"one file; its name must end in \.safetensors"),
        ({"to": "structmat"}, FileError, "already in structmat's format"),
        ({"to": "peft-boft", "nearest": 1}, StructmatError, "nearest=1: nearest must be True"),
        ({"to": "peft-boft", "model": nn.Linear(2, 2)}, FileError, r"0\.up has no weight in this"),
        ({"to": "peft-boft", "model": linears(widths=(32, 48))}, FileError, "the model has"),
        ({"to": "peft-boft", "model": "missing"}, FileError, "missing contains no \\*.safetensors"),
    ],
)
def test_invalid_options_are_refused(tmp_path, options, error, message):
    saved(tmp_path / "ours", target_modules=["up"])
    with pytest.raises(error, match=message):
        convert(tmp_path / "ours", tmp_path / "out", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_the_index_selects_the_weight_files_of_a_model_directory(tmp_path):
    """Directories may also contain adapters, or the same weights in several formats."""
    saved_model(linears(), tmp_path / "model", 2)
    other = {name: value + 1 for name, value in linears().state_dict().items()}
    files.save_file(other, tmp_path / "model" / "consolidated.safetensors")
    files.save_file(other, tmp_path / "model" / "adapter_model.safetensors")
    saved(tmp_path / "ours", target_modules=["up"])
    options = {"to": "merged", "model": tmp_path / "model"}
    convert(tmp_path / "ours", tmp_path / "merged", **options)
    names = {path.name for path in (tmp_path / "merged").glob("*.safetensors")}
    assert names == {"model-0-of-2.safetensors", "model-1-of-2.safetensors"}
    assert torch.equal(all_tensors(tmp_path / "merged")["1.bias"], linears()[1].bias)
    (tmp_path / "model" / "model.safetensors.index.json").unlink()
    with pytest.raises(FileError, match=r"is in consolidated.* and in .*; give one of them"):
        convert(tmp_path / "ours", tmp_path / "again", **options)
    files.save_file(dict(linears().state_dict()), tmp_path / "model" / "model.safetensors")
    convert(tmp_path / "ours", tmp_path / "again", **options)
    assert [p.name for p in (tmp_path / "again").glob("*.safetensors")] == ["model.safetensors"]


def test_a_single_lora_file_has_diffusers_names(tmp_path):
    one = ours(images(), "mixed_radix", target_modules=["0", "2"])
    save_adapter(one, tmp_path / "ours")
    options = {"to": "lora", "rank": 7, "model": images()}
    convert(tmp_path / "ours", tmp_path / "lora.safetensors", prefix="unet", **options)
    got = files.load_file(tmp_path / "lora.safetensors")
    assert {key: tuple(value.shape) for key, value in got.items()} == {
        "unet.0.lora_A.weight": (7, 4, 3, 3),
        "unet.0.lora_B.weight": (6, 7, 1, 1),  # of six channels, padded
        "unet.2.lora_A.weight": (7, 96),
        "unet.2.lora_B.weight": (5, 7),
    }
    for name, weight in effective(one).items():
        b, a = (got[f"unet.{name}.lora_{part}.weight"].flatten(1) for part in "BA")
        change = (weight - images().get_submodule(name).weight.detach()).flatten(1)
        torch.testing.assert_close(b @ a, change, rtol=1e-5, atol=1e-6)
    with pytest.raises(FileError, match="needs a prefix, as in --prefix transformer"):
        convert(tmp_path / "ours", tmp_path / "other.safetensors", **options)
    save_adapter(ours(images(), "mixed_radix", bias=True), tmp_path / "biased")
    with pytest.raises(FileError, match="a single LoRA file supports neither biases"):
        convert(tmp_path / "biased", tmp_path / "b.safetensors", prefix="", **options)


def test_a_grouped_convolution_can_be_merged_but_not_converted_to_lora(tmp_path):
    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(6, 9, (2, 3), groups=3))

    one = ours(make(), "mixed_radix", target_modules=["0"], scale=True)
    save_adapter(one, tmp_path / "ours")
    saved_model(make(), tmp_path / "model")
    options = {"model": tmp_path / "model"}
    convert(tmp_path / "ours", tmp_path / "merged", to="merged", **options)
    same({"0": all_tensors(tmp_path / "merged")["0.weight"]}, effective(one))
    with pytest.raises(FileError, match="LoRA of a convolution with groups"):
        convert(tmp_path / "ours", tmp_path / "lora", to="lora", rank=2, **options)
    with pytest.raises(FileError, match="PEFT's BOFT does not support convolutions with groups"):
        convert(tmp_path / "ours", tmp_path / "boft", to="peft-boft")
    assert not (tmp_path / "lora").exists()


def test_existing_files_are_not_overwritten(tmp_path):
    saved(tmp_path / "ours", target_modules=["up"])
    (tmp_path / "out").mkdir()
    convert(tmp_path / "ours", tmp_path / "out", to="peft-boft")  # an empty directory is accepted
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(FileError, match="already exists; remove it first"):
        convert(tmp_path / "ours", tmp_path / "out", to="peft-boft")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    with pytest.raises(FileError, match="there is no directory"):
        convert(tmp_path / "ours", tmp_path / "no" / "out", to="peft-boft")


def write_config(folder, config, name="adapter_config.json"):
    folder.mkdir()
    (folder / name).write_text(config)
    return folder


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            '{"peft_type": "LORA"}',
            "PEFT's LORA is not supported; supported methods are BOFT, OFT, HRA, PSOFT, ROAD,",
        ),
        ('{"peft_type": "BO', "adapter_config.json is truncated or not JSON"),
        ("[]", "expected a JSON object"),
        ('{"peft_type": "BOFT"}', "adapter_model.safetensors: No such file"),
    ],
)
def test_an_unrelated_directory_is_rejected(tmp_path, config, message):
    folder = write_config(tmp_path / "in", config)
    with pytest.raises(FileError, match=message):
        convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unrelated_files_are_rejected(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=r"neither adapter\.json .written by structmat. nor"):
        convert(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(FileError, match="no such file or directory"):
        convert(tmp_path / "nothing", tmp_path / "out")
    files.save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(FileError, match=r"contains neither \.oft_blocks nor .* do, but a$"):
        convert(tmp_path / "a.safetensors", tmp_path / "out")
    configuration = {"lora_adapter_metadata": '{"peft_type": "OFT"}'}
    files.save_file({}, tmp_path / "none.safetensors", configuration)
    with pytest.raises(FileError, match=r"none\.safetensors contains no tensors; give a file"):
        convert(tmp_path / "none.safetensors", tmp_path / "out")
    (tmp_path / "b.safetensors").write_bytes(b"no")
    with pytest.raises(FileError, match="is truncated or not a safetensors file"):
        convert(tmp_path / "b.safetensors", tmp_path / "out")
    folder = write_config(tmp_path / "old", '{"peft_type": "OFT"}')
    (folder / "adapter_model.bin").touch()
    with pytest.raises(FileError, match=r"adapter_model\.bin is a pickle; save it as"):
        convert(folder, tmp_path / "out")
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(FileError, match=r"give the directory, because adapter_config\.json"):
        convert(tmp_path / "adapter_model.safetensors", tmp_path / "out")


@pytest.mark.parametrize(
    ("method", "tensors", "message"),
    [
        ("BOFT", {"0.boft_R": (1, 4, 4, 4)}, "boft_s is missing"),
        ("BOFT", {"0.boft_R": (4, 4, 4, 4), "0.boft_s": (2, 1)}, "is not a block butterfly"),
        ("BOFT", {"0.boft_s": (2, 1)}, "boft_R with four axes is missing"),
        (
            "OFT",
            {"0.oft_R.weight": (4, 5)},
            r"0: 5 numbers for a block: the number must be r\(r−1\)/2",
        ),
        ("OFT", {"0.oft_r": (4, 4, 4)}, "PEFT before 0.16 wrote this file"),
        ("OFT", {"0.oft_embedding_R.weight": (4, 5)}, "0: 5 numbers for a block"),
        ("PSOFT", {"0.psoft_R.weight": (6,)}, "give the pretrained model"),
        ("ROAD", {"0.road_theta": (4,)}, "give the pretrained model"),
        ("OFT", {"0.oft_R.weight": (4, 6)}, "does not specify the shape of this layer's weight"),
        ("OFT", {"0.lora_A.weight": (4, 6)}, "has no oft_R.weight or .*; it has 0.lora_A.weight"),
        ("HRA", {"0.hra_u": (4,)}, "it must be \\(inputs, reflections\\)"),
    ],
)
def test_malformed_tensors_are_rejected(tmp_path, method, tensors, message):
    folder = write_config(tmp_path / "in", json.dumps({"peft_type": method}))
    made = {name: torch.zeros(shape) for name, shape in tensors.items()}
    files.save_file(made, folder / "adapter_model.safetensors")
    with pytest.raises(FileError, match=message):
        convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_quantised_weight_is_refused(tmp_path):
    saved(tmp_path / "ours", target_modules=["up"])
    model = {f"{k}": v.to(torch.int8) for k, v in linears().state_dict().items()}
    files.save_file(model, tmp_path / "model.safetensors")
    with pytest.raises(
        FileError, match=r"a weight of dtype torch\.int8 cannot be rotated; merge before"
    ):
        convert(
            tmp_path / "ours",
            tmp_path / "a.safetensors",
            to="merged",
            model=tmp_path / "model.safetensors",
        )
    assert not (tmp_path / "a.safetensors").exists()


def test_a_merged_weight_that_overflows_is_refused(tmp_path):
    one = ours(linears(), "butterfly", target_modules=["up"], scale=True)
    with torch.no_grad():
        one[0]["up"].scale.fill_(1e6)
    save_adapter(one, tmp_path / "ours")
    saved_model(linears().half(), tmp_path / "model")
    with pytest.raises(FileError, match=r"0\.up: the merged weight contains NaN or infinity"):
        convert(tmp_path / "ours", tmp_path / "out", to="merged", model=tmp_path / "model")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["n" * 300, "a\0b"])
def test_impossible_names_are_refused(tmp_path, name):
    saved(tmp_path / "ours", target_modules=["up"])
    for source, target, model in (
        (tmp_path / "ours", tmp_path / name, None),
        (tmp_path / name, tmp_path / "out", None),
        (tmp_path / "ours", tmp_path / "out", tmp_path / name),
    ):
        with pytest.raises(FileError, match="choose another name"):
            convert(source, target, to="peft-boft", model=model)
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


@pytest.mark.parametrize("exists", [False, True])
def test_links_to_directories_are_kept(tmp_path, exists):
    saved(tmp_path / "ours", target_modules=["up"])
    if exists:
        (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    convert(tmp_path / "ours", tmp_path / "link", to="peft-boft")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "adapter_model.safetensors").is_file()


def test_an_adapter_with_nans_is_refused(tmp_path):
    folder = write_config(tmp_path / "in", '{"peft_type": "BOFT"}')
    x = torch.full((1, 2, 2, 2), torch.nan)
    files.save_file(
        {"0.boft_R": x, "0.boft_s": torch.ones(3, 1)}, folder / "adapter_model.safetensors"
    )
    with pytest.raises(FileError, match=r"0\.boft_R contains NaN or infinity"):
        convert(folder, tmp_path / "out")


def test_a_failed_write_leaves_no_files(tmp_path, monkeypatch):
    saved(tmp_path / "ours", target_modules=["up"])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("structmat.convert.peft_methods.peft_files.write_json", full)
    with pytest.raises(FileError, match=r"out: cannot be written .No space left on device"):
        convert(tmp_path / "ours", tmp_path / "out", to="peft-boft")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_a_full_disk_is_reported_with_the_name_of_the_target(tmp_path, monkeypatch):
    saved_model(linears(), tmp_path / "model")
    saved(tmp_path / "ours", target_modules=["up"])

    def full(*_):
        raise safetensors.SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(
        FileError, match=r"out: cannot be written .model-0-of-1.safetensors: No space"
    ):
        convert(tmp_path / "ours", tmp_path / "out", to="merged", model=tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "ours"]


def test_names_of_compiled_blocks_are_recognised(tmp_path):
    """PEFT's files contain `_orig_mod` if a part of the model was compiled by itself."""
    saved(tmp_path / "ours", target_modules=["up"])
    convert(tmp_path / "ours", tmp_path / "boft", to="peft-boft")
    convert(tmp_path / "boft", tmp_path / "expected", model=linears())
    path = tmp_path / "boft" / "adapter_model.safetensors"
    tensors = files.load_file(path)
    files.save_file({key.replace(".up.", "._orig_mod.up."): v for key, v in tensors.items()}, path)
    convert(tmp_path / "boft", tmp_path / "found", model=linears())
    one, other = (load_adapter(linears(), tmp_path / name) for name in ("found", "expected"))
    same(effective(one), effective(other))


def test_an_adapter_of_a_bare_layer_is_refused(tmp_path):
    one = ours(nn.Linear(8, 4), "butterfly", target_modules=".*")
    save_adapter(one, tmp_path / "ours")
    with pytest.raises(FileError, match="belongs to a single layer"):
        convert(tmp_path / "ours", tmp_path / "a", to="lora", rank=2, model=nn.Linear(8, 4))
    with pytest.raises(FileError, match="the model is a single layer"):
        convert(tmp_path / "ours", tmp_path / "a", to="peft-boft")


def test_the_result_has_text_and_json(tmp_path):
    done = convert(saved(tmp_path / "ours", target_modules=["up"]), tmp_path / "a", to="peft-boft")
    text = str(done)
    assert "structmat → PEFT's BOFT" in text
    assert "0.up   width 32, depth 2, blocks of 4  inputs" in text
    assert "note: PEFT reads 2 factors only if its CUDA extension compiles" in text
    assert json.loads(json.dumps(done.to_dict()))["layers"]["0.up"]["error"] < 1e-6
