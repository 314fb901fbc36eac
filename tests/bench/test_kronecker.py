"""The chain of Kronecker-sparse factors, with lazylinop if installed and with a stand-in."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import structmat as sm
from structmat.bench import kronecker
from structmat.bench.candidates import AGAINST, DENSE, named
from structmat.bench.kronecker import KroneckerChain
from structmat.bench.layer_benchmark import Batch, frozen_layer, training_step
from structmat.bench.machine import torch_machine
from structmat.errors import MissingExtraError, StructmatError, WidthError
from structmat.linalg import factors as stagewise

radices = st.lists(st.integers(2, 5), min_size=1, max_size=4)


class Product:
    """A stand-in for lazylinop's `ksm`: I_a ⊗ blocks (b×c) ⊗ I_d, the last applied first."""

    made = 0

    def __init__(self, values):
        self.values = [value + 0 for value in values]  # a copy, as lazylinop's
        Product.made += 1

    def __matmul__(self, x):
        for value in reversed(self.values):
            a, _, c, d = value.shape
            x = torch.einsum("abcd,acdn->abdn", value, x.reshape(a, c, d, -1)).flatten(0, 2)
        return x


@pytest.fixture(
    params=[
        "stand-in",
        pytest.param(
            "lazylinop",
            marks=pytest.mark.skipif(AGAINST["lazylinop"].missing, reason="it is not installed"),
        ),
    ],
    scope="module",
)
def library(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "stand-in":
            for name in ("lazylinop", "lazylinop.butterfly"):
                patch.setitem(sys.modules, name, ModuleType(name))
            sys.modules["lazylinop.butterfly"].ksm = Product
        yield request.param


def drawn(radices, seed, dtype=torch.float64):
    chain = KroneckerChain(radices, dtype=dtype)
    source = torch.Generator().manual_seed(seed)
    for value in chain.values:
        nn.init.normal_(value, std=0.5, generator=source)
    return chain


def blocks_of(chain, net):
    """Return the chain's values as the blocks of mixed_radix, by the first wire of a switch."""
    found = []
    for stage, value in zip(net.stages, reversed(chain.values), strict=True):
        [bank] = stage.banks
        stride = value.shape[3]
        first = bank.reads[:, 0]
        places = np.stack([first // (bank.radix * stride), first % stride], axis=1)
        found.append(np.stack([value.detach()[i, :, :, j].numpy() for i, j in places]))
    return found


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(2, 5), min_size=1, max_size=4), st.integers(0, 2**31), st.integers(1, 4)
)
def test_the_chain_equals_mixed_radix_with_its_values_as_blocks(library, radices, seed, tokens):
    chain = drawn(radices, seed)
    net = sm.mixed_radix(int(np.prod(radices)), radices)
    matrix = stagewise.matrix_of(net, blocks_of(chain, net))
    x = np.random.default_rng(seed).standard_normal((tokens, net.width))
    with torch.no_grad():
        found = chain(torch.as_tensor(x)).numpy()
    np.testing.assert_allclose(found, x @ matrix.T, rtol=1e-12, atol=1e-12)


def test_gradients_equal_finite_differences(library):
    chain = drawn((2, 3, 2), 4)
    x = torch.randn(3, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, *_: chain(x), (x, *chain.values), atol=1e-7, fast_mode=True
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_candidate_starts_as_the_frozen_layer_and_trains(library, dtype):
    layer = frozen_layer(12, 5, dtype)
    module = AGAINST["lazylinop"].build(layer.linear())
    source = torch.Generator().manual_seed(2)
    x = torch.randn(4, 12, generator=source).to(dtype).requires_grad_()
    with torch.no_grad():  # other kernels, other rounding: in the dtype's own units
        torch.testing.assert_close(module(x), module.layer(x))
    gradient = 1e6 * torch.randn(4, 5, generator=source).to(dtype)
    before = [value.detach().clone() for value in module.rotation.values]
    training_step(module, Batch(x, gradient))()
    for old, new in zip(before, module.rotation.values, strict=True):
        assert not torch.equal(old, new)
    said = AGAINST["lazylinop"].remark(module)
    assert "at width 12 have the shapes of mixed_radix(largest=16), 12," in said


def test_the_operator_uses_the_current_values(library):
    """An operator cached before a training step would have the old values."""
    chain = drawn((2, 2), 1)
    x = torch.randn(3, 4, dtype=torch.float64)
    with torch.no_grad():
        before, again = chain(x), chain(x)
        chain.values[0].mul_(2)
        after = chain(x)
    torch.testing.assert_close(before, again, rtol=0, atol=0)
    torch.testing.assert_close(after, 2 * before)
    chain(x).sum().backward()
    torch.optim.SGD(chain.parameters(), lr=0.1).step()
    trained = chain(x)
    with torch.no_grad():
        torch.testing.assert_close(chain(x), trained.detach())
    assert (trained - after).abs().max() > 1e-3


def test_the_operator_is_cached_without_training(library):
    if library == "lazylinop":
        pytest.skip("the stand-in counts")
    chain = drawn((2, 2), 1)
    before = Product.made
    with torch.no_grad():
        for _ in range(3):
            chain(torch.ones(1, 4, dtype=torch.float64))
    assert Product.made == before + 1


def test_unsupported_widths_state_the_reason(library):
    with pytest.raises(WidthError, match="mixed_radix"):
        AGAINST["lazylinop"].build(frozen_layer(1, 4, torch.float32).linear())
    with pytest.raises(StructmatError, match="too large: r×r blocks"):  # a prime
        AGAINST["lazylinop"].build(frozen_layer(DENSE + 27, 4, torch.float32).linear())


def test_missing_lazylinop_is_reported_with_the_remedy(monkeypatch):
    for name in ("lazylinop", "lazylinop.butterfly"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match="pip install lazylinop"):
        KroneckerChain((2, 2))
    monkeypatch.setattr(kronecker.importlib.util, "find_spec", lambda _: None)
    assert AGAINST["lazylinop"].missing
    with pytest.raises(MissingExtraError, match="pip install lazylinop"):
        named("lazylinop")


@pytest.mark.skipif(AGAINST["lazylinop"].missing, reason="it is not installed")
def test_the_version_of_lazylinop_is_recorded():
    assert "lazylinop" in torch_machine()["versions"]
