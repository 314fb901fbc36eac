"""LoRA of a given rank, or of the smallest ranks within a tolerance."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structmat.adapters import adapt, save_adapter
from structmat.convert import convert
from structmat.convert.lora import Limits, truncate
from structmat.errors import FileError, StructmatError
from structmat.testing import seeds
from tests.convert.models import effective, linears, ours, same

files = pytest.importorskip("safetensors.torch")


def decaying(rows, columns, seed, rate):
    """Return a matrix whose singular values decay geometrically."""
    rng = np.random.default_rng(seed)
    left, _ = np.linalg.qr(rng.normal(size=(rows, rows)))
    right, _ = np.linalg.qr(rng.normal(size=(columns, columns)))
    count = min(rows, columns)
    return (left[:, :count] * rate ** np.arange(count)) @ right[:count]


@given(st.integers(1, 9), st.integers(1, 9), seeds(), st.floats(0.3, 1.0), st.floats(1e-3, 0.999))
def test_the_rank_is_the_smallest_within_the_tolerance(rows, columns, seed, rate, tolerance):
    matrix = decaying(rows, columns, seed, rate)
    values = np.linalg.svd(matrix, compute_uv=False)
    errors = [np.linalg.norm(values[r:]) / np.linalg.norm(values) for r in range(len(values) + 1)]
    found = truncate(torch.from_numpy(matrix), torch.float64, Limits(tolerance=tolerance))
    left = matrix - (found.b @ found.a).numpy()
    assert found.error == pytest.approx(np.linalg.norm(left) / np.linalg.norm(matrix), rel=1e-6)
    assert found.error <= tolerance * (1 + 1e-8)
    assert found.error == pytest.approx(errors[found.rank], abs=1e-7)
    assert found.rank == 0 or errors[found.rank - 1] > tolerance * (1 - 1e-6)
    capped = truncate(torch.from_numpy(matrix), torch.float64, Limits(2, tolerance))
    assert capped.rank == min(2, found.rank)


@pytest.mark.parametrize("shape", [(120, 200), (200, 120), (150, 150)])
@pytest.mark.parametrize("limits", [Limits(5), Limits(tolerance=0.2), Limits(40, 0.05)])
def test_randomised_vectors_are_nearly_as_good_as_exact_ones(shape, limits):
    for rate in (0.8, 0.95, 1.0):
        matrix = torch.from_numpy(decaying(*shape, 0, rate))
        best = truncate(matrix, torch.float64, limits)
        found = truncate(matrix, torch.float64, replace(limits, svd="randomised"))
        assert found.error == pytest.approx(
            float((matrix - found.b @ found.a).norm() / matrix.norm()), rel=1e-9
        )
        assert best.rank <= found.rank <= 1.1 * best.rank + 1
        if found.rank == best.rank:
            assert best.error * (1 - 1e-9) <= found.error <= 1.05 * best.error
        if limits.tolerance is not None and limits.rank is None:
            assert found.error <= limits.tolerance * (1 + 1e-8)
        again = truncate(matrix, torch.float64, replace(limits, svd="randomised"))
        assert torch.equal(again.b, found.b)


def test_rounding_can_require_a_higher_rank_or_exceed_the_tolerance():
    matrix = torch.from_numpy(decaying(8, 8, 0, 0.2))
    fine = truncate(matrix, torch.float32, Limits(tolerance=1e-9))
    assert fine.rank == 8
    assert fine.error > 1e-9
    assert truncate(matrix, torch.float64, Limits(tolerance=1e-3)).rank < 8


def adapted(folder):
    """Save an adapter of which one layer is unchanged and one has a change of low rank."""
    one = ours(linears(), "shuffle(block=4)", size=0.02)
    with torch.no_grad():
        for g in one[0]["down"].rotation.generators:
            g[1:] = 0  # a single block, so that the change has a low rank
        for g in one[1].rotation.generators:
            g.zero_()
    save_adapter(one, folder)
    return one


def test_peft_loads_layers_of_different_ranks_with_the_reported_errors(tmp_path):
    peft = pytest.importorskip("peft")
    one = adapted(tmp_path / "ours")
    done = convert(tmp_path / "ours", tmp_path / "lora", to="lora", tolerance=0.05, model=linears())
    ranks = {name: row["rank"] for name, row in done.layers.items()}
    assert ranks["1"] == 0
    assert 0 < ranks["0.down"] < ranks["0.up"]
    settings = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert settings["r"] == settings["lora_alpha"] == ranks["0.up"]
    assert settings["rank_pattern"] == settings["alpha_pattern"] == {r"^0\.down": ranks["0.down"]}
    assert sorted(settings["target_modules"]) == ["0.down", "0.up"]
    assert any("1 layer omitted, because the adapter does not change" in n for n in done.notes)
    loaded = peft.PeftModel.from_pretrained(linears(), tmp_path / "lora").merge_and_unload()
    for name in ("0.up", "0.down"):
        before = linears().get_submodule(name).weight.detach().double()
        change = effective(one)[name].double() - before
        left = loaded.get_submodule(name).weight.detach().double() - before - change
        error = float(left.norm() / change.norm())
        assert error <= 0.05 + 1e-5
        assert done.layers[name]["of_change"] == pytest.approx(error, rel=1e-3)
        assert done.layers[name]["of_weight"] == pytest.approx(
            float(left.norm() / before.norm()), rel=1e-3
        )


def test_the_ranks_are_those_of_pefts_own_conversion(tmp_path):
    """PEFT takes the fraction of the squared change to keep, 1 − tolerance², as its rank."""
    peft = pytest.importorskip("peft")
    structmat_peft = pytest.importorskip("structmat.peft")
    torch.manual_seed(0)
    config = structmat_peft.StructmatConfig(
        topology="shuffle(block=4)", target_modules=["up", "down"], init_weights=False
    )
    model = peft.get_peft_model(linears(), config)
    model.save_pretrained(tmp_path / "theirs")
    settings, tensors = peft.convert_to_lora(model, rank=1 - 0.2**2)
    done = convert(
        tmp_path / "theirs", tmp_path / "lora", to="lora", tolerance=0.2, model=linears()
    )
    found = {name: row["rank"] for name, row in done.layers.items()}
    assert found == settings.rank_pattern == settings.alpha_pattern
    ours = files.load_file(tmp_path / "lora" / "adapter_model.safetensors")
    for name in found:
        product, other = (
            given[f"base_model.model.{name}.lora_B.weight"]
            @ given[f"base_model.model.{name}.lora_A.weight"]
            for given in (ours, tensors)
        )
        torch.testing.assert_close(product, other, rtol=1e-4, atol=1e-5)


def test_a_capped_rank_reports_the_layers_that_exceed_the_tolerance(tmp_path):
    adapted(tmp_path / "ours")
    done = convert(
        tmp_path / "ours", tmp_path / "lora", to="lora", tolerance=0.05, rank=12, model=linears()
    )
    assert done.layers["0.up"]["rank"] == 12
    assert 0 < done.layers["0.down"]["rank"] < 12
    error = done.layers["0.up"]["of_change"]
    assert error > 0.05
    assert (
        f"1 of 3 layers exceeds the tolerance 0.05, most of all 0.up ({error:.2g}); raise the rank"
        in (done.notes)
    )
    assert "rank" in str(done).splitlines()[2]
    small = files.load_file(tmp_path / "lora" / "adapter_model.safetensors")
    assert sum(value.nbytes for value in small.values()) == 4 * (
        12 * (32 + 64) + done.layers["0.down"]["rank"] * (32 + 64)
    )


def test_a_pattern_matches_only_the_whole_name(tmp_path):
    """The name of one layer is the end of another's."""
    peft = pytest.importorskip("peft")

    def make():
        torch.manual_seed(0)
        inner = nn.ModuleDict({"up": nn.Linear(8, 8)})
        return nn.ModuleDict({"up": nn.Linear(8, 8), "inner": inner}).eval()

    one = ours(make(), "shuffle(block=4)")
    with torch.no_grad():
        for g in one["up"].rotation.generators:
            g[1:] = 0
    save_adapter(one, tmp_path / "ours")
    done = convert(tmp_path / "ours", tmp_path / "lora", to="lora", tolerance=1e-3, model=make())
    assert done.layers["up"]["rank"] < done.layers["inner.up"]["rank"]
    loaded = peft.PeftModel.from_pretrained(make(), tmp_path / "lora").merge_and_unload()
    same(
        {name: loaded.get_submodule(name).weight.detach() for name in ("up", "inner.up")},
        effective(one),
        tolerance=1e-3,
    )


def test_diffusers_loads_one_file_with_layers_of_different_ranks(tmp_path):
    diffusers = pytest.importorskip("diffusers")

    def unet():
        torch.manual_seed(0)
        return diffusers.UNet2DConditionModel(
            sample_size=8,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=4,
        ).eval()

    one = ours(unet(), "shuffle(block=4)", target_modules=["to_q", "to_v"], size=0.1)
    save_adapter(one, tmp_path / "ours")
    path = tmp_path / "lora.safetensors"
    done = convert(tmp_path / "ours", path, to="lora", tolerance=0.3, prefix="unet", model=unet())
    assert len({row["rank"] for row in done.layers.values()}) > 1
    state, alphas, metadata = diffusers.StableDiffusionPipeline.lora_state_dict(
        path, return_lora_metadata=True
    )
    for known in (metadata, None):  # earlier versions of diffusers did not write metadata
        loaded = unet()
        loaded.load_lora_adapter(
            dict(state), network_alphas=alphas, metadata=known, prefix="unet", adapter_name="a"
        )
        loaded.fuse_lora()
        for name, row in done.layers.items():
            before = unet().get_submodule(name).weight.detach()
            left = loaded.get_submodule(name).base_layer.weight.detach() - effective(one)[name]
            change = effective(one)[name] - before
            assert float(left.norm() / change.norm()) == pytest.approx(row["of_change"], rel=1e-3)


@pytest.mark.parametrize("rank", [None, 3])
def test_the_sizes_of_files_are_reported(tmp_path, rank):
    save_adapter(ours(linears(), "shuffle(block=4)", target_modules=["up"]), tmp_path / "ours")
    done = convert(
        tmp_path / "ours", tmp_path / "lora", to="lora", rank=rank, tolerance=1e-3, model=linears()
    )
    note = done.notes[-1]
    assert note.startswith("the factors take ")
    assert ("a merged model (--to merged) is smaller and exact" in note) == (rank is None)
    assert "the weights that they change 8.19 kB" in note


def test_an_adapter_without_changes_is_refused(tmp_path):
    save_adapter(adapt(linears(), "shuffle(block=4)"), tmp_path / "ours")
    with pytest.raises(FileError, match="the adapter changes no weight"):
        convert(tmp_path / "ours", tmp_path / "lora", to="lora", rank=2, model=linears())
    assert not (tmp_path / "lora").exists()


@pytest.mark.parametrize("tolerance", [0, 1, -0.1, float("nan"), True, "0.1"])
def test_an_invalid_tolerance_is_refused(tmp_path, tolerance):
    with pytest.raises(StructmatError, match="it must be a number between 0 and 1"):
        convert(tmp_path, tmp_path / "lora", to="lora", tolerance=tolerance, model=linears())
    with pytest.raises(StructmatError, match="no other format takes one: --to lora --rank 16"):
        convert(tmp_path, tmp_path / "boft", to="peft-boft", tolerance=tolerance)


@pytest.mark.parametrize(("to", "svd"), [("lora", "fast"), ("peft-boft", "randomised")])
def test_an_invalid_svd_is_refused(tmp_path, to, svd):
    rank = 2 if to == "lora" else None
    with pytest.raises(StructmatError, match=f"svd='{svd}': it must be 'exact' or, for lora only"):
        convert(tmp_path, tmp_path / "out", to=to, svd=svd, rank=rank, model=linears())
