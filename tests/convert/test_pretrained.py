"""Transformers models: tensor names in files and in memory, and embeddings with added rows."""

import json

import pytest
import torch

from structmat.adapters import load_adapter, merge, save_adapter
from structmat.audit import audit
from structmat.convert import convert
from structmat.errors import FileError
from tests.convert.models import effective, merged_weights, ours, same

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
files = pytest.importorskip("safetensors.torch")
from structmat.peft import StructmatConfig  # noqa: E402 (needs peft)
from tests.adapters import tied_models  # noqa: E402 (needs transformers)
from tests.convert import pretrained  # noqa: E402 (needs transformers)
from tests.convert.pretrained import llama, made  # noqa: E402 (needs transformers)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def tensors_of(folder):
    return {k: v for path in folder.glob("*.safetensors") for k, v in files.load_file(path).items()}


RENAMED = [
    (pretrained.llava, r".*language_model.*q_proj"),
    (pretrained.paligemma, r".*(language_model|vision).*(q_proj|fc1)"),
    (pretrained.gpt_neox, r".*dense.*|lm_head"),
    (pretrained.nomic, r".*(q_proj|k_proj|mlp.*)"),
    (pretrained.mixtral, r".*q_proj"),
]
NAMED_ALIKE = [(pretrained.bert, r".*query"), (pretrained.gpt2, r".*attn.c_proj")]


@pytest.mark.parametrize(("build", "targets"), RENAMED + NAMED_ALIKE)
def test_a_converted_model_equals_the_one_merged_in_memory(tmp_path, build, targets):
    made(build).save_pretrained(tmp_path / "model", max_shard_size="30KB")
    assert (tmp_path / "model" / "model.safetensors.index.json").exists()
    is_renamed = tensors_of(tmp_path / "model").keys() - made(build).state_dict().keys()
    assert bool(is_renamed) == ((build, targets) in RENAMED)
    one = ours(made(build), "mixed_radix", target_modules=targets)
    save_adapter(one, tmp_path / "ours")
    done = convert(tmp_path / "ours", tmp_path / "merged", to="merged", model=tmp_path / "model")
    assert done.notes == []
    before, after = tensors_of(tmp_path / "model"), tensors_of(tmp_path / "merged")
    assert before.keys() == after.keys()
    loaded, said = type(made(build)).from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(said.values())
    want = merge(one, unload=True).state_dict()
    same(dict(loaded.state_dict()), dict(want))
    assert not audit(tmp_path / "ours", model=tmp_path / "model").warnings


@pytest.mark.parametrize("named", ["as files", "as memory"])
@pytest.mark.parametrize(
    ("build", "options"),
    [
        (pretrained.mixtral, {"trainable": ["model.layers.0.mlp.experts"]}),
        (pretrained.gpt_neox, {"trainable": ["lm_head"]}),
        (pretrained.nomic, {}),
    ],
)
def test_fully_trained_modules_are_converted(tmp_path, build, options, named):
    model = made(build)
    model.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    if named == "as memory":  # as versions of transformers in between wrote them
        state = {key: value.clone() for key, value in model.state_dict().items()}
        files.save_file(state, path, {"format": "pt"})
    one = ours(made(build), "mixed_radix", target_modules=r".*(q_proj|dense)", **options)
    with torch.no_grad():
        for name in options.get("trainable", []):
            for parameter in one.get_submodule(name).parameters():
                parameter.normal_()
    save_adapter(one, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "merged", to="merged", model=tmp_path / "model")
    assert tensors_of(tmp_path / "merged").keys() == files.load_file(path).keys()
    loaded, said = type(model).from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(said.values())
    same(dict(loaded.state_dict()), dict(merge(one, unload=True).state_dict()))


def test_adapters_with_the_tensor_names_of_old_files_can_be_converted(tmp_path):
    """Adapters trained before transformers renamed the modules have such names."""
    build = pretrained.llava
    made(build).save_pretrained(tmp_path / "model")
    one = ours(made(build), "mixed_radix", target_modules=r".*language_model.*q_proj")
    save_adapter(one, tmp_path / "ours")
    old = tmp_path / "old"
    old.mkdir()
    name = "model.language_model.layers.0.self_attn.q_proj"
    older = "language_model.model.layers.0.self_attn.q_proj"
    convert(tmp_path / "ours", tmp_path / "peft", to="peft", model=tmp_path / "model")
    tensors = tensors_of(tmp_path / "peft")
    assert any(name in key for key in tensors)
    files.save_file(
        {key.replace(name, older): value for key, value in tensors.items()},
        old / "adapter_model.safetensors",
    )
    text = (tmp_path / "peft" / "adapter_config.json").read_text()
    (old / "adapter_config.json").write_text(text.replace(name, older))
    for model in (tmp_path / "model", made(build)):
        target = tmp_path / type(model).__name__
        convert(old, target, model=model)
        same(effective(load_adapter(made(build), target)), effective(one), 5e-6)


def test_a_transposed_square_weight_is_recognised_from_the_configuration(tmp_path):
    """The shape of a square weight does not determine the axis of the inputs."""
    build = pretrained.gpt2
    made(build).save_pretrained(tmp_path / "model")
    config = StructmatConfig(
        topology="mixed_radix", target_modules=["attn.c_proj"], init_weights=False
    )
    tuned = peft.get_peft_model(made(build), config)
    tuned.save_pretrained(tmp_path / "peft")
    convert(tmp_path / "peft", tmp_path / "merged", to="merged", model=tmp_path / "model")
    loaded = type(made(build)).from_pretrained(tmp_path / "merged")
    same(dict(loaded.state_dict()), dict(tuned.merge_and_unload().state_dict()))


# Vocabularies ------------------------------------------------------------------------------

EMBEDDING, HEAD, LAYER = "model.embed_tokens", "lm_head", "model.layers.0.self_attn.q_proj"


def resized(seed=0):
    """Return a model with six added tokens, whose rows depend on the seed."""
    model = made(llama)
    torch.manual_seed(seed)
    model.resize_token_embeddings(56, mean_resizing=False)
    return model


def grown(folder, targets, *, save=None, **options):
    """Save a PEFT adapter of a model with added tokens, and return its merged weights."""
    torch.manual_seed(1)
    config = StructmatConfig(
        topology="mixed_radix", target_modules=targets, init_weights=False, **options
    )
    tuned = peft.get_peft_model(resized(), config)
    if "modules_to_save" in options:
        for parameter in tuned.get_input_embeddings().parameters():
            torch.nn.init.normal_(parameter)
    tuned.save_pretrained(folder, **({} if save is None else {"save_embedding_layers": save}))
    return dict(tuned.merge_and_unload().state_dict())


VOCABULARIES = [
    (["embed_tokens"], {}),
    (["embed_tokens", "lm_head"], {}),
    (["q_proj"], {"save": True}),
    (["q_proj"], {"modules_to_save": ["embed_tokens", "lm_head"], "save": False}),
    (["q_proj"], {"modules_to_save": ["embed_tokens", "lm_head"], "save": True}),
]


@pytest.mark.parametrize(("targets", "options"), VOCABULARIES)
def test_added_tokens_are_converted(tmp_path, targets, options):
    made(llama).save_pretrained(tmp_path / "model")
    want = grown(tmp_path / "theirs", targets, **options)
    done = convert(tmp_path / "theirs", tmp_path / "merged", to="merged", model=tmp_path / "model")
    loaded, said = type(made(llama)).from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(said.values())
    assert loaded.config.vocab_size == 56
    assert any("the vocabulary has 56 tokens instead of 50" in note for note in done.notes)
    got = dict(loaded.state_dict())
    if targets == ["embed_tokens"]:  # PEFT saves no head then
        old = made(llama).lm_head.weight.detach()
        expected = torch.cat([old, old.double().mean(0).float().expand(6, -1)])
        want[f"{HEAD}.weight"] = expected
        assert any(note.startswith("lm_head.weight: not in the adapter") for note in done.notes)
    same(got, want, 2e-6)
    # There and back: PEFT → structmat → PEFT, each loaded in a model with other added rows.
    convert(tmp_path / "theirs", tmp_path / "ours", model=tmp_path / "model")
    known = [key for key in want if targets != ["embed_tokens"] or not key.startswith(HEAD)]
    again = merged_weights(resized(7), tmp_path / "ours")
    same({key: again[key] for key in known}, {key: want[key] for key in known}, 5e-6)
    convert(tmp_path / "ours", tmp_path / "back", to="peft")
    convert(tmp_path / "theirs", tmp_path / "lora", to="lora", rank=32, model=tmp_path / "model")
    for folder in ("back", "lora"):
        tuned = peft.PeftModel.from_pretrained(resized(7), tmp_path / folder)
        state = dict(tuned.merge_and_unload().state_dict())
        same({key: state[key] for key in known}, {key: want[key] for key in known}, 2e-5)
    saved_again = load_adapter(resized(8), tmp_path / "ours")
    save_adapter(saved_again, tmp_path / "once more")
    again = merged_weights(resized(9), tmp_path / "once more")
    same({key: again[key] for key in known}, {key: want[key] for key in known}, 5e-6)
    if "lm_head" in targets or "modules_to_save" in options or "save" in options:
        return
    with pytest.raises(FileError, match=r"resize_token_embeddings\(56\)"):
        load_adapter(made(llama), tmp_path / "ours")


def test_an_unchanged_embedding_is_omitted(tmp_path):
    made(llama).save_pretrained(tmp_path / "model")
    config = StructmatConfig(
        topology="mixed_radix", target_modules=["embed_tokens"], init_weights=False
    )
    tuned = peft.get_peft_model(made(llama), config)
    tuned.save_pretrained(tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "ours", model=tmp_path / "model")
    settings = json.loads((tmp_path / "ours" / "adapter.json").read_text())
    assert not settings["layers"][EMBEDDING]["base"]
    want = dict(tuned.merge_and_unload().state_dict())
    same(merged_weights(made(llama), tmp_path / "ours"), want, 5e-6)


def test_unknown_tensors_are_rejected_by_name(tmp_path):
    made(llama).save_pretrained(tmp_path / "model")
    config = StructmatConfig(topology="mixed_radix", target_modules=["q_proj"])
    peft.get_peft_model(made(llama), config).save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / "adapter_model.safetensors"
    plain = files.load_file(path)
    for name in (
        f"{LAYER}.lora_A.weight",
        f"{EMBEDDING}.token_adapter.trainable_tokens_delta",
        f"{LAYER}.base_layer.absmax",
        "lm_head.base_layer.weight",
    ):
        files.save_file(plain | {f"base_model.model.{name}": torch.zeros(2, 32)}, path)
        for options in ({"to": "peft-boft"}, {"to": "merged", "model": tmp_path / "model"}):
            with pytest.raises(FileError, match=f"{name} does not belong to the rotations"):
                convert(tmp_path / "theirs", tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()


def test_a_head_with_other_classes_is_rejected_by_name(tmp_path):
    def build():
        rest = {key: v for key, v in pretrained.TEXT.items() if key != "num_key_value_heads"}
        return transformers.BertForSequenceClassification(transformers.BertConfig(**rest))

    made(build).save_pretrained(tmp_path / "model")
    one = made(build)
    one.classifier = torch.nn.Linear(32, 5)
    one = ours(one, "mixed_radix", target_modules=["query"], trainable=["classifier"])
    save_adapter(one, tmp_path / "ours")
    with pytest.raises(
        FileError, match=r"classifier\.\w+: it has shape \(5,.* in the adapter, but \(2,"
    ):
        convert(tmp_path / "ours", tmp_path / "out", to="merged", model=tmp_path / "model")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["files", "memory"])
@pytest.mark.parametrize("build", [tied_models.t5, tied_models.bart, tied_models.resized])
def test_a_shared_layer_is_not_converted_to_lora(tmp_path, build, where):
    save_adapter(
        ours(tied_models.made(build), "mixed_radix", target_modules=["shared"]), tmp_path / "a"
    )
    model = tied_models.made(build)
    model.save_pretrained(tmp_path / "model")
    options = {"rank": 16, "model": tmp_path / "model" if where == "files" else model}
    with pytest.raises(FileError, match=r"shared: .*encoder\.embed_tokens.*convert to a merged"):
        convert(tmp_path / "a", tmp_path / "lora", to="lora", **options)
    assert not (tmp_path / "lora").exists()


class Twice(torch.nn.Module):
    """A model with one module under two names."""

    def __init__(self):
        super().__init__()
        self.first = self.second = torch.nn.ModuleDict({"up": torch.nn.Linear(16, 16)})

    def forward(self, x):
        return self.second["up"](self.first["up"](x).relu())


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")  # those of the other name
def test_a_layer_in_a_module_with_two_names_converts_to_lora(tmp_path):
    model = ours(made(Twice), "mixed_radix", target_modules=["up"])
    save_adapter(model, tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "lora", to="lora", rank=16, model=made(Twice))
    loaded = peft.PeftModel.from_pretrained(made(Twice), tmp_path / "lora").eval()
    x = torch.randn(3, 16)
    assert not torch.allclose(made(Twice)(x), model(x), atol=1e-2)
    tied_models.close(loaded(x), model(x))
