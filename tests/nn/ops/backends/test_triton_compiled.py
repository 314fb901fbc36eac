"""The fused kernels compile for CUDA devices; the interpreter accepts more than Triton does.

This runs in a subprocess, because this process may use the interpreter.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).parents[3]
PROGRAM = """
import re
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
import structmat as sm
from structmat.linalg.schedule import schedule
from structmat.nn.ops.backends import tiled, triton
from structmat.nn.ops.backends.triton import kernels, launch

class Driver:  # names a target and runs nothing
    def get_current_target(self): return GPUTarget("cuda", capability, 32)
    def get_current_device(self): return capability  # kernels are kept for each
    def get_current_stream(self, device): return 0
    def get_active_torch_device(self): return torch.device("cpu")

class Compiled:
    def __init__(self, kernel): self.kernel = kernel
    def __getitem__(self, grid):
        def launch(*args, **options):
            options["WIDEN"] = False
            made = self.kernel.warmup(*args, grid=grid, **options)
            ptx = made.asm["ptx"]
            single = r"(?:ld|st)\\.global\\S*\\.b16"  # of one number
            print(self.kernel.__name__, made.metadata.shared,
                  len(re.findall(r"mma\\.", ptx)), len(re.findall(single, ptx)))
        return launch

driver.set_active(Driver())
kernels.rotate, kernels.outer = Compiled(kernels.rotate), Compiled(kernels.outer)
config = triton.Config(32, 132, 8)
nets = [sm.monarch(1024), sm.mixed_radix(60)]
dtypes = [torch.bfloat16, torch.float32]
# Each network in one dtype for each device, since every kernel takes a second to compile.
for capability, net, dtype in zip((80, 80, 90, 90), nets * 2, dtypes + dtypes[::-1], strict=True):
    made = triton.prepared(schedule(net), "cpu")
    blocks = [torch.zeros(shape) for shape in made.units.shapes]
    x = torch.zeros(100, net.width, dtype=dtype)
    for adjoint in (False, True):
        triton.apply(made, blocks, x, adjoint=adjoint, config=config)
    y, sums = torch.empty_like(x), tiled.zeros_like(blocks)
    triton.gradients(made, blocks, x, x, grad_x=y, sums=sums, config=config)
"""


@pytest.mark.slow
def test_the_kernels_compile_within_the_shared_memory_limit(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    # For each network: forwards, backwards, and the gradient's three launches.
    assert [name for name, *_ in lines] == ["rotate", "rotate", "rotate", "rotate", "outer"] * 4
    for _, shared, products, _ in lines:
        assert int(shared) <= 99 * 1024  # what the smallest of these devices has
        assert int(products) > 0  # on tensor cores
    # Blocks of 32 and vectors in bfloat16: never one number at a time.
    assert [int(single) for *_, single in lines[:4]] == [0] * 4
