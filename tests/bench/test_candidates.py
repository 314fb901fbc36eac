import pytest
import torch
from torch import nn

from structmat.adapters import AdaptedLayer
from structmat.bench import candidates
from structmat.bench.candidates import (
    AGAINST,
    ALONE,
    DENSE,
    PARAMETRIZED,
    Candidate,
    alone,
    named,
    topology,
)
from structmat.bench.layer_benchmark import Batch, frozen_layer, training_step
from structmat.errors import MissingExtraError, SpecError, StructmatError

WIDTH, OUTPUTS = 64, 24
ABSENT = pytest.mark.skipif(AGAINST["lazylinop"].missing, reason="lazylinop is not installed")
ALL = [
    pytest.param(candidate, id=candidate.name, marks=[ABSENT] * (candidate.name == "lazylinop"))
    for candidate in (
        *AGAINST.values(),
        topology("butterfly(block=8, depth=2)"),
        topology("mixed_radix"),
    )
]


def batch(dtype=torch.float32):
    source = torch.Generator().manual_seed(5)
    x = torch.randn(7, WIDTH, generator=source).to(dtype).requires_grad_()
    return Batch(x, torch.randn(7, OUTPUTS, generator=source).to(dtype))


@pytest.mark.parametrize("candidate", ALL)
def test_every_candidate_starts_as_the_frozen_layer(candidate):
    layer = frozen_layer(WIDTH, OUTPUTS, torch.float32)
    x = batch().inputs
    expected = x @ layer.weight.T + layer.bias
    found = candidate.build(layer.linear())(x)
    size = torch.linalg.vector_norm(x, dim=-1).max() * torch.linalg.matrix_norm(layer.weight)
    assert (found - expected).abs().max() <= 8 * torch.finfo(torch.float32).eps * size


@pytest.mark.parametrize("candidate", ALL)
def test_a_step_changes_the_adapter_and_not_the_frozen_layer(candidate):
    layer = frozen_layer(WIDTH, OUTPUTS, torch.float32)
    weight, bias = layer.weight.clone(), layer.bias.clone()
    module = candidate.build(layer.linear())
    before = [p.detach().clone() for p in module.parameters() if p.requires_grad]
    activations = batch()
    training_step(module, Batch(activations.inputs, 1e6 * activations.gradient))()
    trained = [p for p in module.parameters() if p.requires_grad]
    assert bool(trained) is (candidate.name != "frozen")
    assert all(p.grad is None for p in module.parameters())
    assert activations.inputs.grad is None
    if trained:
        assert any(not torch.equal(p, q) for p, q in zip(trained, before, strict=True))
    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer.bias, bias)


def test_candidates_share_the_weight():
    layer = frozen_layer(WIDTH, OUTPUTS, torch.float32)
    assert layer.linear().weight.data_ptr() == layer.weight.data_ptr()


def test_a_dense_rotation_agrees_with_an_adapter():
    layer = frozen_layer(WIDTH, OUTPUTS, torch.float32)
    rotated, adapter = (
        named("dense").build(layer.linear()),
        topology("monarch").build(layer.linear()),
    )
    assert isinstance(adapter, AdaptedLayer)
    with torch.no_grad():
        for generators in adapter.rotation.parameters():
            nn.init.normal_(generators, std=0.3)
        rotated.rotation.weight.copy_(adapter.rotation.matrix().T)
        x = batch().inputs
        torch.testing.assert_close(rotated(x), adapter(x), rtol=1e-4, atol=1e-4)


def test_torchs_orthogonal_parametrization_stays_orthogonal():
    module = named("parametrization").build(frozen_layer(WIDTH, OUTPUTS, torch.float32).linear())
    activations = batch()
    training_step(module, Batch(activations.inputs, 1e4 * activations.gradient))()
    rotation = module.rotation.weight
    assert not torch.equal(rotation, torch.eye(WIDTH))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(WIDTH), rtol=0, atol=WIDTH * 1.2e-7)


@pytest.mark.parametrize(
    ("name", "width", "dtype", "reason"),
    [
        ("parametrization", PARAMETRIZED + 1, torch.float32, "too large"),
        ("parametrization", 8, torch.bfloat16, "only float32"),
        ("dense", DENSE + 1, torch.float32, "too large"),
        ("boft", DENSE + 1, torch.float32, "too large"),
        ("hra", DENSE // 4 + 1, torch.float32, "up to 4,096 wires"),
        ("boft", 12, torch.float32, "PEFT raised an error"),
    ],
)
def test_unmeasurable_candidates_state_the_reason(name, width, dtype, reason):
    with pytest.raises(StructmatError, match=reason):
        named(name).build(frozen_layer(width, 4, dtype).linear())


def test_an_unknown_name_is_refused_with_a_suggestion():
    with pytest.raises(SpecError, match="did you mean lora"):
        named("lore")


def test_missing_libraries_are_reported_with_the_remedy(monkeypatch):
    absent = Candidate("oft", "OFT", lambda layer: layer, "no_such_library")
    monkeypatch.setattr(candidates, "AGAINST", {"oft": absent})
    assert absent.missing
    with pytest.raises(MissingExtraError, match=r"pip install .*finetune"):
        named("oft")


def test_block_sizes_changed_by_peft_are_reported():
    for width in (64, 48, 33):
        module = named("oft").build(frozen_layer(width, 4, torch.float32).linear())
        said = named("oft").remark(module)
        block = round((1 + (1 + 8 * module.oft_R["default"].weight.shape[1]) ** 0.5) / 2)
        assert (block == 32) is (said is None) is (width == 64)
        assert said is None or f"has blocks of {block} at width {width}" in said


def test_factors_omitted_by_peft_are_reported():
    module = named("boft").build(frozen_layer(WIDTH, OUTPUTS, torch.float32).linear())
    said = named("boft").remark(module)
    factors = module.boft_R["default"].shape[0]
    assert (said is None) if factors == 4 else f"created {factors} of the 4" in said


@pytest.mark.parametrize(("width", "outputs"), [(64, 64), (32, 100), (33, 10)])
def test_parameter_counts_are_near_those_of_lora(width, outputs):
    layer = frozen_layer(width, outputs, torch.float32)
    counts = {
        name: sum(
            p.numel() for p in named(name).build(layer.linear()).parameters() if p.requires_grad
        )
        for name in ("lora", "hra", "road", "psoft")
    }
    rank = named("psoft").build(layer.linear()).r["default"]
    assert counts["psoft"] == rank * (rank + 3) // 2 <= counts["lora"]
    assert rank == min(width, outputs) or (rank + 1) * (rank + 4) // 2 > counts["lora"]
    assert counts["hra"] == 16 * width
    assert counts["road"] == 4 * outputs


def test_the_rank_of_psoft_is_reported():
    module = named("psoft").build(frozen_layer(64, 64, torch.float32).linear())
    assert "PSOFT has rank 43 at width 64" in named("psoft").remark(module)


@pytest.mark.parametrize(
    "candidate",
    [
        pytest.param(candidate, id=candidate.name, marks=[ABSENT] * (name == "lazylinop"))
        for name, candidate in (ALONE | {"shuffle": alone(topology("shuffle(block=4)"))}).items()
    ],
)
def test_operations_timed_alone_map_vectors_to_vectors_of_equal_width(candidate):
    module = candidate.build(frozen_layer(WIDTH, WIDTH, torch.float32).linear())
    x = batch().inputs
    y = module(x)
    assert y.shape == x.shape
    assert y.data_ptr() != x.data_ptr()
    if candidate.name != "lora":  # the others start as the identity
        torch.testing.assert_close(y, x)
    said = candidate.remark(module)
    assert (said is None) is (candidate.name != "lazylinop")
