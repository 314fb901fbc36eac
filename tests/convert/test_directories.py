"""The directory of a merged model: all files except other forms of the old weights."""

import json
import os
import shutil

import pytest
import torch
from safetensors import safe_open

from structmat.adapters import save_adapter
from structmat.convert import convert
from structmat.errors import FileError
from tests.convert.models import linears, ours

files = pytest.importorskip("safetensors.torch")

KEPT = {
    "README.md": "a model",
    "vocab.txt": "a b",
    "tokenizer.model": "pieces",
    "tokenizer.bin": "merges",
    "merges": "",
    "modeling_own.py": "x = 1",
    "generation_config.json": "{}",
    "1_Pooling/config.json": "{}",
    "2_Dense/config.json": "{}",
    "2_Dense/pytorch_model.bin": "weights of another module",
    "templates/chat/deep.jinja": "{{ x }}",
}
STALE = {
    "pytorch_model.bin": "",
    "pytorch_model.bin.index.json": "{}",
    "pytorch_model-00001-of-00002.bin": "",
    "tf_model.h5": "",
    "flax_model.msgpack": "",
    "rust_model.ot": "",
    "model-q4.gguf": "",
    "optimizer.pt": "",
    "training_args.bin": "",
    "onnx/model.onnx": "",
    "onnx/config.json": "{}",
    "openvino/openvino_model.xml": "",
    "checkpoint-10/trainer_state.json": "{}",
    "adapter_config.json": "{}",
    "trained/adapter.json": "{}",
    "parts/model.onnx": "",
}


def model_in(folder, extra, *, metadata=None):
    """Write a model with these additional files."""
    folder.mkdir()
    files.save_file(dict(linears().state_dict()), folder / "model.safetensors", metadata)
    modules = [{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]
    extra = extra | {"modules.json": json.dumps(modules), "config.json": "{}"}
    for name, text in extra.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def adapter(tmp_path):
    save_adapter(ours(linears(), "butterfly", target_modules=["up"]), tmp_path / "ours")
    return tmp_path / "ours"


def listed(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_all_files_are_copied_except_other_forms_of_the_weights(tmp_path, adapter):
    model = model_in(tmp_path / "model", KEPT | STALE, metadata={"format": "pt", "of": "me"})
    other = {key: value.half() for key, value in linears().state_dict().items()}
    files.save_file(other, model / "model.fp16.safetensors")
    files.save_file(other, model / "parts" / "weights.safetensors")
    files.save_file({"speaker": torch.ones(2)}, model / "speaker.safetensors")
    done = convert(adapter, tmp_path / "merged", to="merged", model=model)
    kept = KEPT.keys() | {"modules.json", "config.json", "model.safetensors", "speaker.safetensors"}
    assert listed(tmp_path / "merged") == kept
    for name in kept - {"model.safetensors"}:
        assert (tmp_path / "merged" / name).read_bytes() == (model / name).read_bytes()
    (note,) = done.notes
    assert "not copied, because they contain the old weights" in note
    assert f"and {len(STALE) - 1 + 2 - 8} more" in note  # onnx is one, eight are named
    with safe_open(tmp_path / "merged" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "of": "me"}


def test_every_omitted_form_is_reported(tmp_path, adapter):
    for k, name in enumerate(STALE):
        model = model_in(tmp_path / f"model{k}", {name: STALE[name]})
        done = convert(adapter, tmp_path / f"merged{k}", to="merged", model=model)
        assert listed(tmp_path / f"merged{k}") == {
            "modules.json",
            "config.json",
            "model.safetensors",
        }
        (note,) = done.notes
        assert name in note or f"{name.split('/')[0]}/" in note


def test_links_are_followed_without_cycles(tmp_path, adapter):
    """In a Hub cache, files are links to blobs."""
    model = model_in(tmp_path / "blobs", KEPT)
    cached = tmp_path / "cached"
    cached.mkdir()
    for path in model.iterdir():
        (cached / path.name).symlink_to(path)
    (cached / "nothing.txt").symlink_to(tmp_path / "missing")
    (cached / "itself.txt").symlink_to(cached / "itself.txt")
    (cached / "around").symlink_to(cached)
    if hasattr(os, "mkfifo"):
        os.mkfifo(cached / "pipe")
    done = convert(adapter, tmp_path / "merged", to="merged", model=cached)
    assert listed(tmp_path / "merged") == listed(model)
    assert not any(path.is_symlink() for path in (tmp_path / "merged").rglob("*"))
    (note,) = done.notes
    assert "dangling or cyclic links, or not regular files: around, itself.txt, nothing.txt" in note


def test_a_target_within_the_model_is_not_copied_into_itself(tmp_path, adapter):
    model = model_in(tmp_path / "model", KEPT)
    before = listed(model)
    (model / "out").mkdir()
    convert(adapter, model / "out" / "merged", to="merged", model=model)
    assert listed(model / "out" / "merged") == before
    assert {name for name in listed(model) if not name.startswith("out/merged/")} == before
    with pytest.raises(FileError, match="already exists"):
        convert(adapter, model, to="merged", model=model)


BROKEN = {
    "a copy": (shutil, "copyfile", OSError(28, "No space left on device")),
    "the weights": (files, "save_file", OSError(28, "No space left on device")),
    "an interrupt": (shutil, "copyfile", KeyboardInterrupt()),
}


@pytest.mark.parametrize("which", BROKEN)
def test_an_interrupted_copy_leaves_nothing(tmp_path, adapter, monkeypatch, which):
    model = model_in(tmp_path / "model", KEPT)
    module, name, error = BROKEN[which]
    calls = []
    real = getattr(module, name)

    def breaks(*args, **options):
        calls.append(args)
        if len(calls) == (3 if name == "copyfile" else 1):
            raise error
        return real(*args, **options)

    monkeypatch.setattr(module, name, breaks)
    before = {path.name for path in tmp_path.iterdir()}
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else FileError
    with pytest.raises(expected):
        convert(adapter, tmp_path / "merged", to="merged", model=model)
    assert {path.name for path in tmp_path.iterdir()} == before
    single = {"to": "merged", "model": model / "model.safetensors"}
    if name == "save_file":
        calls.clear()
        with pytest.raises(FileError, match="No space left"):
            convert(adapter, tmp_path / "merged.safetensors", **single)
        assert {path.name for path in tmp_path.iterdir()} == before


def test_files_that_appear_during_the_copy_are_kept(tmp_path, adapter, monkeypatch):
    model = model_in(tmp_path / "model", KEPT)
    real = shutil.copyfile

    def meanwhile(*args, **options):
        (tmp_path / "merged").mkdir(exist_ok=True)
        (tmp_path / "merged" / "mine").touch()
        return real(*args, **options)

    monkeypatch.setattr(shutil, "copyfile", meanwhile)
    with pytest.raises(FileError, match="merged: cannot be written"):
        convert(adapter, tmp_path / "merged", to="merged", model=model)
    assert listed(tmp_path / "merged") == {"mine"}


def test_an_index_cannot_point_outside_the_directory(tmp_path, adapter):
    model = model_in(tmp_path / "model", {})
    index = model / "model.safetensors.index.json"
    for name in ("../ours/adapter.safetensors", "/etc/weights.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(FileError, match="must be a file in this directory"):
            convert(adapter, tmp_path / "merged", to="merged", model=model)


def test_shards_and_the_index_are_preserved(tmp_path, adapter):
    model = model_in(tmp_path / "model", {})
    (model / "model.safetensors").unlink()
    (model / "parts").mkdir()
    state = dict(linears().state_dict())
    state["0.down.weight"] = state["0.down.weight"].T.contiguous().T  # as torch may hold it
    home = {key: f"parts/{k % 2}.safetensors" for k, key in enumerate(state)}
    for name in set(home.values()):
        part = {key: value.contiguous() for key, value in state.items() if home[key] == name}
        files.save_file(part, model / name)
    size = sum(value.nbytes for value in state.values())
    index = {"metadata": {"total_size": size, "more": 1}, "weight_map": home}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    convert(adapter, tmp_path / "merged", to="merged", model=model)
    assert listed(tmp_path / "merged") == listed(model)
    written = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    assert written == index
    got = {}
    for name in set(home.values()):
        got |= files.load_file(tmp_path / "merged" / name)
    assert got.keys() == state.keys()
    assert not torch.equal(got["0.up.weight"], state["0.up.weight"])
    assert torch.equal(got["0.down.weight"], state["0.down.weight"])
