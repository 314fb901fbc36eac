"""Audits agree with measurements on dense matrices, in memory and for every file format."""

import json
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from torch import nn

from structmat.adapters import adapt, adapters, merge, save_adapter
from structmat.audit import audit
from structmat.convert import convert
from structmat.errors import FileError, StructmatError
from structmat.testing import networks, seeds
from tests.adapters.layouts.layers import CONVOLUTIONS, can_scale, flags, layers
from tests.random_modules import randomised, state, unchanged

pytest.importorskip("transformers.pytorch_utils")  # of the layers that are drawn
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def groups_of(layer, weight, side):
    """Return the matrices whose rows are compared, computed independently."""
    w = weight.detach().double()
    if isinstance(layer, nn.Embedding):
        return [w[w.norm(dim=1) > 0]]  # the entry for padding has no direction
    if isinstance(layer, CONVOLUTIONS):
        if side == "outputs":
            return [w.flatten(1).T]
        return list(w.flatten(1).reshape(layer.groups, -1, math.prod(w.shape[1:])))
    w = w if isinstance(layer, nn.Linear) else w.T
    return [w.T if side == "outputs" else w]


def angles(rows):
    unit = rows / rows.norm(dim=1, keepdim=True)
    half = (unit[:, None] - unit[None]).norm(dim=-1) / 2
    return 2 * half.clamp(max=1).arcsin()


def energy(rows):
    unit = rows / rows.norm(dim=1, keepdim=True)
    pairs = [(i, j) for j in range(len(rows)) for i in range(j)]
    return sum(1 / float((unit[i] - unit[j]).norm()) for i, j in pairs)


@given(layers(), flags, flags, seeds())
@settings(max_examples=60)
def test_an_audit_agrees_with_dense_matrices(drawn, scale, merged, seed):
    layer, _ = drawn
    side = "outputs" if seed % 2 else "inputs"
    plain = layer.weight.detach().clone()
    assume(all(len(rows) > 1 and rows.shape[1] > 1 for rows in groups_of(layer, plain, side)))
    groups = getattr(layer, "groups", 1)
    assume(groups_of(layer, plain, "outputs")[0].shape[1] > groups)
    one = randomised(
        adapt(
            layer, "mixed_radix", target_modules=".*", side=side, scale=scale and can_scale(layer)
        ),
        seed,
    )
    if merged:
        merge(one)
    one.train(seed % 3 == 0)
    before = state(one)
    (row,) = audit(one).layers.values()
    assert unchanged(one, before)
    assert one.merged == merged
    assert {m.training for m in one.modules()} == {seed % 3 == 0}
    eps = torch.finfo(plain.dtype).eps
    assert row["orthogonality_error"] <= 1e-5
    assert row.get("merge_difference", 0.0) <= 60 * len(plain.flatten()) * eps
    new = one.weight.detach() if merged else one.merged_weight()
    values, angle, total, after = 0.0, 0.0, 0.0, 0.0
    for old_rows, new_rows in zip(
        groups_of(layer, plain, side), groups_of(layer, new, side), strict=True
    ):
        a, b = torch.linalg.svdvals(old_rows), torch.linalg.svdvals(new_rows)
        values = max(values, float((a - b).abs().max()))
        angle = max(angle, float((angles(old_rows) - angles(new_rows)).abs().max()))
        total += energy(old_rows)
        after += energy(new_rows)
    top = max(float(torch.linalg.svdvals(r)[0]) for r in groups_of(layer, plain, side))
    assert row["singular_value_drift"] == pytest.approx(values / top, abs=1e-7)
    assert row["angle_drift"] == pytest.approx(angle, abs=1e-6)
    assert row["energy"] == pytest.approx(total, rel=1e-6)
    assert row["energy_drift"] == pytest.approx(abs(after - total) / total, abs=1e-6)
    mixed = side == "outputs" or isinstance(layer, nn.Embedding)  # by the scales
    if not mixed and (one.scale is None or bool((one.scale > 0).all())):
        assert row["angle_drift"] <= 10 * eps + 1e-5  # neurons keep their angles


@given(networks(wired=False), seeds())
def test_orthogonality_error_and_angles_match_the_blocks(net, seed):
    one = randomised(adapt(nn.Linear(net.width, 2), net, target_modules=".*"), seed)
    with torch.no_grad():
        row = audit(one).layers[""]
    r = one.rotation.matrix(torch.float64).detach()
    error = (r.T @ r - torch.eye(net.width)).abs().max()
    assert row["orthogonality_error"] == pytest.approx(float(error), abs=1e-5)
    blocks = iter(one.rotation.blocks(torch.float64))
    for stage, found in zip(net.stages, row["stages"], strict=True):
        every = [
            np.abs(np.angle(np.linalg.eigvals(block.detach().numpy())))
            for _ in stage.banks
            for block in next(blocks)
        ]
        every = np.concatenate(every) if every else np.zeros(1)
        assert found["largest"] == pytest.approx(every.max(), abs=1e-3)
        assert found["mean"] == pytest.approx(every.mean(), abs=1e-3)


def test_scales_change_singular_values_but_not_angles():
    torch.manual_seed(0)
    one = adapt(nn.Linear(8, 5), "butterfly", target_modules=".*", scale=True)
    with torch.no_grad():
        one.scale.copy_(torch.tensor([1.0, 2.0, 1.0, 1.0, 0.5]))
    row = audit(one).layers[""]
    assert row["singular_value_drift"] > 0.1
    assert row["angle_drift"] < 1e-6
    assert row["energy_drift"] < 1e-6


def test_most_limits_the_number_of_measured_neurons():
    torch.manual_seed(0)
    one = randomised(adapt(nn.Linear(16, 40), "butterfly", target_modules=".*"), 0)
    few, every = audit(one, most=5).layers[""], audit(one).layers[""]
    assert few["energy"] < every["energy"]
    assert few["angle_drift"] < 1e-5
    with pytest.raises(StructmatError, match="most=1: most must be an integer ≥ 2"):
        audit(one, most=1)


def test_merging_that_rounds_the_change_away_is_a_warning():
    torch.manual_seed(0)
    one = adapt(nn.Linear(16, 8).bfloat16(), "butterfly", target_modules=".*")
    randomised(one, 0, 1e-3)
    found = audit(one)
    assert found.layers[""]["rounding_lost"] > 0.1
    assert "merging rounds to bfloat16, which loses" in found.warnings[0]
    assert (
        audit(randomised(adapt(nn.Linear(16, 8), "butterfly", target_modules=".*"), 0)).warnings
        == []
    )


def test_bfloat16_parameters_are_a_warning():
    one = adapt(nn.Linear(16, 8), "butterfly", target_modules=".*").bfloat16()
    assert "parameters in bfloat16: small training steps" in audit(one).warnings[0]


@pytest.mark.parametrize("training", [False, True])
def test_the_audit_ignores_dropout_and_training_mode(training):
    one = randomised(
        adapt(nn.Linear(8, 5), "butterfly", target_modules=".*", dropout=(1.0, 1.0), scale=True), 0
    ).train(training)
    one.base_layer.train(not training)
    modes = [m.training for m in one.modules()]
    row = audit(one).layers[""]
    assert [m.training for m in one.modules()] == modes
    assert row["merge_difference"] <= 1e-5
    assert row["orthogonality_error"] <= 1e-5
    assert row["rounding_lost"] <= 1e-5  # of a change by rotation and scale
    assert row == audit(one.eval()).layers[""]


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("merged", [False, True])
def test_inputs_and_outputs_are_measured_in_sequence(scale, training, merged):
    """The inputs start from the plain weight; the outputs, with the scale, from that result."""
    peft = pytest.importorskip("peft")
    from structmat.peft import StructmatConfig

    torch.manual_seed(0)
    settings = {"side": "both", "scale": scale, "dropout": (1.0, 1.0), "target_modules": ["0"]}
    config = StructmatConfig(topology="mixed_radix", **settings)
    model = randomised(peft.get_peft_model(nn.Sequential(nn.Linear(8, 6)), config), 0)
    model.train(training)
    layer = model.base_model.model[0]
    plain = layer.base_layer.weight.detach().clone()
    name = layer.active_adapters[0]
    r, p = (
        side[name].matrix().detach() for side in (layer.structmat_inputs, layer.structmat_outputs)
    )
    if merged:
        layer.merge()
    rows = audit(model).layers
    assert list(rows) == ["0 (inputs)", "0 (outputs)"]
    assert layer.merged == merged
    assert all(m.training == training for m in layer.modules())
    between = plain @ r.T
    after = p @ between
    if scale:
        factors = layer.structmat_scale[name].detach()
        assert (factors - 1).abs().max() > 0.1
        after = factors[:, None] * after
    steps = [(plain, between), (between.T, after.T)]  # neurons, then columns
    for row, (old, new) in zip(rows.values(), steps, strict=True):
        a, b = torch.linalg.svdvals(old), torch.linalg.svdvals(new)
        drift = float((a - b).abs().max() / a[0])
        assert row["singular_value_drift"] == pytest.approx(drift, abs=1e-5)
        angle = float((angles(old) - angles(new)).abs().max())
        assert row["angle_drift"] == pytest.approx(angle, abs=1e-4)
        assert row["energy"] == pytest.approx(energy(old), rel=1e-5)
        assert row["rounding_lost"] <= 1e-5
    first, second = rows.values()
    assert first["singular_value_drift"] < 1e-5
    assert (second["singular_value_drift"] > 1e-2) == scale
    assert "merge_difference" not in first
    assert "merge_difference" in second
    assert second.get("merge_difference", 0.0) <= 1e-5


def test_generators_without_a_finite_exponential_are_a_warning():
    options = {"target_modules": ".*", "generator_scaling": "none"}
    one = adapt(nn.Linear(4, 2), "butterfly(block=4)", parametrization="exp", **options)
    with torch.no_grad():
        one.rotation.generators[0].fill_(1e20)
    assert "contains NaN or infinity" in audit(one).warnings[0]
    with pytest.raises(StructmatError, match="rounding makes their angles meaningless"):
        merge(one)
    assert not one.merged


def test_rotations_near_180_degrees_and_invalid_blocks_are_warnings():
    options = {"target_modules": ".*", "generator_scaling": "none"}
    one = adapt(nn.Linear(2, 2), "butterfly", **options)
    with torch.no_grad():
        one.rotation.generators[0].fill_(20.0)
    assert "a block rotates by 174°" in audit(one).warnings[0]
    two = adapt(nn.Linear(2, 2), "butterfly", parametrization="exp", **options)
    with torch.no_grad():
        two.rotation.generators[0].fill_(3.1)
    assert audit(two).layers[""]["stages"][0]["largest"] == pytest.approx(3.1)
    assert audit(two).warnings == []  # exponentials have no singularity there
    with torch.no_grad():
        one.rotation.generators[0].fill_(math.nan)
    found = audit(one)
    assert "contains NaN or infinity" in found.warnings[0]
    assert found.to_dict()["layers"][""]["orthogonality_error"] is None
    assert "inf" in str(found)


# Files ----------------------------------------------------------------------------------------

files = pytest.importorskip("safetensors.torch")


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))


@pytest.fixture
def folder(tmp_path):
    one = randomised(adapt(make(), "mixed_radix"), 0)
    save_adapter(one, tmp_path / "ours")
    (tmp_path / "model").mkdir()
    files.save_file(dict(make().state_dict()), tmp_path / "model" / "model.safetensors")
    convert(tmp_path / "ours", tmp_path / "merged", to="merged", model=tmp_path / "model")
    return tmp_path


def test_an_audit_of_files_agrees_with_the_model_in_memory(folder):
    one = randomised(adapt(make(), "mixed_radix"), 0)
    memory = audit(one).layers
    by_file = audit(folder / "ours", model=folder / "model").layers
    by_model = audit(folder / "ours", model=make()).layers
    assert list(memory) == list(by_file) == list(by_model) == list(adapters(one))
    for name, row in memory.items():
        for other in (by_file[name], by_model[name]):
            for key in (
                "singular_value_drift",
                "angle_drift",
                "energy_drift",
                "orthogonality_error",
            ):
                assert other[key] == pytest.approx(row[key], abs=2e-6)
            assert other["energy"] == pytest.approx(row["energy"])
            for a, b in zip(other["stages"], row["stages"], strict=True):
                assert a["largest"] == pytest.approx(b["largest"], abs=1e-3)


def test_an_adapter_can_be_audited_without_its_model(folder):
    rows = audit(folder / "ours").layers
    assert "stages" in rows["0"]
    assert "energy" not in rows["0"]


def test_a_finetuned_model_is_compared_with_the_pretrained(folder):
    rows = audit(folder / "merged", model=folder / "model").layers
    assert list(rows) == ["0.weight", "2.weight"]
    assert rows["0.weight"]["angle_drift"] < 1e-5
    torch.manual_seed(1)
    noisy = {k: v + 0.1 * torch.randn_like(v) for k, v in make().state_dict().items()}
    files.save_file(noisy, folder / "noisy.safetensors")
    rows = audit(folder / "noisy.safetensors", model=folder / "model").layers
    assert rows["0.weight"]["angle_drift"] > 0.01
    assert rows["0.weight"]["singular_value_drift"] > 0.01


def test_audit_reports_a_truncated_cayley_series_as_non_orthogonal(folder):
    theirs = folder / "theirs"
    theirs.mkdir()
    x = 0.5 * torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    files.save_file({"0.oft_R.weight": x}, theirs / "adapter_model.safetensors")
    settings = {"peft_type": "OFT", "use_cayley_neumann": True, "peft_version": "0.21.2"}
    (theirs / "adapter_config.json").write_text(json.dumps(settings))
    found = audit(theirs, model=make())
    assert found.layers["0"]["orthogonality_error"] > 1e-3
    assert found.layers["0"]["singular_value_drift"] > 1e-3
    assert "as is typical of blocks from a truncated series" in found.warnings[0]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("missing", {}, "missing: no such file or directory"),
        ("model", {}, "is a model, not an adapter; give the pretrained model"),
        ("ours", {"model": nn.Linear(2, 2)}, "0 has no weight in this model"),
        (
            "model",
            {"model": nn.Linear(2, 2)},
            "no matrix has the same name as one in the pretrained model",
        ),
        (
            "model",
            {"model": nn.Sequential(nn.Linear(3, 3))},
            r"0\.weight has shape .6, 8., but .3, 3.",
        ),
    ],
)
def test_mismatched_files_are_rejected(folder, source, options, message):
    with pytest.raises(FileError, match=message):
        audit(folder / source, **options)


def test_models_without_adapters_and_a_redundant_model_are_refused():
    with pytest.raises(StructmatError, match="no adapters to audit"):
        audit(make())
    with pytest.raises(StructmatError, match="contains the pretrained weights; omit model="):
        audit(adapt(make(), "mixed_radix"), model=make())


def test_an_audit_has_text_json_and_html(folder):
    found = audit(folder / "ours", model=folder / "model")
    text = str(found)
    assert "|RᵀR − I|" in text
    assert "angles by stage: the largest angle" in text
    assert json.loads(json.dumps(found.to_dict()))["layers"]["0"]["side"] == "inputs"
    page = found.to_html()
    assert page.count("<table>") == page.count("</table>") == 1
    assert found._repr_html_() in page
    assert "<td>0</td>" in page


def test_the_html_page_explains_its_columns(folder):
    """merge_difference exists only for models in memory."""
    for found, there in (
        (audit(folder / "ours", model=folder / "model"), False),
        (audit(adapt(make(), "mixed_radix")), True),
    ):
        page = found.to_html()
        assert ("merged − unmerged" in page) == there
        cells = re.findall(r"<td([^>]*)>[^<]*\de[-+]\d+</td>", page)
        assert cells
        assert all("white-space:nowrap" in attributes for attributes in cells)
