"""The same skew-symmetric parameters yield the same rotation in structmat and in PEFT."""

import numpy as np
import pytest
import torch

import structmat as sm
from structmat.adapters import adapt
from structmat.nn import Orthogonal

peft_layer = pytest.importorskip("peft.tuners.boft.layer")


def peft_rotation(r):
    """Return PEFT's R for `boft_R` of shape (m, d/b, b, b), computed as in its merge."""
    m, count, b, _ = r.shape
    d = count * b
    skew = 0.5 * (r - r.mT)
    one = torch.eye(b, dtype=r.dtype)
    blocks = torch.linalg.solve(one + skew, one - skew, left=False)
    product = torch.eye(d, dtype=r.dtype)
    for i in range(m):
        order = peft_layer.BOFTLayer.block_butterfly_perm(None, d, count // 2**i, b // 2, m - 1)
        p = peft_layer.BOFTLayer.perm2mat(None, order).to(r.dtype)
        product = p @ torch.block_diag(*blocks[i]) @ p.T @ product
    return product


def loaded(q, r):
    """Load PEFT's parameters S into a layer, as −S, because PEFT's blocks are (I−S)(I+S)⁻¹."""
    rows, columns = np.triu_indices(r.shape[-1], 1)
    skew = 0.5 * (r - r.mT)
    with torch.no_grad():
        for generators, s in zip(q.generators, skew, strict=True):
            generators.copy_(-s[:, rows, columns] / q.generator_scale)
    return q


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize(("d", "b"), [(64, 8), (96, 4), (48, 6), (16, 2)])
def test_the_matrix_agrees_with_pefts_boft(d, b, m, dtype):
    if d % (b * 2 ** (m - 1)):
        with pytest.raises(sm.errors.WidthError, match="width must be a multiple"):
            sm.butterfly(d, block=b, depth=m)
        return
    r = torch.randn(m, d // b, b, b, dtype=dtype, generator=torch.Generator().manual_seed(m))
    q = loaded(Orthogonal(sm.butterfly(d, block=b, depth=m), dtype=dtype), r)
    error = (q.matrix() - peft_rotation(r)).abs().max()
    assert error <= 40 * m * torch.finfo(dtype).eps


@pytest.mark.parametrize("m", [1, 2])
def test_an_adapted_layer_agrees_with_pefts_formula(m):
    """With a scale: W' = (W Qᵀ) ⊙ s by output, and y = ((x Q) Wᵀ) ⊙ s + bias."""
    torch.manual_seed(0)
    base = torch.nn.Linear(32, 5, dtype=torch.float64)
    weight, bias = base.weight.detach().clone(), base.bias.detach().clone()
    r = torch.randn(m, 4, 8, 8, dtype=torch.float64)
    s = torch.rand(5, dtype=torch.float64) + 0.5
    adapter = adapt(base, f"butterfly(block=8, depth={m})", target_modules=".*", scale=True)
    loaded(adapter.rotation, r)
    with torch.no_grad():
        adapter.scale.copy_(s)
    q = peft_rotation(r)
    x = torch.randn(3, 32, dtype=torch.float64)
    torch.testing.assert_close(adapter.weight, (weight @ q.T) * s[:, None])
    torch.testing.assert_close(adapter(x), ((x @ q) @ weight.T) * s + bias)


def test_an_adapted_layer_agrees_with_a_boft_layer_of_peft(monkeypatch):
    """Without its compiled extension, PEFT supports only m = 1."""
    peft = pytest.importorskip("peft")
    monkeypatch.setattr(peft_layer, "get_fbd_cuda", lambda: None)  # it would try to compile
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(32, 5))
    base = torch.nn.Linear(32, 5)
    base.load_state_dict(model[0].state_dict())
    config = peft.BOFTConfig(boft_block_size=8, target_modules=["0"], init_weights=False)
    theirs = peft.get_peft_model(model, config).base_model.model[0]
    ours = adapt(base, "butterfly(block=8, depth=1)", target_modules=".*", scale=True)
    loaded(ours.rotation, theirs.boft_R["default"].detach())
    with torch.no_grad():
        ours.scale.copy_(theirs.boft_s["default"].flatten())
    x = torch.randn(7, 32)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
