"""Exported programs contain only torch operations and run without this library."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import structmat as sm
from structmat.adapters import adapt
from structmat.errors import BlockError
from structmat.linalg.blocks import PARAMETRIZATIONS as REFERENCE
from structmat.nn.parametrizations import exportable
from structmat.testing import seeds
from tests.random_modules import layer, randomised

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of torch.export, about itself
]


class Adjoint(nn.Module):
    def __init__(self, q):
        super().__init__()
        self.q = q

    def forward(self, x):
        return self.q.adjoint(x)


def adapted(base, dtype=torch.float32, **options):
    return randomised(adapt(nn.Sequential(base.to(dtype)), "monarch", **options), 1).eval()


def peft_model(base, **options):
    peft = pytest.importorskip("peft")
    from structmat.peft import StructmatConfig

    config = StructmatConfig(topology="monarch", target_modules=["0"], **options)
    return randomised(peft.get_peft_model(nn.Sequential(base), config), 1).eval()


NET = sm.random(6, block=3, depth=1, rng=0)
CASES = {
    "kinds": (lambda: nn.Sequential(*(layer(NET, 1, kind) for kind in REFERENCE)), (6,)),
    "reduced": (lambda: layer(sm.butterfly(8, block=4), 1, reduced=True), (8,)),
    "unitary": (lambda: layer(sm.butterfly(8, block=4), 1, dtype=torch.complex128), (8,)),
    "adjoint": (lambda: Adjoint(layer(sm.shuffle(8, block=4), 1)), (8,)),
    "linear": (lambda: adapted(nn.Linear(8, 5)), (8,)),
    "bfloat16": (lambda: adapted(nn.Linear(8, 5), torch.bfloat16), (8,)),
    "outputs": (lambda: adapted(nn.Linear(8, 12), side="outputs", scale=True), (8,)),
    "convolution": (lambda: adapted(nn.Conv2d(4, 6, 2), target_modules=["0"]), (4, 5, 5)),
    "channels": (
        lambda: adapted(nn.Conv2d(4, 6, 2), target_modules=["0"], field="channels"),
        (4, 5, 5),
    ),
    "peft": (lambda: peft_model(nn.Linear(8, 12), side="both", scale=True), (8,)),
}


def drawn(name):
    """Return a model, and inputs of two batch sizes."""
    make, shape = CASES[name]
    model, source = make(), torch.Generator().manual_seed(3)
    dtype = {"bfloat16": torch.bfloat16, "unitary": torch.complex128}.get(name)
    dtype = next(model.parameters()).dtype if dtype is None else dtype
    return model, *(torch.randn(n, *shape, generator=source, dtype=dtype) for n in (3, 7))


def again(save, value, load):
    """Save a value and load it again."""
    file = io.BytesIO()
    save(value, file)
    file.seek(0)
    return load(file)


@pytest.mark.parametrize("name", CASES)
def test_an_exported_program_equals_the_model_for_any_batch_size(name):
    model, x, others = drawn(name)
    batch = torch.export.Dim("batch")
    varied = {0: batch}
    inputs = [(varied,)] if "Peft" in type(model).__name__ else [varied]  # it takes *args
    program = torch.export.export(model, (x,), dynamic_shapes=tuple(inputs))
    called = {
        str(n.target) for n in program.run_decompositions().graph.nodes if n.op == "call_function"
    }
    # Formats such as ONNX know none of these.
    unknown = ("structmat", "linalg", "matrix_exp", "promote_types", "wrap_with")
    assert not [target for target in called if any(part in target for part in unknown)]
    loaded = again(torch.export.save, program, torch.export.load).module()
    for given_x in (x, others):
        torch.testing.assert_close(loaded(given_x), model(given_x))


@pytest.mark.parametrize("name", CASES)
def test_a_traced_program_equals_the_model_for_any_batch_size(name):
    """Tracing gives no warning that the trace may not generalise."""
    model, x, others = drawn(name)
    traced = again(torch.jit.save, torch.jit.trace(model, x), torch.jit.load)
    for given_x in (x, others):
        torch.testing.assert_close(traced(given_x), model(given_x))


def test_exporting_a_scaled_adapter_is_refused():
    model = peft_model(nn.Linear(8, 8))
    model.base_model.model[0].set_scale("default", 0.5)
    with pytest.raises(BlockError, match=r"cannot be exported, .*; merge the adapter first"):
        torch.jit.trace(model, torch.ones(2, 8))


def test_exported_programs_run_without_structmat(tmp_path):
    model, x, others = drawn("linear")
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "exported.pt2")
    torch.jit.trace(model, x).save(tmp_path / "traced.pt")
    torch.save(others, tmp_path / "x.pt")
    code = """
import sys, torch
x = torch.load("x.pt")
both = torch.export.load("exported.pt2").module(), torch.jit.load("traced.pt")
torch.save([f(x).detach() for f in both], "y.pt")
assert "structmat" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, check=True)
    for y in torch.load(Path(tmp_path, "y.pt")):
        torch.testing.assert_close(y, model(others).detach())


@given(
    st.sampled_from(["cayley", "exp"]),
    st.integers(2, 7),
    st.booleans(),
    st.sampled_from([0.0, 0.1, 1.0, 30.0]),
    seeds(),
)
def test_exportable_parametrizations_agree_with_the_reference(kind, radix, unitary, size, seed):
    g = size * np.random.default_rng(seed).normal(
        size=(3, radix**2 if unitary else radix * (radix - 1) // 2)
    )
    g = torch.tensor(g, requires_grad=True)
    function = {"cayley": exportable.cayley, "exp": exportable.exponential}[kind]
    made = function(g, radix)
    tolerance = 1e-12 * (1 + size) * radix
    np.testing.assert_allclose(
        made.detach().numpy(), REFERENCE[kind](g.detach().numpy(), radix), rtol=0, atol=tolerance
    )
    (slopes,) = torch.autograd.grad(made.abs().square().sum(), g)  # constant: blocks are unitary
    torch.testing.assert_close(slopes, torch.zeros_like(g), rtol=0, atol=1e-11 * radix**2)
