"""Low-precision dtypes are read exactly; unsupported dtypes are rejected by name."""

import copy

import pytest
import torch
from torch import nn

from structmat import butterfly
from structmat.adapters import adapt, load_adapter, save_adapter
from structmat.adapters.layouts import ROTATED
from structmat.audit import audit
from structmat.convert import convert
from structmat.errors import BlockError, FileError, StructmatError
from structmat.nn import Orthogonal
from tests.convert.models import effective, linears, ours, same

files = pytest.importorskip("safetensors.torch")

EIGHT_BITS = [
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
]
OTHERS = [torch.float8_e8m0fnu, torch.float4_e2m1fn_x2]
NO_NUMBERS = [torch.int8, torch.uint8, torch.int32, torch.bool, torch.complex64]
REFUSED = EIGHT_BITS + OTHERS + NO_NUMBERS


def held(shape, dtype):
    """Return a tensor of any dtype, including those that torch supports only partly."""
    whole = torch.zeros(shape, dtype=torch.uint8)
    return whole.view(dtype) if dtype.itemsize == 1 else whole.to(dtype)


def layers():
    return {
        "linear": nn.Linear(8, 8),
        "embedding": nn.Embedding(8, 8),
        "convolution": nn.Conv1d(8, 8, 1),
    }


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (kind, dtype)
        for kind in layers()
        for dtype in REFUSED
        if (kind, dtype) != ("linear", torch.complex64)  # rotated by unitary matrices
    ],
)
def test_an_unsupported_weight_is_rejected_before_anything_changes(kind, dtype):
    model = nn.ModuleDict({"first": nn.Linear(8, 8), "second": layers()[kind]})
    shape = model["second"].weight.shape
    model["second"].weight = nn.Parameter(held(shape, dtype), requires_grad=False)
    before = {name: type(module) for name, module in model.named_modules()}
    with pytest.raises(
        StructmatError, match=rf"second: a weight of type Parameter and dtype {dtype}"
    ):
        adapt(model, "butterfly", target_modules=["first", "second"])
    assert {name: type(module) for name, module in model.named_modules()} == before
    assert all(p.requires_grad for p in model["first"].parameters())
    peft = pytest.importorskip("peft")
    from structmat.peft import StructmatConfig

    config = StructmatConfig(topology="butterfly", target_modules=["first", "second"])
    with pytest.raises(
        StructmatError, match=rf"second: a weight of type Parameter and dtype {dtype}"
    ):
        peft.get_peft_model(model, config)
    assert {name: type(module) for name, module in model.named_modules()} == before


@pytest.mark.parametrize("dtype", EIGHT_BITS + OTHERS)
def test_low_precision_generators_and_activations_are_rejected(dtype):
    with pytest.raises(BlockError, match=f"dtype={dtype}: .* at least 16 bits"):
        Orthogonal(butterfly(4), dtype=dtype)
    with pytest.raises(BlockError, match=f"dtype={dtype}: .* at least 16 bits"):
        Orthogonal(butterfly(4))(held((2, 4), dtype))


@pytest.mark.parametrize("dtype", ROTATED)
def test_weights_of_any_float_dtype_are_rotated(dtype):
    model = adapt(nn.Sequential(nn.Linear(8, 4)).to(dtype), "butterfly")
    assert model(torch.ones(2, 8, dtype=dtype)).dtype == dtype


def lycoris(folder, values):
    path = folder / "lycoris.safetensors"
    files.save_file(
        {"lora_unet_a.oft_blocks": values, "lora_unet_a.alpha": torch.tensor(0.0)}, path
    )
    return path


def one_layer():
    torch.manual_seed(0)
    return nn.ModuleDict({"a": nn.Linear(32, 32)})


@pytest.mark.parametrize("dtype", EIGHT_BITS)
def test_a_low_precision_adapter_has_the_same_values(tmp_path, dtype):
    torch.manual_seed(0)
    values = torch.randn(8, 4, 4).to(dtype)
    convert(lycoris(tmp_path, values), tmp_path / "narrow", model=one_layer())
    convert(lycoris(tmp_path, values.float()), tmp_path / "wide", model=one_layer())
    narrow, wide = (
        effective(load_adapter(one_layer(), tmp_path / name)) for name in ("narrow", "wide")
    )
    same(narrow, wide)
    assert not torch.equal(narrow["a"], one_layer()["a"].weight)


@pytest.mark.parametrize("dtype", OTHERS + NO_NUMBERS)
def test_an_adapter_of_unsupported_dtype_is_rejected_by_name(tmp_path, dtype):
    path = lycoris(tmp_path, held((8, 4, 4), dtype))
    with pytest.raises(FileError, match=f"lora_unet_a.oft_blocks.*{dtype}"):
        convert(path, tmp_path / "out", model=one_layer())
    folder = tmp_path / "peft"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "HRA"}')
    files.save_file(
        {"base_model.model.a.hra_u": held((32, 4), dtype)}, folder / "adapter_model.safetensors"
    )
    with pytest.raises(FileError, match=f"a.hra_u.*{dtype}"):
        convert(folder, tmp_path / "out", model=one_layer())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", REFUSED)
def test_a_model_with_unsupported_weights_is_rejected_by_name(tmp_path, dtype):
    save_adapter(ours(linears(), "butterfly", target_modules=["up"]), tmp_path / "ours")
    state = dict(linears().state_dict())
    state["0.up.weight"] = held(state["0.up.weight"].shape, dtype)
    path = tmp_path / "model.safetensors"
    try:
        files.save_file(state, path)
    except Exception:  # what this version of safetensors does not write
        pytest.skip(f"safetensors writes no {dtype}")
    packed = dtype == torch.float4_e2m1fn_x2  # of which safetensors counts each
    said = (
        r"0\.up: the file expects a weight" if packed else rf"0\.up\S*: a weight of dtype {dtype}"
    )
    out = tmp_path / "out.safetensors"
    for options in ({"to": "merged"}, {"to": "lora", "rank": 2, "prefix": ""}):
        with pytest.raises(FileError, match=said):
            convert(tmp_path / "ours", out, model=path, **options)
        assert not out.exists()
    with pytest.raises(FileError, match=said):
        audit(tmp_path / "ours", model=path)


def test_rounding_and_overflow_are_reported(tmp_path):
    model = copy.deepcopy(linears()).half()
    files.save_file(dict(model.state_dict()), tmp_path / "model.safetensors")
    options = {"to": "merged", "model": tmp_path / "model.safetensors"}
    one = ours(linears(), "butterfly", target_modules=["up"], trainable=["1"])
    save_adapter(one, tmp_path / "ours")
    done = convert(tmp_path / "ours", tmp_path / "a.safetensors", **options)
    assert "1.weight: trained in torch.float32, rounded to the model's torch.float16" in done.notes
    with torch.no_grad():
        one[1].weight[0, 0] = 1e6
    save_adapter(one, tmp_path / "large")
    with pytest.raises(
        FileError, match=r"1\.weight: trained in torch\.float32, its values overflow"
    ):
        convert(tmp_path / "large", tmp_path / "b.safetensors", **options)
    assert not (tmp_path / "b.safetensors").exists()


def test_a_bias_that_the_model_lacks_is_refused(tmp_path):
    one = ours(linears(), "butterfly", target_modules=["up"], bias=True)
    save_adapter(one, tmp_path / "ours")
    state = {key: v for key, v in linears().state_dict().items() if key != "0.up.bias"}
    files.save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(FileError, match=r"0\.up: its bias was trained, but the model has no"):
        convert(
            tmp_path / "ours",
            tmp_path / "a.safetensors",
            to="merged",
            model=tmp_path / "model.safetensors",
        )


@pytest.mark.parametrize("to", ["peft-oft", "gsoft"])
def test_unitary_adapters_are_not_converted(to, tmp_path):
    """Other formats have real rotations only."""
    peft = pytest.importorskip("peft")
    from structmat.peft import StructmatConfig

    def plain():
        return nn.Sequential(nn.Linear(8, 8, dtype=torch.complex64))

    save_adapter(adapt(plain(), "butterfly(block=4)"), tmp_path / "ours")
    config = StructmatConfig(topology="butterfly(block=4)", target_modules=["0"])
    peft.get_peft_model(plain(), config).save_pretrained(tmp_path / "peft")
    target = tmp_path / ("new.safetensors" if to == "gsoft" else "new")
    for source in ("ours", "peft"):
        with pytest.raises(FileError, match="the adapter is unitary, for a layer with a complex"):
            convert(tmp_path / source, target, to=to)
