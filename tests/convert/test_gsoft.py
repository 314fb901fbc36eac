"""GSOFT files agree with the definition in the paper, y = s ⊙ W P⁻¹ L P R x."""

import pytest
import torch
from torch import nn

from structmat.adapters import save_adapter
from structmat.convert import convert
from structmat.errors import FileError
from tests.convert.models import effective, linears, merged_weights, ours, same

files = pytest.importorskip("safetensors.torch")


def cayley(x):
    skew = 0.5 * (x - x.mT)
    one = torch.eye(x.shape[-1], dtype=x.dtype)
    return torch.linalg.solve(one - skew, one + skew, left=False)


def gs(left, right):
    """Return the d×d matrix, with the shuffle as a permutation of the rows of an identity."""
    count, size, _ = left.shape
    d = count * size
    order = torch.arange(d).reshape(size, count).T.flatten()  # every count-th wire together
    p = torch.eye(d, dtype=left.dtype)[order]
    return p.T @ torch.block_diag(*cayley(left)) @ p @ torch.block_diag(*cayley(right))


def written(path, name, left, right, scale):
    files.save_file(
        {f"{name}.gs_ort.gsoft_L": left, f"{name}.gs_ort.gsoft_R": right, f"{name}.gsoft_s": scale},
        path,
    )


@pytest.mark.parametrize(("count", "size"), [(4, 4), (8, 4), (4, 8), (5, 3)])
def test_gsoft_files_round_trip(tmp_path, count, size):
    torch.manual_seed(count)

    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(count * size, 6), nn.ReLU())

    left, right = torch.randn(2, count, size, size)
    scale = torch.rand(6) + 0.5
    written(tmp_path / "a.safetensors", "0", left, right, scale)
    done = convert(tmp_path / "a.safetensors", tmp_path / "ours", model=make())
    assert done.format == "GSOFT"
    weight = make()[0].weight.detach().double()
    expected = scale[:, None] * (weight @ gs(left.double(), right.double()))
    same(
        {"0.weight": merged_weights(make(), tmp_path / "ours")["0.weight"]}, {"0.weight": expected}
    )
    convert(tmp_path / "ours", tmp_path / "b.safetensors", to="gsoft")
    back = files.load_file(tmp_path / "b.safetensors")
    assert torch.equal(back["0.gsoft_s"], scale)
    for name, x in (("L", left), ("R", right)):
        y = back[f"0.gs_ort.gsoft_{name}"]
        torch.testing.assert_close(y - y.mT, x - x.mT, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("spec", ["block_diagonal(block=8)", "shuffle(block=8, depth=1)"])
def test_exported_gsoft_files_reproduce_the_weights(tmp_path, spec):
    one = ours(linears(), spec, target_modules=["up", "down"])
    save_adapter(one, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "a.safetensors", to="gsoft")
    tensors = files.load_file(tmp_path / "a.safetensors")
    for name, weight in effective(one).items():
        left, right = (tensors[f"{name}.gs_ort.gsoft_{x}"].double() for x in "LR")
        plain = linears().get_submodule(name).weight.detach().double()
        same({"": weight}, {"": plain @ gs(left, right)})


def test_unsupported_networks_layers_and_tensors_are_refused(tmp_path):
    save_adapter(ours(linears(), "butterfly(block=4)", target_modules=["up"]), tmp_path / "ours")
    with pytest.raises(FileError, match="GSOFT has two stages"):
        convert(tmp_path / "ours", tmp_path / "a.safetensors", to="gsoft")
    one = ours(nn.Sequential(nn.Conv2d(4, 4, 1)), "butterfly(block=2)", target_modules=["0"])
    save_adapter(one, tmp_path / "conv")
    with pytest.raises(FileError, match="0: GSOFT supports only linear layers"):
        convert(tmp_path / "conv", tmp_path / "a.safetensors", to="gsoft")
    files.save_file({"0.gs_ort.gsoft_L": torch.zeros(2, 2, 2)}, tmp_path / "half.safetensors")
    with pytest.raises(FileError, match="0 needs L and R of the same shape"):
        convert(tmp_path / "half.safetensors", tmp_path / "b")
