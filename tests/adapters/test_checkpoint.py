"""Adapters round-trip through files; files that do not fit leave the model unchanged."""

import hashlib
import json
import re

import pytest
import torch
from hypothesis import given
from torch import nn

import structmat as sm
from structmat.adapters import adapt, adapters, load_adapter, merge, save_adapter
from structmat.adapters.checkpoint import SETTINGS, TENSORS
from structmat.errors import FileError, MissingExtraError, StructmatError
from structmat.testing import networks, seeds
from tests.random_modules import randomised, state, unchanged

safetensors = pytest.importorskip("safetensors")
pytest.importorskip("safetensors.torch")


def model(width=12, classes=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 1), groups=2),
        nn.Flatten(),
        nn.Linear(16, width),
        nn.BatchNorm1d(width),
        nn.Linear(width, classes),
    ).eval()


def trained():
    return randomised(
        adapt(
            model(),
            "mixed_radix(mirror=True) * 2",
            target_modules=["0", "2"],
            topology_pattern={"2": "random(block=4, depth=2)"},
            scale=True,
            bias=True,
            dropout=(0.1, 0.5),
            trainable=["3", "4"],
        ),
        0,
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


X = torch.randn(5, 2, 6, 1, generator=torch.Generator().manual_seed(1))


def test_saving_and_loading_restores_everything_trained(tmp_path):
    one = trained()
    one.train()(X)  # moves the batch statistics, which belong to a module trained in full
    one.eval()
    assert save_adapter(one, tmp_path / "new" / "adapter") == tmp_path / "new" / "adapter"
    assert names(tmp_path / "new" / "adapter") == [SETTINGS, TENSORS]
    other = load_adapter(model(), tmp_path / "new" / "adapter").eval()
    assert torch.equal(other(X), one(X))
    mine, theirs = state(one), state(other)
    assert unchanged(other, mine)
    assert {k for k, v in mine.items() if v[1]} == {k for k, v in theirs.items() if v[1]}
    for a, b in zip(adapters(one).values(), adapters(other).values(), strict=True):
        assert a.rotation.network == b.rotation.network
        assert a.rotation.dropout == b.rotation.dropout == (0.1, 0.5)


@given(networks(wired=False), seeds())
def test_saving_and_loading_any_network_round_trips(tmp_path_factory, net, seed):
    folder = tmp_path_factory.mktemp("adapter")
    one = randomised(
        adapt(nn.Linear(net.width, 2), net, target_modules=".*", parametrization="exp"), seed
    )
    save_adapter(one, folder)
    torch.manual_seed(seed)
    base = nn.Linear(net.width, 2)
    other = load_adapter(base, folder)
    assert other.rotation.network == net
    assert other.rotation.parametrization == "exp"
    assert torch.equal(other.rotation.matrix(), one.rotation.matrix())


def test_merged_and_unmerged_models_save_the_same_tensors(tmp_path):
    one = trained()
    save_adapter(one, tmp_path / "a")
    save_adapter(merge(one), tmp_path / "b")
    assert (tmp_path / "a" / TENSORS).read_bytes() == (tmp_path / "b" / TENSORS).read_bytes()


def test_saving_again_replaces_the_files(tmp_path):
    save_adapter(trained(), tmp_path)
    other = randomised(adapt(model(), "mixed_radix"), 5)
    save_adapter(other, tmp_path)
    assert torch.equal(load_adapter(model(), tmp_path)(X), other(X))
    assert names(tmp_path) == [SETTINGS, TENSORS]


def refused(folder, message, into=None, error=FileError):
    into = model() if into is None else into
    before = state(into)
    with pytest.raises(error, match=message):
        load_adapter(into, folder)
    assert unchanged(into, before)
    assert type(into[2]) is nn.Linear


@pytest.mark.parametrize("name", [TENSORS, SETTINGS])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path, name, part):
    save_adapter(trained(), tmp_path)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(part * len(data))])
    refused(tmp_path, "is truncated")


@pytest.mark.parametrize("name", [TENSORS, SETTINGS])
def test_missing_files_are_refused(tmp_path, name):
    save_adapter(trained(), tmp_path)
    (tmp_path / name).unlink()
    missing = re.escape(str(tmp_path / name))
    refused(tmp_path, f"^{missing}: No such file.*expected a directory written by save_adapter")


def test_tensors_saved_with_other_settings_are_refused(tmp_path):
    save_adapter(trained(), tmp_path / "a")
    save_adapter(randomised(trained(), 9), tmp_path / "b")
    (tmp_path / "b" / TENSORS).replace(tmp_path / "a" / TENSORS)
    refused(tmp_path / "a", "not saved together with")


def edited(folder, edit):
    settings = json.loads((folder / SETTINGS).read_text())
    edit(settings)
    (folder / SETTINGS).write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.update(format="other"), '"format": "structmat.adapter"'),
        (
            lambda s: s.update(version=99),
            "schema version 99, but .* reads versions 1 to 2",
        ),
        (lambda s: s.pop("layers"), r"missing or invalid entry \(KeyError"),
        (
            lambda s: s["layers"]["2"].update(networks={"inputs": 7}),
            r"missing or invalid entry \(IndexError",
        ),
        (
            lambda s: s["layers"]["2"].update(networks={"inputs": "x"}),
            "network='x': network must be an integer",
        ),
        (
            lambda s: s["layers"]["2"].update(networks={"inputs": -1}),
            "network=-1: network must be an integer",
        ),
        (lambda s: s["layers"]["2"].update(dropout=[3, 3]), "it must be two probabilities"),
        (lambda s: s["layers"]["2"].update(parametrization="qr"), "'qr': no such parametrization"),
        (lambda s: s["networks"][0].update(version=99), "network JSON has schema version 99"),
        (lambda s: s["networks"][0]["stages"][0][0][0].append([0]), "rows must be of equal length"),
    ],
)
def test_invalid_settings_are_refused(tmp_path, edit, message):
    save_adapter(trained(), tmp_path)
    edited(tmp_path, edit)
    refused(tmp_path, message)


def test_settings_that_are_not_a_json_object_are_refused(tmp_path):
    save_adapter(trained(), tmp_path)
    (tmp_path / SETTINGS).write_text("[1, 2]")
    refused(tmp_path, '"format": "structmat.adapter"')


def test_the_error_lists_every_mismatch(tmp_path):
    save_adapter(trained(), tmp_path)
    other = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(16, 9), nn.BatchNorm1d(9))
    refused(
        tmp_path,
        r"does not fit this model, which is left unchanged: layer 0 has type ReLU, which cannot"
        r" be adapted; layer 2 has a weight of shape \(9, 16\) for LinearLayout; the saved weight"
        r" has shape \(12, 16\) for LinearLayout; 4 is not in the model; .*3\.running_mean has"
        r" shape \(12,\) in the file, \(9,\) in the model",
        other,
    )


def test_unexpected_missing_and_non_finite_tensors_are_refused(tmp_path):
    from hashlib import sha256

    from safetensors.torch import load_file, save_file

    save_adapter(trained(), tmp_path)
    tensors = load_file(tmp_path / TENSORS)
    tensors["stranger"] = torch.zeros(2)
    tensors["2.structmat_scale"][0] = float("nan")
    del tensors["4.bias"]
    save_file(tensors, tmp_path / TENSORS)
    digest = sha256((tmp_path / TENSORS).read_bytes()).hexdigest()
    edited(tmp_path, lambda s: s.update(tensors=digest))
    refused(
        tmp_path,
        r"2\.structmat_scale contains NaN.*4\.bias is not in the file; stranger is in the file,",
    )


def test_files_that_are_not_safetensors_are_refused(tmp_path):
    from hashlib import sha256

    save_adapter(trained(), tmp_path)
    (tmp_path / TENSORS).write_bytes(b"no tensors")
    edited(tmp_path, lambda s: s.update(tensors=sha256(b"no tensors").hexdigest()))
    refused(tmp_path, "is not a safetensors file")


def test_loading_into_an_adapted_model_is_refused(tmp_path):
    save_adapter(trained(), tmp_path)
    into = trained()
    before = state(into)
    with pytest.raises(StructmatError, match="already has adapters"):
        load_adapter(into, tmp_path)
    assert unchanged(into, before)


def test_saving_a_model_without_adapters_is_refused(tmp_path):
    with pytest.raises(StructmatError, match="the model has no adapters: adapt it first"):
        save_adapter(model(), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_failed_write_keeps_the_old_files(tmp_path, monkeypatch):
    one = trained()
    save_adapter(one, tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    def full(self, data):
        self.touch()
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(FileError, match=r"cannot be written to \(no space left"):
            save_adapter(randomised(one, 3), tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == files


def test_without_safetensors_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    with pytest.raises(MissingExtraError, match=r'pip install "structmat\[adapters\]"'):
        save_adapter(trained(), tmp_path)


def test_unseeded_random_networks_are_saved(tmp_path):
    """The file contains the network itself and not the spec of its family."""
    net = sm.random(12, block=5, depth=3)
    save_adapter(adapt(nn.Linear(12, 2), {12: net}.get, target_modules=".*"), tmp_path)
    assert load_adapter(nn.Linear(12, 2), tmp_path).rotation.network == net


def test_fully_trained_modules_inside_a_wrapper_are_saved(tmp_path):
    one = nn.Sequential(trained())
    save_adapter(one, tmp_path)
    other = load_adapter(nn.Sequential(model()), tmp_path)
    assert torch.equal(other(X), one(X))


def test_running_statistics_of_frozen_modules_are_saved(tmp_path):
    one = adapt(model(), "mixed_radix", target_modules=["0", "2"]).train()
    for _ in range(20):
        one(3 * torch.randn(8, 2, 6, 1) + 1)
    save_adapter(one, tmp_path)
    other = load_adapter(model(), tmp_path)
    assert torch.equal(other.eval()(X), one.eval()(X))


def test_shared_biases_are_saved(tmp_path):
    def tied():
        torch.manual_seed(0)
        plain = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
        plain[1].bias = plain[0].bias
        return plain

    one = randomised(adapt(tied(), "butterfly", bias=True), 0)
    save_adapter(one, tmp_path)
    x = torch.randn(2, 8)
    assert torch.equal(load_adapter(tied(), tmp_path)(x), one(x))


def test_infinite_buffers_are_saved_and_non_finite_parameters_are_refused(tmp_path):
    def masked():
        torch.manual_seed(0)
        head = nn.Linear(8, 4)
        head.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))
        return nn.ModuleDict({"a": nn.Linear(8, 8), "head": head})

    one = adapt(masked(), "butterfly", target_modules=["a"], trainable=["head"])
    save_adapter(one, tmp_path)
    load_adapter(masked(), tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with torch.no_grad():
        one["head"].weight[0, 0] = float("nan")
    with pytest.raises(StructmatError, match=r"head\.weight contains NaN or infinity: the adapter"):
        save_adapter(one, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == files


def test_running_statistics_have_no_nan_and_their_own_dtype(tmp_path):
    def make():
        return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))

    one = adapt(make(), "butterfly", target_modules=["0"])
    one[1].running_mean[0] = float("nan")
    with pytest.raises(StructmatError, match=r"1\.running_mean contains NaN or infinity"):
        save_adapter(one, tmp_path)
    mean = torch.tensor([float("nan")] * 8)
    for value, said in ((mean, "contains NaN"), (torch.ones(8, dtype=torch.int64), "has dtype")):
        one[1].running_mean = torch.zeros(8)
        save_adapter(one, tmp_path)
        tensors = safetensors.torch.load_file(tmp_path / TENSORS)
        tensors["1.running_mean"] = value
        data = safetensors.torch.save(tensors)
        (tmp_path / TENSORS).write_bytes(data)
        settings = json.loads((tmp_path / SETTINGS).read_text())
        settings["tensors"] = hashlib.sha256(data).hexdigest()
        (tmp_path / SETTINGS).write_text(json.dumps(settings))
        fresh = make()
        before = state(fresh)
        with pytest.raises(FileError, match=rf"1\.running_mean {said}"):
            load_adapter(fresh, tmp_path)
        assert unchanged(fresh, before)


@pytest.mark.parametrize("option", ["scale", "bias", "reduced"])
def test_flags_are_true_or_false(option):
    with pytest.raises(StructmatError, match=f"{option}='yes': {option} must be True or False"):
        adapt(model(), "butterfly", **{option: "yes"})


def test_settings_of_another_type_are_refused(tmp_path):
    save_adapter(trained(), tmp_path)
    settings = json.loads((tmp_path / SETTINGS).read_text())
    (tmp_path / SETTINGS).write_text(json.dumps(settings | {"trained": "2"}))
    with pytest.raises(FileError, match=r"trained='2': it must be a list of names of modules"):
        load_adapter(model(), tmp_path)
    settings["layers"]["2"]["scale"] = "yes"
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    with pytest.raises(FileError, match=r"scale='yes': scale must be True or False"):
        load_adapter(model(), tmp_path)


def test_a_list_of_models_is_abbreviated_and_a_rotation_has_its_own_constructor():
    with pytest.raises(StructmatError, match=r"it must be a torch\.nn\.Module") as caught:
        adapt([model()] * 20, "butterfly")
    assert len(str(caught.value)) < 400
    net = sm.butterfly(4)
    with pytest.raises(StructmatError, match=r"with Orthogonal\.from_rotation"):
        sm.nn.Orthogonal(sm.Rotation(net, sm.random_blocks(net, rng=0)))


def test_fully_trained_modules_containing_an_adapted_layer_are_refused(tmp_path):
    save_adapter(trained(), tmp_path)
    edited(tmp_path, lambda s: s.update(trained=["2"]))
    refused(tmp_path, "2 is trained in full in the file, but contains an adapted layer")


def test_loading_into_a_convolution_with_other_groups_is_refused(tmp_path):
    save_adapter(
        adapt(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), "mixed_radix", target_modules=["0"]),
        tmp_path,
    )
    with pytest.raises(FileError, match="0: the network has width 36, but the layer has 18 inputs"):
        load_adapter(nn.Sequential(nn.Conv2d(2, 4, 3)), tmp_path)
