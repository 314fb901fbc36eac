"""The GPU benchmark at small sizes in Triton's interpreter."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import structmat as sm
from structmat.bench import gpu
from structmat.bench.llama import Block, Lora, Shape, frozen, with_lora
from structmat.errors import StructmatError
from structmat.nn.ops.backends import triton

pytest.importorskip("triton")

SMALL = gpu.Setting(
    "mixed_radix(largest=8)",
    Shape(16, 24, heads=4, groups=2),
    tokens=20,
    length=10,
    rank=2,
    rounds=1,
    calls=1,
)


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what there is without a GPU")
def test_without_a_gpu_the_error_is_one_line():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "structmat.bench.gpu"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == ("python -m structmat.bench.gpu: no GPU: torch finds no CUDA device\n")


def test_kernel_layer_and_block_are_measured_and_printed():
    found = gpu.measure(SMALL, "cpu")
    assert json.loads(json.dumps(found)) == found
    assert (found["format"], found["version"]) == ("structmat.bench.gpu", 1)
    kernel = found["kernel"]
    assert kernel["forward"]["of the copy"] == pytest.approx(
        kernel["copy"]["seconds"] / kernel["forward"]["seconds"]
    )
    assert kernel["copy"]["bytes a second"] == 2 * 20 * 16 * 2 / kernel["copy"]["seconds"]
    net = sm.mixed_radix(16, largest=8)
    assert found["layer"]["parameters"] == {
        "frozen": 0,
        "lora": 2 * (16 + 16),
        "rotated": net.parameters,
    }
    inner = sm.mixed_radix(24, largest=8)
    assert found["block"]["parameters"] == {
        "frozen": 0,
        "lora": 2 * (2 * 32 + 2 * 24 + 3 * 40),
        "rotated": 6 * net.parameters + inner.parameters,
    }
    text = gpu.table(found)
    for row in ("copy", "best forward", "backward", "layer, lora", "block, rotated"):
        assert sum(line.startswith(row) for line in text.splitlines()) == 1
    assert f"step: {found['block']['to LoRA']:.2f} times that of LoRA." in text


def test_inaccurate_kernels_are_not_timed(monkeypatch):
    net = sm.mixed_radix(16, largest=8)
    assert set(gpu.checked(net, "cpu", 17)) == {
        f"{name}{end}" for name in ("y", "grad_x", "grad_blocks") for end in ("", " of the adjoint")
    }
    apply = triton.apply

    def wrong(*args, **options):
        y = apply(*args, **options)
        y[3, 5] = math.nan
        return y

    monkeypatch.setattr(triton, "apply", wrong)
    with pytest.raises(
        StructmatError, match="the Triton kernels are inaccurate here: the error of y is nan"
    ):
        gpu.measure(SMALL, "cpu")


DEVICE = """
import sys
import torch
import structmat as sm
from structmat.bench import gpu

device = sys.argv[1]
odd = sm.Network.of(70, [[list(range(0, 62, 2)), [1, 69]], [list(range(64))]])
nets = [sm.mixed_radix(60), odd]
if device == "cuda":  # the interpreter is slow
    nets += [sm.monarch(64), sm.butterfly(32), sm.benes(8), sm.families.omega(16)]
for net in nets:
    for dtype in gpu.STEPS:
        for tokens in (17,) if device == "cpu" else (1, 40, 5000):
            gpu.checked(net, device, tokens, dtype)
"""
ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_GPU)])
def test_kernels_are_accurate_on_the_device(device):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DEVICE, device],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TRITON_INTERPRET": "1" if device == "cpu" else "0"},
    )
    assert done.returncode == 0, done.stderr


def test_a_wrong_gradient_is_detected(monkeypatch):
    gradients = triton.gradients

    def wrong(*args, sums, **options):
        gradients(*args, sums=sums, **options)
        for total in sums:
            total.neg_()

    monkeypatch.setattr(triton, "gradients", wrong)
    with pytest.raises(StructmatError, match="inaccurate here: the error of grad_blocks is"):
        gpu.checked(sm.mixed_radix(16, largest=8), "cpu", 17)


def test_unavailable_kernels_are_reported_with_the_reason(monkeypatch):
    with pytest.raises(StructmatError, match="use largest=64"):
        gpu.measure(gpu.Setting("block_diagonal(block=128)", Shape(128)), "cpu")
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(StructmatError, match="do not run on cpu: they need Triton and CUDA"):
        gpu.measure(SMALL, "cpu")


def test_lora_starts_as_the_frozen_layer_and_adds_its_product():
    block = frozen(lambda: Block(SMALL.shape), "cpu", torch.float64)
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    before = block(x)
    again = with_lora(frozen(lambda: Block(SMALL.shape), "cpu", torch.float64), 2)
    assert torch.equal(again(x), before)
    assert sum(isinstance(m, Lora) for m in again.modules()) == 7
    with torch.no_grad():
        again.down.b.fill_(1)
    low = again.down.a @ torch.ones(24, dtype=torch.float64)
    ones = torch.ones(24, dtype=torch.float64)
    torch.testing.assert_close(again.down(ones), block.down(ones) + 2 * low.sum())


def test_the_decoder_block_is_causal():
    block = frozen(lambda: Block(SMALL.shape), "cpu", torch.float64)
    x = torch.randn(1, 6, 16, dtype=torch.float64)
    later = x.clone()
    later[:, 4:] += 1
    torch.testing.assert_close(block(x)[:, :4], block(later)[:, :4])
    assert not torch.allclose(block(x)[:, 4:], block(later)[:, 4:])
