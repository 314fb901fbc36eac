"""Adapters of models in image pipelines, in the files of LyCORIS, sd-scripts and diffusers."""

import itertools
import json
import re

import pytest
import torch

from structmat.adapters import save_adapter
from structmat.convert import convert
from structmat.convert.unet_names import other_names
from structmat.errors import FileError, StructmatError
from tests.convert.models import effective, ours, same
from tests.convert.pipelines import (
    DIFFUSERS,
    SDXL,
    merged_butterfly_inputs,
    merged_oft,
    merged_series,
    saved_pipeline,
    text_encoder,
    unet,
)
from tests.random_modules import randomised

pytest.importorskip("diffusers")
files = pytest.importorskip("safetensors.torch")
peft = pytest.importorskip("peft")

QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
ADAPTED = (QUERY, "down_blocks.0.resnets.0.conv1", "up_blocks.1.attentions.0.proj_in", "conv_in")


def unbounded(_alpha, _outputs):
    """Return no bound."""


def metadata_of(path):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {key: value for key, value in file.metadata().items() if key != "format"}


def tensors_of(folder):
    return files.load_file(next(folder.glob("*.safetensors")))


def merged_pipeline(tmp_path, path, name, **options):
    """Merge one model of a pipeline; return its weights before and after."""
    target = tmp_path / f"merged-{name}"
    convert(path, target, to="merged", model=tmp_path / "pipeline", component=name, **options)
    return tensors_of(tmp_path / "pipeline" / name), tensors_of(target)


def lycoris_file(tmp_path, monkeypatch, algo):
    """Let LyCORIS's network for sd-scripts save rotations of a U-Net and its text encoder."""
    kohya = pytest.importorskip("lycoris.kohya")
    names = ["conv_in"]  # by default, it adapts time-embedding layers twice, which fails
    monkeypatch.setattr(kohya.LycorisNetworkKohya, "UNET_TARGET_REPLACE_NAME", names)
    model, text = unet(), text_encoder()
    saved_pipeline(tmp_path / "pipeline", unet=model, text_encoder=text)
    torch.manual_seed(2)
    sizes = {"lora_dim": 4, "conv_lora_dim": 4}
    network = kohya.LycorisNetworkKohya(
        text, model, network_module=algo, constraint=0.02, rescaled=True, **sizes
    )
    network.apply_to(text, model, apply_text_encoder=True, apply_unet=True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    path = tmp_path / "lycoris.safetensors"
    network.save_weights(path, torch.float32, {"ss_network_module": "lycoris.kohya"})
    merged = {}
    for name, base, layers in (
        ("unet", model, network.unet_loras),
        ("text_encoder", text, network.text_encoder_loras),
    ):
        start = "lora_unet_" if name == "unet" else "lora_te_"
        flat = {start + n.replace(".", "_"): n for n, _ in base.named_modules()}
        with torch.no_grad():
            merged[name] = {flat[x.lora_name]: x.get_merged_weight()[0].clone() for x in layers}
    return path, merged


@pytest.mark.parametrize("algo", ["diag-oft", "boft"])
def test_each_model_has_the_weights_that_lycoris_merges(tmp_path, monkeypatch, algo):
    path, merged = lycoris_file(tmp_path, monkeypatch, algo)
    with pytest.raises(FileError, match=r"adapts several models, .*--component"):
        convert(path, tmp_path / "x", model=tmp_path / "pipeline")
    for name, expected in merged.items():
        assert expected
        before, after = merged_pipeline(tmp_path, path, name)
        assert {k for k in before if not torch.equal(before[k], after[k])} == {
            f"{layer}.weight" for layer in expected
        }
        same({layer: after[f"{layer}.weight"] for layer in expected}, expected, 2e-6)


def test_the_component_must_exist(tmp_path, monkeypatch):
    path, _ = lycoris_file(tmp_path, monkeypatch, "diag-oft")
    options = {"model": tmp_path / "pipeline"}
    with pytest.raises(FileError, match="does not adapt text_encoder_2; it adapts"):
        convert(path, tmp_path / "x", component="text_encoder_2", **options)
    with pytest.raises(StructmatError, match="no such component"):
        convert(path, tmp_path / "x", component="vae", **options)
    with pytest.raises(StructmatError, match="no such program"):
        convert(path, tmp_path / "x", convention="loha", **options)
    save_adapter(ours(unet(), "butterfly(block=4)", target_modules=[QUERY]), tmp_path / "ours")
    with pytest.raises(FileError, match="is a pipeline of several models"):
        convert(tmp_path / "ours", tmp_path / "x", to="merged", **options)
    with pytest.raises(FileError, match="has no text_encoder_3"):
        convert(
            tmp_path / "ours", tmp_path / "x", to="merged", component="text_encoder_3", **options
        )


def renamed_checkpoint(config, path):
    """Save a U-Net in float64 with the original names, and return the names of its layers."""
    state = unet(config).double().state_dict()
    names = other_names(dict.fromkeys(key.rpartition(".")[0] for key in state))
    checkpoint = {}
    for key, value in state.items():
        layer, _, part = key.rpartition(".")
        checkpoint[f"model.diffusion_model.{names[layer]}.{part}"] = value
    checkpoint["first_stage_model.decoder.conv_in.weight"] = torch.zeros(2, 2)
    files.save_file(checkpoint, path)
    return names


@pytest.mark.parametrize("config", [DIFFUSERS, SDXL], ids=["small", "sdxl"])
@pytest.mark.parametrize("in_file", ["diffusers", "original"])
@pytest.mark.parametrize("in_model", ["diffusers", "original"])
def test_names_of_both_schemes_match_models_of_both(tmp_path, config, in_file, in_model):
    names = renamed_checkpoint(config, tmp_path / "original.safetensors")
    files.save_file(unet(config).double().state_dict(), tmp_path / "diffusers.safetensors")
    attention = next(name for name in names if name.endswith("attn2.to_k"))
    upsampler = next(name for name in names if "upsamplers" in name)
    torch.manual_seed(3)
    tensors = {}
    for name in (attention, upsampler):
        stem = "lora_unet_" + (name if in_file == "diffusers" else names[name]).replace(".", "_")
        width = unet(config).get_submodule(name).weight[0].numel()
        tensors[f"{stem}.oft_R.weight"] = 0.1 * torch.randn(width // 4, 6)
    files.save_file(tensors, tmp_path / "a.safetensors")
    model = tmp_path / f"{in_model}.safetensors"
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", to="merged", model=model)
    before, after = files.load_file(model), files.load_file(tmp_path / "b.safetensors")
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    start = "model.diffusion_model." if in_model == "original" else ""
    for name, triangles in zip((attention, upsampler), tensors.values(), strict=True):
        key = f"{start}{names[name] if in_model == 'original' else name}.weight"
        changed.remove(key)
        torch.testing.assert_close(
            after[key], merged_series(before[key], triangles), rtol=1e-12, atol=1e-12
        )
    assert not changed


DIFFUSERS_METHODS = {
    "OFT": {"oft_block_size": 4, "r": 0, "use_cayley_neumann": False},
    "BOFT": {"boft_block_size": 4, "boft_n_butterfly_factor": 1},
    "HRA": {"r": 4},
    "STRUCTMAT": {"topology": "shuffle(block=4)"},
}


def peft_config(method, target_modules):
    import structmat.peft

    made = {
        "OFT": peft.OFTConfig,
        "BOFT": peft.BOFTConfig,
        "HRA": peft.HRAConfig,
        "STRUCTMAT": structmat.peft.StructmatConfig,
    }
    return made[method](target_modules=target_modules, **DIFFUSERS_METHODS[method])


def merged_by_peft(make, state, config):
    """Return the weights that PEFT merges."""
    model = peft.get_peft_model(make(), config)
    peft.set_peft_model_state_dict(model, state)
    return model.merge_and_unload().state_dict()


@pytest.mark.filterwarnings("ignore:Failed to load the CUDA extension")
@pytest.mark.filterwarnings("ignore:Setting boft_n_butterfly_factor to 1")
@pytest.mark.parametrize("method", DIFFUSERS_METHODS)
def test_directories_of_save_lora_adapter_have_the_weights_that_peft_merges(tmp_path, method):
    saved_pipeline(tmp_path / "pipeline", unet=unet())
    model = unet()
    config = peft_config(method, ["to_q"])
    model.add_adapter(config)
    randomised(model, 1, 0.3)
    model.save_lora_adapter(tmp_path / "adapter")
    state = peft.get_peft_model_state_dict(model, adapter_name="default")
    expected = merged_by_peft(unet, {f"base_model.model.{k}": v for k, v in state.items()}, config)
    for place in (tmp_path / "adapter", next((tmp_path / "adapter").iterdir())):
        target = tmp_path / f"merged-{place.suffix}"
        convert(place, target, to="merged", model=tmp_path / "pipeline", component="unet")
        same(tensors_of(target), expected, 2e-6)
    with pytest.raises(FileError, match="omit convention=peft"):
        convert(tmp_path / "adapter", tmp_path / "x", model=model, convention="peft")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed")
@pytest.mark.parametrize("method", ["OFT", "STRUCTMAT"])
def test_files_of_save_lora_weights_have_one_configuration_per_model(tmp_path, method):
    from diffusers import StableDiffusionPipeline

    makers = {"unet": unet, "text_encoder": text_encoder}
    saved_pipeline(tmp_path / "pipeline", **{name: make() for name, make in makers.items()})
    states, options, configs = {}, {}, {}
    for name, make in makers.items():
        model = make()
        target = "to_q" if name == "unet" else "q_proj"
        configs[name] = peft_config(method, [target])
        model.add_adapter(configs[name])
        randomised(model, 1, 0.3)
        state = peft.get_peft_model_state_dict(model, adapter_name="default")
        states[name] = {f"base_model.model.{key}": value for key, value in state.items()}
        options[f"{name}_lora_layers"] = state
        config = {
            k: list(v) if isinstance(v, set) else v for k, v in configs[name].to_dict().items()
        }
        options[f"{name}_lora_adapter_metadata"] = config
    StableDiffusionPipeline.save_lora_weights(tmp_path / "adapter", **options)
    for name, make in makers.items():
        _, after = merged_pipeline(tmp_path, tmp_path / "adapter", name)
        expected = merged_by_peft(make, states[name], configs[name])
        same(after, {key: expected[key] for key in after}, 2e-6)


def test_metadata_without_a_configuration_is_rejected(tmp_path):
    tensors = {"unet.x.oft_R.weight": torch.zeros(2, 1)}
    path = tmp_path / "a.safetensors"
    for text, message in (
        ("{}", "has no peft_type"),
        ('{"peft_type": "LOHA"}', "LOHA is not"),
        ('{"peft_type": "BOFT"}', f"^{re.escape(str(path))} has no boft_R"),
    ):
        files.save_file(tensors, path, {"lora_adapter_metadata": text})
        with pytest.raises(FileError, match=message):
            convert(path, tmp_path / "x", model=unet())


@pytest.mark.parametrize("config", [DIFFUSERS, SDXL], ids=["small", "sdxl"])
@pytest.mark.parametrize("program", ["kohya", "comfyui"])
def test_exported_unets_have_the_names_of_the_program(tmp_path, config, program):
    saved_pipeline(tmp_path / "pipeline", unet=unet(config))
    names = other_names(name for name, _ in unet(config).named_modules())
    chosen = [n for n in names if n.endswith(("attn1.to_q", "0.conv2", "downsamplers.0.conv"))][:4]
    adapted = ours(unet(config), "block_diagonal(block=4)", side="outputs", target_modules=chosen)
    save_adapter(adapted, tmp_path / "ours")
    done = convert(
        tmp_path / "ours", tmp_path / "a.safetensors", to=program, model=tmp_path / "pipeline",
        component="unet",
    )  # fmt: skip
    tensors = files.load_file(tmp_path / "a.safetensors")
    start = "oft_unet_" if program == "kohya" else "lora_unet_"
    flat = {n: start + (names[n] if config is SDXL else n).replace(".", "_") for n in chosen}
    assert {key.rpartition(".")[0] for key in tensors} == set(flat.values())
    base = unet(config)
    found = {
        name: merged_oft(
            base.get_submodule(name).weight.detach(), tensors[f"{stem}.oft_blocks"],
            tensors[f"{stem}.alpha"], bounded=lambda alpha, outputs: alpha * outputs or None,
        )
        for name, stem in flat.items()
    }  # fmt: skip
    same(found, effective(adapted), 2e-6)
    metadata = metadata_of(tmp_path / "a.safetensors")
    assert done.metadata == {}
    version = "sdxl_base_v1-0" if config is SDXL else None
    assert metadata.get("ss_base_model_version") == version
    architecture = "stable-diffusion-xl-v1-base/lora" if config is SDXL else None
    assert metadata.get("modelspec.architecture") == architecture
    again = convert(tmp_path / "a.safetensors", tmp_path / "again", model=tmp_path / "pipeline")
    assert again.metadata == metadata
    assert set(again.layers) == set(chosen)


def test_text_encoders_have_the_names_of_the_program(tmp_path):
    models = {"unet": unet(), "text_encoder": text_encoder(), "text_encoder_2": text_encoder()}
    saved_pipeline(tmp_path / "pipeline", **models)
    name = "encoder.layers.1.self_attn.q_proj"
    for side, program, component in itertools.product(
        ("inputs", "outputs"), ("kohya", "comfyui", "lycoris"), ("text_encoder", "text_encoder_2")
    ):
        source, target = tmp_path / side, tmp_path / f"{side}-{program}-{component}.safetensors"
        adapted = ours(text_encoder(), "block_diagonal(block=4)", side=side, target_modules=[name])
        if not source.exists():
            save_adapter(adapted, source)
        options = {"to": program, "component": component, "model": tmp_path / "pipeline"}
        if (side == "inputs") != (program == "kohya"):
            with pytest.raises(FileError, match="rotate"):
                convert(source, target, **options)
            continue
        convert(source, target, **options)
        number = component.removeprefix("text_encoder").removeprefix("_") or "1"
        stem = f"lora_te{number}_text_model_encoder_layers_1_self_attn_q_proj"
        tensors = files.load_file(target)
        assert {key.split(".")[0] for key in tensors} == {stem}
        weight = text_encoder().get_submodule(name).weight.detach()
        if program == "kohya":
            found = merged_butterfly_inputs(
                weight, tensors[f"{stem}.boft_R"], tensors[f"{stem}.boft_s"]
            )
        else:
            found = merged_oft(weight, tensors[f"{stem}.oft_blocks"], None, bounded=unbounded)
        same({name: found}, effective(adapted), 2e-6)


def test_training_metadata_is_kept_and_the_network_described(tmp_path):
    metadata = {
        "ss_network_module": "networks.boft", "ss_tag_frequency": '{"10_hat": {"hat": 3}}',
        "ss_base_model_version": "sd_v1", "modelspec.title": "hats", "sshs_model_hash": "ab",
        "ss_sd_model_name": "base.safetensors", "ss_network_dim": "8",
    }  # fmt: skip
    torch.manual_seed(4)
    tensors = {
        "lora_unet_conv_in.boft_R": torch.randn(1, 18, 2, 2),
        "lora_unet_conv_in.boft_s": torch.rand(16, 1) + 0.5,
    }
    files.save_file(tensors, tmp_path / "a.safetensors", metadata)
    done = convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", to="kohya", model=unet())
    assert done.metadata == metadata
    assert json.loads(json.dumps(done.to_dict()))["metadata"] == metadata
    written = metadata_of(tmp_path / "b.safetensors")
    kept = ("ss_tag_frequency", "ss_base_model_version", "modelspec.title", "ss_sd_model_name")
    assert {key: written[key] for key in kept} == {key: metadata[key] for key in kept}
    assert written["ss_network_module"] == "networks.boft"
    assert written["ss_network_dim"] == "2"
    assert json.loads(written["ss_network_args"]) == {
        "enable_conv": "True", "boft_n_butterfly_factor": "1",
    }  # fmt: skip
    assert "sshs_model_hash" not in written


def test_a_second_copy_of_the_weights_in_another_dtype_is_disregarded(tmp_path):
    saved_pipeline(tmp_path / "pipeline", unet=unet())
    folder = tmp_path / "pipeline" / "unet"
    state = files.load_file(folder / "diffusion_pytorch_model.safetensors")
    halves = {key: value.half() for key, value in state.items()}
    files.save_file(halves, folder / "diffusion_pytorch_model.fp16.safetensors")
    save_adapter(ours(unet(), "butterfly(block=4)", target_modules=[QUERY]), tmp_path / "ours")
    options = {"to": "merged", "model": tmp_path / "pipeline", "component": "transformer"}
    done = convert(tmp_path / "ours", tmp_path / "merged", **options)
    assert files.load_file(tmp_path / "merged" / "diffusion_pytorch_model.safetensors").keys() == (
        state.keys()
    )
    assert any("diffusion_pytorch_model.fp16" in note for note in done.notes)


def test_lycoris_for_sd_scripts_loads_an_export(tmp_path, monkeypatch):
    kohya = pytest.importorskip("lycoris.kohya")
    names = {"UNET_TARGET_REPLACE_NAME": [], "UNET_TARGET_REPLACE_MODULE": ["Transformer2DModel"]}
    for name, value in names.items():
        monkeypatch.setattr(kohya.LycorisNetworkKohya, name, value)
    chosen = [QUERY, "down_blocks.0.resnets.0.conv1"]
    adapted = ours(unet(), "block_diagonal(block=4)", side="outputs", target_modules=chosen)
    save_adapter(adapted, tmp_path / "ours")
    target = tmp_path / "a.safetensors"
    convert(tmp_path / "ours", target, to="lycoris", component="unet")
    assert metadata_of(target)["ss_network_module"] == "lycoris.kohya"
    model = unet()
    network, _ = kohya.create_network_from_weights(1.0, target, None, None, model)
    flat = {f"lora_unet_{name.replace('.', '_')}": name for name in chosen}
    with torch.no_grad():
        found = {flat[x.lora_name]: x.get_merged_weight()[0] for x in network.unet_loras}
    same(found, effective(adapted), 2e-6)
