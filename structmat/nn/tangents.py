"""Whether forward-mode derivatives are nested, where autograd functions would lose a part."""

from __future__ import annotations

import torch
from torch._C import _functorch


def nested() -> bool:
    """Return whether a forward-mode derivative is taken of another one.

    Inside the `jvp` of a `torch.autograd.Function` torch 2.13 switches forward mode off, so that
    the outer derivative would be zero without a word: functions of ours then make way for torch's
    own operations.

    Examples
    --------
    >>> from torch.func import jvp
    >>> nested(), jvp(lambda x: jvp(lambda y: y * nested(), (x,), (x,))[1], *[(torch.ones(1),)] * 2)
    (False, (tensor([1.]), tensor([1.])))
    """
    if torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active():
        return False
    jvp = _functorch.TransformType.Jvp
    return sum(level.key() == jvp for level in _functorch.get_interpreter_stack() or ()) > 1
