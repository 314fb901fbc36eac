"""Weights shared by several modules, in every way of sharing and every operation.

The outputs of the adapted model are the reference.
"""

import copy
import json

import pytest
import torch
from torch import nn

from structmat.adapters import adapt, adapters, load_adapter, merge, save_adapter, unmerge
from structmat.adapters.shared_weights import names_of_layers, same_layers, shared_tensors
from structmat.convert import convert, tensor_files
from structmat.errors import FileError, StructmatError
from tests.adapters.tied_models import NAMED, close, gpt2, llama, logits, made, reread
from tests.random_modules import randomised


@pytest.mark.parametrize(("build", "targets"), NAMED)
def test_transformers_models_with_tied_weights_keep_their_outputs(build, targets, tmp_path):
    plain = made(build)
    plain.save_pretrained(tmp_path / "plain")
    before = logits(plain)
    model = adapt(plain, "mixed_radix", target_modules=targets)
    close(logits(model), before)
    wanted = logits(randomised(model, 1))
    assert (wanted - before).abs().max() > 0.05  # what is never called would change nothing
    close(logits(merge(model)), wanted)
    close(logits(unmerge(model)), wanted)
    save_adapter(merge(model), tmp_path / "adapter")
    unmerge(model)
    close(logits(load_adapter(made(build), tmp_path / "adapter")), wanted)
    convert(tmp_path / "adapter", tmp_path / "files", to="merged", model=tmp_path / "plain")
    close(logits(type(plain).from_pretrained(tmp_path / "files").eval()), wanted)
    model = merge(model, unload=True)
    close(logits(model), wanted)
    close(logits(reread(model, tmp_path / "merged")), wanted)
    model.tie_weights()  # what is no longer tied stays apart
    if not model.config.is_encoder_decoder:
        close(logits(model), wanted)


class Looked(nn.Module):
    """Three tables, one of them unused, and a head; all share one tensor or views of it."""

    def __init__(self, share):
        super().__init__()
        self.shared = nn.Embedding(12, 8)
        self.encoder, self.decoder = nn.Embedding(12, 8), nn.Embedding(12, 8)
        self.head = nn.Linear(8, 12, bias=False)
        share(self)

    def forward(self, ids):
        return self.head(self.encoder(ids) + 2 * self.decoder(ids + 1))


def parameters(model):
    for part in (model.encoder, model.decoder, model.head):
        part.weight = model.shared.weight


def modules(model):
    model.encoder = model.decoder = model.shared
    model.head.weight = model.shared.weight


def views(model):
    for part in (model.encoder, model.decoder, model.head):
        part.weight = nn.Parameter(model.shared.weight.detach()[:])


def slices(model):
    whole = torch.randn(48, 8)
    for k, part in enumerate((model.shared, model.encoder, model.decoder, model.head)):
        part.weight = nn.Parameter(whole[12 * k : 12 * (k + 1)])


def buffers(model):
    parameters(model)
    for part in (model.encoder, model.decoder):
        part.mask = nn.Buffer(torch.ones(3))
    model.decoder.mask = model.encoder.mask


def looked(share):
    torch.manual_seed(0)
    return Looked(share)


SHARES = (parameters, modules, views, slices, buffers)


@pytest.mark.parametrize("targets", [["encoder"], ["encoder", "decoder"], ["head"], ["shared"]])
@pytest.mark.parametrize("share", SHARES)
def test_merging_saving_and_loading_keep_outputs_for_every_way_of_sharing(share, targets, tmp_path):
    ids = torch.arange(10)
    before = looked(share)(ids)
    model = adapt(looked(share), "mixed_radix", target_modules=targets, scale=True)
    torch.testing.assert_close(model(ids), before)
    wanted = randomised(model, 1)(ids).detach()
    if targets != ["shared"] or share in (parameters, modules):
        assert (wanted - before).abs().max() > 0.1
    torch.testing.assert_close(merge(model)(ids), wanted, rtol=1e-4, atol=1e-5)
    state = model.state_dict()
    torch.testing.assert_close(unmerge(model)(ids), wanted)
    model.load_state_dict(state)
    torch.testing.assert_close(model(ids), wanted)
    save_adapter(model, tmp_path)
    torch.testing.assert_close(load_adapter(looked(share), tmp_path)(ids), wanted)
    twin = copy.deepcopy(model)
    merged = merge(model, unload=True)
    torch.testing.assert_close(merged(ids), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(twin.to(torch.float64).float()(ids), wanted, rtol=1e-4, atol=1e-5)
    plain = looked(slices)  # of separate weights
    plain.load_state_dict(merged.state_dict(), strict=False)
    torch.testing.assert_close(plain(ids), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [parameters, modules])
def test_a_layer_with_several_names_is_adapted_once(share):
    model = adapt(looked(share), "mixed_radix", target_modules=["decoder"])
    assert list(adapters(model)) == ["shared"]
    assert model.shared is model.encoder is model.decoder
    with pytest.raises(StructmatError, match="no layer is left"):
        adapt(looked(share), "mixed_radix", target_modules=["decoder"], exclude_modules=["shared"])


def test_layers_with_different_options_or_hooks_are_not_the_same_layer():
    model = looked(parameters)
    model.encoder.padding_idx = 0
    model.decoder.register_forward_hook(lambda *_: None)
    assert all(same_layers(model)[id(m)] is m for m in model.modules())
    assert names_of_layers(model) == [[name] for name, _ in model.named_modules()]


def test_tensors_share_memory_if_they_share_an_element():
    whole = torch.zeros(6, 6)
    found = {
        "left": whole[:, :3],
        "right": whole[:, 3:],
        "column": whole[:, 2],
        "half": whole.view(torch.int32)[4:],
        "same": whole,
        "again": whole,
        "copy": whole.clone(),
        "none": whole[:0],
    }
    pairs = {frozenset((a, b)) for group in shared_tensors(found) for a in group for b in group}
    expected = {"left column", "left half", "right half", "column half", "same again"}
    expected |= {f"{a} {b}" for a in ("left", "right", "column", "half") for b in ("same", "again")}
    assert {pair for pair in pairs if len(pair) == 2} == {frozenset(e.split()) for e in expected}


@pytest.mark.parametrize("share", [parameters, views])
@pytest.mark.parametrize("targets", [["encoder"], ["decoder"]])
def test_training_a_head_that_shares_a_frozen_weight_is_refused(share, targets):
    model = looked(share)
    state = {name: p.requires_grad for name, p in model.named_parameters()}
    with pytest.raises(StructmatError, match=r"trainable: head shares memory with \w+\.weight"):
        adapt(model, "mixed_radix", target_modules=targets, trainable=["head"])
    assert not adapters(model)
    assert state == {name: p.requires_grad for name, p in model.named_parameters()}


def test_training_a_tied_transformers_head_alone_is_refused():
    with pytest.raises(StructmatError, match=r"lm_head .* transformer\.wte\.weight, which is froz"):
        adapt(gpt2(), "mixed_radix", target_modules=["c_attn"], trainable=["lm_head"])
    model = adapt(
        gpt2(), "mixed_radix", target_modules=["c_attn"], trainable=["lm_head", "transformer.wte"]
    )
    assert model.lm_head.weight.requires_grad


def test_training_a_bias_shared_with_a_frozen_layer_is_refused():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].bias = model[0].bias
    with pytest.raises(StructmatError, match=r"bias=True: the bias of 0 shares memory with 1\.bia"):
        adapt(model, "mixed_radix", target_modules=["0"], bias=True)
    adapt(model, "mixed_radix", target_modules=["0", "1"], bias=True)


def test_max_norm_on_a_shared_embedding_is_refused():
    model = looked(parameters)
    for part in (model.shared, model.encoder, model.decoder):
        part.max_norm = 1.0
    with pytest.raises(StructmatError, match=r"max_norm=1\.0 writes to its weight .* head\.weight"):
        adapt(model, "mixed_radix", target_modules=["encoder"])


def test_loading_an_adapter_of_one_layer_into_several_is_refused(tmp_path):
    save_adapter(adapt(looked(parameters), "mixed_radix", target_modules=["encoder"]), tmp_path)
    with pytest.raises(FileError, match="shared is the same layer as encoder, decoder in the file"):
        load_adapter(looked(slices), tmp_path)


def test_loading_adapters_of_several_layers_into_one_is_refused(tmp_path):
    both = ["encoder", "decoder"]
    save_adapter(adapt(looked(slices), "mixed_radix", target_modules=both), tmp_path)
    with pytest.raises(FileError, match="encoder and decoder are one layer in the model"):
        load_adapter(looked(modules), tmp_path)


@pytest.mark.parametrize("build", [llama, gpt2])
def test_merging_unties_word_embeddings_in_the_config(build, tmp_path):
    plain = made(build)
    plain.save_pretrained(tmp_path / "plain")
    name = "embed_tokens" if build is llama else "wte"
    model = randomised(adapt(plain, "mixed_radix", target_modules=[name]), 1)
    save_adapter(model, tmp_path / "adapter")
    assert not merge(model, unload=True).config.tie_word_embeddings
    convert(tmp_path / "adapter", tmp_path / "files", to="merged", model=tmp_path / "plain")
    config = type(plain.config).from_pretrained(tmp_path / "files")
    assert not config.tie_word_embeddings
    alone = tmp_path / "plain" / "model.safetensors"
    with pytest.raises(FileError, match="give the directory of the model"):
        convert(tmp_path / "adapter", tmp_path / "m.safetensors", to="merged", model=alone)
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize("build", [llama, gpt2])
def test_the_index_of_a_merged_model_counts_untied_weights(build, tmp_path):
    plain, size = made(build), {"max_shard_size": "3KB"}
    plain.save_pretrained(tmp_path / "plain", **size)
    model = adapt(plain, "mixed_radix", target_modules=["lm_head"])
    save_adapter(model, tmp_path / "adapter")
    convert(tmp_path / "adapter", tmp_path / "files", to="merged", model=tmp_path / "plain")
    type(plain).from_pretrained(tmp_path / "files").save_pretrained(tmp_path / "again", **size)
    before, found, wanted = (
        json.loads((tmp_path / name / "model.safetensors.index.json").read_text())["metadata"]
        for name in ("plain", "files", "again")
    )
    assert found == wanted
    assert found["total_parameters"] == before["total_parameters"] + 40 * 16


def test_without_transformers_merging_a_possibly_tied_weight_is_refused(tmp_path, monkeypatch):
    plain = made(llama)
    plain.save_pretrained(tmp_path / "plain")
    save_adapter(adapt(plain, "mixed_radix", target_modules=["embed_tokens"]), tmp_path / "adapter")
    monkeypatch.setattr(tensor_files, "skeleton_in", lambda *_: (None, []))
    with pytest.raises(FileError, match=r"embed_tokens: .*config\.json may tie this weight"):
        convert(tmp_path / "adapter", tmp_path / "files", to="merged", model=tmp_path / "plain")
    assert not (tmp_path / "files").exists()


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("targets", [["embed_tokens"], ["lm_head"]])
def test_tying_and_resizing_are_refused_while_embeddings_are_adapted(targets, merged):
    model = randomised(adapt(made(llama), "mixed_radix", target_modules=targets), 1)
    if merged:
        merge(model)
    wanted, shapes = logits(model), {n: p.shape for n, p in model.named_parameters()}
    for call in (model.tie_weights, lambda: model.resize_token_embeddings(44)):
        with pytest.raises(StructmatError, match=r"has an adapter.*before it is adapted, or after"):
            call()
    assert shapes == {n: p.shape for n, p in copy.deepcopy(model).named_parameters()}
    close(logits(model), wanted)
    plain = merge(model, unload=True)
    plain.tie_weights()
    close(logits(plain), wanted)
    plain.resize_token_embeddings(44, mean_resizing=False)
    close(logits(plain)[..., :40], wanted)


def test_tying_and_resizing_work_while_other_layers_are_adapted():
    model = adapt(made(llama), "mixed_radix", target_modules=["q_proj"])
    wanted = logits(model)
    model.tie_weights()
    model.resize_token_embeddings(44, mean_resizing=False)
    close(logits(model)[..., :40], wanted)
