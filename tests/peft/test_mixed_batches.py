"""One adapter for each sample, for different activation layouts."""

import peft
import pytest
import torch
from torch import nn

from structmat.errors import StructmatError
from structmat.peft import StructmatConfig
from tests.peft.models import transformers

NAMES = ["__base__", "default", "other"]


def with_two(model, **options):
    torch.manual_seed(3)
    options = {"topology": "mixed_radix", "init_weights": False} | options
    tuned = peft.get_peft_model(model, StructmatConfig(**options))
    tuned.add_adapter("other", StructmatConfig(**options | {"side": "outputs"}))
    return tuned.double().eval()


def one_by_one(model, call):
    """Return the outputs of the whole batch with each adapter alone, by its name."""
    alone = {}
    for name in ("default", "other"):
        model.set_adapter(name)
        alone[name] = call()
    with model.disable_adapter():
        alone["__base__"] = call()
    return alone


def opt():
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "word_embed_proj_dim": 16, "max_position_embeddings": 32}
    return transformers.OPTForCausalLM(transformers.OPTConfig(**sizes))


@pytest.mark.parametrize("samples", [1, 3, 4, 6])
def test_flattened_tokens_use_the_adapter_of_their_sample(samples):
    """The MLP of OPT flattens samples and tokens; one case has as many tokens as samples."""
    model = with_two(opt())
    ids = torch.randint(5, 60, (samples, 4), generator=torch.Generator().manual_seed(1))
    names = (NAMES * 2)[:samples]
    alone = one_by_one(model, lambda: model(input_ids=ids).logits)
    found = model(input_ids=ids, adapter_names=names).logits
    for k, name in enumerate(names):
        torch.testing.assert_close(found[k], alone[name][k], rtol=0, atol=1e-9)
    wanted = f"but got 2 and {samples}: give one"
    with pytest.raises(StructmatError, match=wanted):
        model(input_ids=ids.repeat(1, 1), adapter_names=["default"] * 2) if samples != 2 else None


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 3},
        {"generation_config": transformers.GenerationConfig(num_beams=2)},
        {"num_beams": 2, "num_return_sequences": 2},
    ],
    ids=["greedy", "beams", "beams in a configuration", "several returned"],
)
def test_generated_samples_and_beams_use_the_adapter_of_their_sample(settings):
    model = with_two(opt())
    ids = torch.randint(5, 60, (3, 4), generator=torch.Generator().manual_seed(1))
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 4, "do_sample": False}
    options = {"pad_token_id": 1, "eos_token_id": 2} | options | settings
    alone = one_by_one(model, lambda: model.generate(input_ids=ids, **options))
    found = model.generate(input_ids=ids, adapter_names=NAMES, **options)
    each = len(found) // 3
    for k, name in enumerate(NAMES):
        rows = slice(k * each, (k + 1) * each)
        width = min(found.shape[1], alone[name].shape[1])  # padded to the longest one
        assert torch.equal(found[rows, :width], alone[name][rows, :width])


class Positions(nn.Module):
    """A model whose position embeddings are looked up once for all samples."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(9, 16), nn.Embedding(5, 16)

    def forward(self, ids):
        return self.tokens(ids) + self.places(torch.arange(ids.shape[1])[None])


def test_activations_shared_by_all_samples_are_adapted_for_each():
    model = with_two(Positions(), target_modules=["tokens", "places"])
    ids = torch.randint(9, (3, 5), generator=torch.Generator().manual_seed(1))
    alone = one_by_one(model, lambda: model(ids))
    found = model(ids, adapter_names=NAMES)
    for k, name in enumerate(NAMES):
        torch.testing.assert_close(found[k], alone[name][k], rtol=0, atol=1e-9)


class Arranged(nn.Module):
    def __init__(self, arrange):
        super().__init__()
        self.arrange = arrange
        self.layer = nn.Linear(16, 16)

    def forward(self, x):
        return self.layer(self.arrange(x))


@pytest.mark.parametrize(
    "arrange",
    [
        lambda x: x[:, :2].reshape(-1, 16),  # some of the tokens
        lambda x: x.transpose(0, 1),  # tokens first
        lambda x: x.reshape(-1, 16)[:7],
    ],
)
def test_unsupported_activation_layouts_are_refused(arrange):
    model = with_two(Arranged(arrange), target_modules=["layer"])
    x = torch.randn(3, 5, 16, dtype=torch.float64)
    with pytest.raises(StructmatError, match=r"adapter_names: layer is called with \d+ rows for 3"):
        model(x, adapter_names=NAMES)
    model(x)  # and no hook is left
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_disabled_adapters_ignore_adapter_names():
    model = with_two(Positions(), target_modules=["tokens", "places"])
    ids = torch.randint(9, (3, 5), generator=torch.Generator().manual_seed(1))
    with model.disable_adapter():
        plain = model(ids)
        assert torch.equal(model(ids, adapter_names=NAMES), plain)
        model.merge_adapter()
        assert torch.equal(model(ids, adapter_names=NAMES), plain)
    with pytest.raises(StructmatError, match="unmerge_adapter"):
        model(ids, adapter_names=NAMES)
