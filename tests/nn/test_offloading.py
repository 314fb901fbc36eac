"""Models offloaded by accelerate, and models on the meta device."""

import pytest
import torch
from torch import nn

import structmat as sm
from structmat.adapters import adapt, load_adapter, merge, save_adapter, unmerge
from structmat.adapters.model import adapters
from structmat.errors import FileError
from structmat.nn import Orthogonal
from tests.random_modules import layer, randomised

accelerate = pytest.importorskip("accelerate")
CPU = torch.device("cpu")

CASES = {
    "linear": (lambda: nn.Linear(16, 16), (16,), {}),
    "reduced": (lambda: nn.Linear(16, 16), (16,), {"reduced": True}),
    "scale": (lambda: nn.Linear(16, 16), (16,), {"scale": True}),
    "outputs": (lambda: nn.Linear(16, 16), (16,), {"side": "outputs", "scale": True}),
    "field": (lambda: nn.Conv2d(4, 4, 2), (4, 5, 5), {}),
    "channels": (lambda: nn.Conv2d(4, 4, 2), (4, 5, 5), {"field": "channels"}),
    "embedding": (lambda: nn.Embedding(20, 16), None, {"scale": True}),
    "table": (lambda: nn.Embedding(2, 16), None, {}),
}


def drawn(name):
    """Return a model without adapters, inputs and options."""
    make, shape, options = CASES[name]
    torch.manual_seed(0)
    x = torch.arange(6).view(2, 3) % 2 if shape is None else torch.randn(2, *shape)
    return nn.Sequential(make(), nn.Tanh()), x, {"target_modules": ["0"], **options}


def by_adapt(net, options):
    return adapt(net, "monarch", **options)


def by_peft(net, options):
    peft = pytest.importorskip("peft")
    from structmat.peft import StructmatConfig

    return peft.get_peft_model(net, StructmatConfig(topology="monarch", **options))


@pytest.mark.parametrize("where", ["cpu", "disk"])
@pytest.mark.parametrize("make", [by_adapt, by_peft])
@pytest.mark.parametrize("name", CASES)
def test_offloading_changes_no_output(name, make, where, tmp_path):
    net, x, options = drawn(name)
    model = randomised(make(net, options), 1).eval()
    expected = model(x).detach()
    offload(model, where, tmp_path)
    assert all(p.is_meta for p in model.parameters())
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(model(x), expected)
    if make is by_peft and where == "cpu":
        with torch.no_grad():
            torch.testing.assert_close(model.merge_and_unload()(x), expected)


@pytest.mark.parametrize("where", ["cpu", "disk"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("first", ["run", "read", "unmerged"])
def test_offloading_a_merged_model_changes_no_output(name, where, first, tmp_path):
    net, x, options = drawn(name)
    model = randomised(by_adapt(net, options), 1).eval()
    expected, weight = model(x).detach(), adapters(model)["0"].weight.detach().clone()
    offload(merge(model), where, tmp_path)
    with torch.no_grad():
        if first == "read":
            torch.testing.assert_close(adapters(model)["0"].weight, weight)
        if first == "unmerged":
            unmerge(model)
        for _ in range(2):
            torch.testing.assert_close(model(x), expected)
            torch.testing.assert_close(adapters(model)["0"].weight, weight)


@pytest.mark.parametrize("first", ["merged", "offloaded"])
@pytest.mark.parametrize("name", CASES)
def test_offloaded_peft_layers_can_be_merged_scaled_and_disabled(name, first, tmp_path):
    net, x, options = drawn(name)
    plain = net(x).detach()
    model = randomised(by_peft(net, options), 1).eval()
    expected = model(x).detach()
    steps = [model.merge_adapter, lambda: offload(model, "cpu", tmp_path)]
    for step in steps if first == "merged" else reversed(steps):
        step()
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected)
        layer = next(iter(model.base_model.adapted().values()))
        for power in (0, 1):  # merges again
            layer.set_scale("default", power)
            torch.testing.assert_close(model(x), expected if power else plain)
        with model.disable_adapter():
            torch.testing.assert_close(model(x), plain)
        for _ in range(2):
            torch.testing.assert_close(model(x), expected)


def offload(model, where, folder):
    if where == "cpu":
        accelerate.cpu_offload(model, CPU)
    else:
        accelerate.disk_offload(model, folder, CPU)


def test_an_offloaded_adapter_can_be_saved_and_merged(tmp_path):
    net, x, options = drawn("scale")
    model = randomised(by_adapt(net, options), 1).eval()
    expected = model(x).detach()
    accelerate.cpu_offload(model, CPU)
    save_adapter(model, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(merge(model)(x), expected)
        torch.testing.assert_close(unmerge(model)(x), expected)
    loaded = load_adapter(drawn("scale")[0], tmp_path)
    torch.testing.assert_close(loaded(x), expected)
    found = adapters(model)["0"].rotation.matrix()  # without a call of the model
    torch.testing.assert_close(found, adapters(loaded)["0"].rotation.matrix())


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("start", ["assign", "to_empty", "empty weights", "default device"])
def test_layers_made_on_the_meta_device_can_be_filled_later(start, reduced):
    options = {"target_modules": ["0"], "reduced": reduced}
    net, x, _ = drawn("linear")
    full = randomised(by_adapt(net, options), 1)
    state = full.state_dict()
    empty = accelerate.init_empty_weights() if start == "empty weights" else torch.device("meta")
    with empty:
        model = by_adapt(drawn("linear")[0], options)
    assert all(p.is_meta for p in model.parameters())
    if start == "to_empty":
        model = model.to_empty(device="cpu")
    model.load_state_dict(state, assign=start != "to_empty")
    with torch.device("meta" if start == "default device" else "cpu"):
        torch.testing.assert_close(model(x), full(x))
    torch.testing.assert_close(model.to("cpu")(x), full(x))


def test_a_checkpoint_loads_into_a_model_with_empty_weights(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    options = {"target_modules": ["0"], "reduced": True}
    net, x, _ = drawn("linear")
    full = randomised(by_adapt(net, options), 1)
    path = tmp_path / "model.safetensors"
    safetensors.save_file(full.state_dict(), path, metadata={"format": "pt"})
    with accelerate.init_empty_weights():
        model = by_adapt(drawn("linear")[0], options)
    model = accelerate.load_checkpoint_and_dispatch(model, str(path), device_map={"": "cpu"})
    torch.testing.assert_close(model(x), full(x))


def test_a_layer_has_no_buffers_or_tensor_attributes():
    """Index tensors are made where they are used."""
    q = layer(sm.butterfly(16, block=4), 0, reduced=True)
    q(torch.ones(2, 16))
    assert not list(q.buffers())
    assert not [name for name, value in vars(q).items() if isinstance(value, torch.Tensor)]
    bare = Orthogonal(sm.Network.of(4, []), dtype=torch.float64)
    assert bare.matrix().dtype == torch.float64
    assert bare.float().matrix().dtype == torch.float32
    meta = Orthogonal(sm.Network.of(4, []), device="meta")
    assert meta.matrix().is_meta
    assert not meta.to("cpu").matrix().is_meta


def emptied(net):
    return net.to("meta")


def offloaded(net):
    accelerate.cpu_offload(net, CPU)
    return net


@pytest.mark.parametrize(
    ("without", "options"),
    [(emptied, {}), (offloaded, {"bias": True}), (offloaded, {"trainable": ["head"]})],
)
def test_loading_values_into_meta_tensors_is_refused(without, options, tmp_path):
    def net():
        torch.manual_seed(0)
        return nn.ModuleDict({"a": nn.Linear(16, 16), "head": nn.Linear(16, 2)})

    chosen = {"target_modules": ["a"], **options}
    save_adapter(randomised(adapt(net(), "monarch", **chosen), 1), tmp_path)
    model = without(net())
    with pytest.raises(FileError, match="on the meta device, where loaded values would be lost"):
        load_adapter(model, tmp_path)
    assert not adapters(model)


@pytest.mark.parametrize("make", [by_adapt, by_peft])
def test_a_merged_model_can_move_to_meta_and_back(make):
    model = make(
        nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)), {"target_modules": ["0", "1"]}
    )
    shapes = {name: p.shape for name, p in model.named_parameters()}
    merge(model) if make is by_adapt else model.merge_adapter()
    assert all(p.is_meta for p in model.to("meta").parameters())
    model.to_empty(device="cpu")
    unmerge(model) if make is by_adapt else model.unmerge_adapter()
    assert shapes == {name: p.shape for name, p in model.named_parameters()}
    assert not any(p.is_meta for p in model.parameters())
