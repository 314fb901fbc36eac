"""Products of many small matrices."""

from __future__ import annotations

from torch import Tensor

from structmat.nn import torch_internals
from structmat.nn.precision import product

# torch does not vectorise products of batches of matrices this small (r³ < 400).
_LARGEST = 7
_FEWEST = 256


def times(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b for stacks of square matrices of one size.

    For many very small matrices, the product is computed as a sum of r outer products, with the
    batch as the innermost axis. The result keeps this layout, so that a further product needs no
    copy.

    Parameters
    ----------
    a, b : (n, r, r)

    Returns
    -------
    (n, r, r)

    Examples
    --------
    >>> import torch
    >>> swaps = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).expand(300, 2, 2)
    >>> times(swaps, swaps)[7]
    tensor([[1., 0.],
            [0., 1.]])
    """
    count, _, radix = torch_internals.sizes(a)
    few = radix > _LARGEST or count < _FEWEST
    if few or torch_internals.transformed():  # vmap has no rule for addcmul_
        return product(a, b)
    left, right = (x.permute(1, 2, 0).contiguous() for x in (a, b))
    total = left[:, :1] * right[:1]
    for k in range(1, len(right)):
        total.addcmul_(left[:, k : k + 1], right[k : k + 1])
    return total.permute(2, 0, 1)
