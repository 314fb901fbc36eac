"""PEFT models with shared weights compute the same after merging, saving and loading."""

import pytest
import torch
from torch import nn

from structmat.errors import FileError, StructmatError
from structmat.peft import StructmatConfig
from tests.adapters.test_adapted_layer import Folded, Normed, Two
from tests.adapters.tied_models import NAMED, bart, close, gpt2, logits, made, reread, resized
from tests.random_modules import randomised

peft = pytest.importorskip("peft")


@pytest.mark.parametrize(("build", "targets"), NAMED)
@pytest.mark.filterwarnings("ignore:.*(tie_word_embeddings|save_embedding_layers|tied)")
def test_transformers_models_with_tied_weights_keep_their_outputs(build, targets, tmp_path):
    plain = made(build)
    plain.save_pretrained(tmp_path / "plain")
    before = logits(plain)
    config = StructmatConfig(topology="mixed_radix", target_modules=targets)
    model = peft.get_peft_model(plain, config)
    close(logits(model), before)
    wanted = logits(randomised(model, 1))
    assert (wanted - before).abs().max() > 0.05
    model.merge_adapter()
    close(logits(model), wanted)
    model.unmerge_adapter()
    close(logits(model), wanted)
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(made(build), tmp_path / "adapter")
    close(logits(again), wanted)
    again.load_adapter(tmp_path / "adapter", "second")
    again.set_adapter("second")
    close(logits(again), wanted)
    with again.disable_adapter():
        close(logits(again), before)
    merged = model.merge_and_unload()
    close(logits(merged), wanted)
    close(logits(reread(merged, tmp_path / "merged")), wanted)


@pytest.mark.parametrize("build", [bart, resized])
def test_modules_to_save_of_a_shared_layer_is_refused(build):
    model = made(build)
    config = StructmatConfig(target_modules=["q_proj"], modules_to_save=["shared"])
    with pytest.raises(
        StructmatError, match=r"modules_to_save: model\.shared is the same layer as"
    ):
        peft.get_peft_model(model, config)
    assert not any("structmat" in name for name, _ in model.named_parameters())


@pytest.mark.filterwarnings("ignore:.*(tie_word_embeddings|save_embedding_layers|tied)")
def test_a_head_in_modules_to_save_is_untied(tmp_path):
    config = StructmatConfig(
        topology="mixed_radix", target_modules=["wte"], modules_to_save=["lm_head"]
    )
    model = peft.get_peft_model(made(gpt2), config)
    wanted = logits(randomised(model, 1, 0.2))
    plain = made(gpt2).transformer.wte.weight
    assert torch.equal(model.base_model.model.transformer.wte.base_layer.weight, plain)
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(made(gpt2), tmp_path / "adapter")
    close(logits(again), wanted)
    close(logits(reread(model.merge_and_unload(), tmp_path / "merged")), wanted)


def test_training_a_bias_shared_with_a_frozen_layer_is_refused():
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    model[1].bias = model[0].bias
    config = StructmatConfig(target_modules=["0"], bias="structmat_only")
    with pytest.raises(StructmatError, match=r"bias of 0 shares memory with 1\.bias"):
        peft.get_peft_model(model, config)


def test_loading_adapters_of_several_layers_into_one_is_refused(tmp_path):
    def pair():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))

    config = StructmatConfig(target_modules=["0", "1"])
    randomised(peft.get_peft_model(pair(), config), 1).save_pretrained(tmp_path)
    one = pair()
    one[1] = one[0]
    with pytest.raises(FileError, match="are the same tensor in the model, but differ in the file"):
        peft.PeftModel.from_pretrained(one, tmp_path)
    assert isinstance(one[0], nn.Linear)


@pytest.mark.parametrize("kind", [Normed, Two, Folded])
def test_custom_forward_sees_the_same_weight_before_and_after_merging(kind):
    torch.manual_seed(0)
    model = nn.Sequential(kind(8, 8))
    x = torch.arange(6) if kind is Folded else torch.randn(5, 8)
    config = StructmatConfig(topology="butterfly", target_modules=["0"])
    model = randomised(peft.get_peft_model(model, config), 0)
    found = model(x)
    found.sum().backward()
    assert all(bool(p.grad.any()) for p in model.parameters() if p.requires_grad)
    torch.testing.assert_close(model.merge_and_unload()(x), found.detach(), rtol=1e-4, atol=1e-5)
