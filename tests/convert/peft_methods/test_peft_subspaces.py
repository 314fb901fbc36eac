"""PEFT's OFT of embeddings, PSOFT and RoAd; PEFT's merged weights are the oracle."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structmat.adapters import adapters, load_adapter, save_adapter
from structmat.convert import convert
from structmat.convert.peft_methods.peft_road import _factored
from structmat.errors import FileError
from structmat.testing import seeds
from tests.convert.models import copied, linears, merged_weights, ours, same
from tests.convert.peft_methods.test_peft import load, safetensors_load, save, trained

peft = pytest.importorskip("peft")


def tokens(rows=11):
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(rows, 16), nn.Linear(16, 8)).eval()


OFT = {
    "exact": {"use_cayley_neumann": False},
    "series": {},
    "shared": {"use_cayley_neumann": False, "block_share": True},
    "constrained": {"use_cayley_neumann": False, "coft": True, "eps": 0.05},
}


@pytest.mark.parametrize("name", OFT)
def test_oft_of_an_embedding_is_converted_in_both_directions(tmp_path, name):
    config = peft.OFTConfig(
        oft_block_size=4, target_modules=["0", "1"], init_weights=False, **OFT[name]
    )
    size = 0.03 if name == "series" else 0.2
    theirs = trained(tokens(), config, tmp_path / "theirs", size=size)
    assert any("oft_embedding_R" in k for k in safetensors_load(tmp_path / "theirs" / TENSORS))
    convert(tmp_path / "theirs", tmp_path / "ours", model=tokens())
    same(merged_weights(tokens(), tmp_path / "ours"), theirs)
    convert(tmp_path / "ours", tmp_path / "again", to="peft-oft")
    loaded = peft.PeftModel.from_pretrained(tokens(), tmp_path / "again")
    x = torch.arange(11)
    same({"y": loaded(x).detach()}, {"y": run(theirs, x)})
    same(dict(loaded.merge_and_unload().state_dict()), theirs)


TENSORS = "adapter_model.safetensors"


def run(weights, x):
    model = tokens()
    model.load_state_dict(weights)
    return model(x).detach()


def test_rotated_outputs_of_an_embedding_are_written_as_oft(tmp_path):
    one = ours(tokens(), "block_diagonal(block=4)", target_modules=["0"], side="outputs")
    save_adapter(one, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "theirs", to="peft-oft")
    loaded = peft.PeftModel.from_pretrained(tokens(), tmp_path / "theirs").merge_and_unload()
    same({"0": loaded[0].weight.detach()}, {"0": one[0].weight.detach()})


# PSOFT ------------------------------------------------------------------------------------------

PSOFT = {
    "rotation": {"psoft_mag_a": False, "psoft_mag_b": False},
    "magnitudes": {},
    "series": {
        "psoft_mag_a": False,
        "psoft_mag_b": False,
        "use_cayley_neumann": True,
        "cayley_neumann_eps": 0.3,
    },
    "free": {"psoft_orth": False, "psoft_mag_a": False},
    "symmetric": {"ab_svd_init": "pissa_init"},
}


@pytest.mark.parametrize("name", PSOFT)
def test_psoft_has_pefts_merged_weights(tmp_path, name):
    config = peft.PsoftConfig(
        r=6, psoft_alpha=9, target_modules=["up", "down"], init_weights=False, **PSOFT[name]
    )
    model = linears()
    theirs = trained(copied(model, linears()), config, tmp_path / "theirs")
    save(model, tmp_path / "model")
    where = tmp_path / "model"
    done = convert(tmp_path / "theirs", tmp_path / "merged", to="merged", model=where)
    assert any("their signs may differ" in note for note in done.notes)
    same(load(tmp_path / "merged"), theirs, 3e-6)
    done = convert(tmp_path / "theirs", tmp_path / "lora", to="lora", rank=6, model=where)
    assert max(row["of_change"] for row in done.layers.values()) < 1e-4
    loaded = peft.PeftModel.from_pretrained(linears(), tmp_path / "lora").merge_and_unload()
    same(dict(loaded.state_dict()), theirs, 1e-5)
    if name == "rotation":
        convert(tmp_path / "theirs", tmp_path / "ours", model=where)
        same(merged_weights(linears(), tmp_path / "ours"), theirs, 1e-5)
    else:
        with pytest.raises(FileError, match=r"deviate from orthogonality by .* trained magnitudes"):
            convert(tmp_path / "theirs", tmp_path / "ours", model=where)
        assert not (tmp_path / "ours").exists()


def test_psoft_of_a_low_rank_svd_is_read_only_if_its_vectors_are_singular_vectors(tmp_path):
    options = {"psoft_mag_a": False, "psoft_mag_b": False, "psoft_svd": "lowrank"}

    def make(seed=0):
        """Return a layer whose singular values decay fast enough for the randomised algorithm."""
        torch.manual_seed(seed)
        layer = nn.Linear(12, 20)
        left, _, right = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
        layer.weight.data = left * 0.5 ** torch.arange(12) @ right
        return nn.Sequential(layer, nn.ReLU())

    for steps, fits in ((10, True), (0, False)):
        config = peft.PsoftConfig(
            r=4, target_modules=["0"], psoft_svd_lowrank_niter=steps, init_weights=False, **options
        )
        folder = tmp_path / str(steps)
        theirs = trained(make(), config, folder)
        if fits:
            convert(folder, tmp_path / "ours", model=make())
            same(merged_weights(make(), tmp_path / "ours"), theirs, 1e-5)
        else:
            with pytest.raises(FileError, match="yields singular vectors with the relative error"):
                convert(folder, tmp_path / "no", model=make())
    with pytest.raises(FileError, match="which its files do not contain; give the pretrained"):
        convert(tmp_path / "10", tmp_path / "no")


# RoAd -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["road_1", "road_2", "road_4"])
@pytest.mark.parametrize("targets", [["up", "down"], ["0.up"]])
def test_road_has_pefts_merged_weights_and_biases(tmp_path, variant, targets):
    config = peft.RoadConfig(
        variant=variant, group_size=8, target_modules=targets, init_weights=False
    )
    model = linears()
    theirs = trained(copied(model, linears()), config, tmp_path / "theirs")
    assert not torch.equal(theirs["0.up.bias"], model[0]["up"].bias)
    save(model, tmp_path / "model")
    where = tmp_path / "model"
    convert(tmp_path / "theirs", tmp_path / "merged", to="merged", model=where)
    same(load(tmp_path / "merged"), theirs)
    convert(tmp_path / "theirs", tmp_path / "lora", to="lora", rank=64, model=where)
    loaded = peft.PeftModel.from_pretrained(linears(), tmp_path / "lora").merge_and_unload()
    same(dict(loaded.state_dict()), theirs)
    if variant == "road_1":
        convert(tmp_path / "theirs", tmp_path / "ours", model=where)
        same(merged_weights(linears(), tmp_path / "ours"), theirs)
        layer = adapters(load_adapter(linears(), tmp_path / "ours"))["0.up"]
        assert layer.rotation.network.stages[0].banks[0].reads[1].tolist() == [1, 5]
    else:
        with pytest.raises(FileError, match="deviate from orthogonality by"):
            convert(tmp_path / "theirs", tmp_path / "ours", model=where)


@given(st.integers(1, 6), seeds(), st.booleans())
def test_the_factors_of_pairs_multiply_to_their_coefficients(count, seed, with_zeros):
    """Pairs of `road_2` whose angles agree modulo 180° are rotations with scales."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-4, 4, count)
    scales = rng.normal(size=(count, 2)) * (rng.random((count, 2)) < (0.5 if with_zeros else 1))
    rotation = np.stack(
        [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1
    ).reshape(-1, 2, 2)
    pairs = torch.from_numpy(scales[:, :, None] * rotation)
    blocks, found = _factored(pairs)
    assert found is not None
    torch.testing.assert_close(found[:, :, None] * blocks, pairs)
    torch.testing.assert_close(blocks @ blocks.mT, torch.eye(2).double().expand(count, 2, 2))
    assert bool((torch.linalg.det(blocks) > 0).all())


def test_pairs_of_road_2_with_equal_angles_are_rotations(tmp_path):
    config = peft.RoadConfig(
        variant="road_2", group_size=4, target_modules=["0.up"], init_weights=False
    )
    model = peft.get_peft_model(linears(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "road_theta" in name:
                grouped = parameter.view(-1, 2, 2)
                grouped[:, 1] = grouped[:, 0]
    model.save_pretrained(tmp_path / "theirs")
    theirs = {k: v.detach().clone() for k, v in model.merge_and_unload().state_dict().items()}
    convert(tmp_path / "theirs", tmp_path / "ours", model=linears())
    same(merged_weights(linears(), tmp_path / "ours"), theirs)


@pytest.mark.parametrize(
    ("settings", "tensors", "message"),
    [
        ({"variant": "road_3"}, {}, "one of the variants road_1, road_2, road_4, not road_3"),
        ({}, {"road_alpha": torch.ones(3)}, "needs road_theta and road_alpha of the same shape"),
        ({"group_size": 7}, {}, r"\(32,\) numbers of road_1 do not form groups of 7 outputs"),
    ],
)
def test_malformed_road_files_are_rejected(tmp_path, settings, tensors, message):
    save_file = pytest.importorskip("safetensors.torch").save_file
    (tmp_path / "road").mkdir()
    given = {"road_theta": torch.zeros(32), "road_alpha": torch.ones(32)} | tensors
    save_file(
        {f"base_model.model.0.up.{k}": v for k, v in given.items()}, tmp_path / "road" / TENSORS
    )
    config = {"peft_type": "ROAD", "variant": "road_1", "group_size": 8} | settings
    (tmp_path / "road" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(FileError, match=message):
        convert(tmp_path / "road", tmp_path / "ours", model=linears())
    with pytest.raises(FileError, match="RoAd also rotates the biases of layers"):
        convert(tmp_path / "road", tmp_path / "ours")
