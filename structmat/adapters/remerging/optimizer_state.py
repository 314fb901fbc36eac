"""Changes to the parameters that an optimiser trains, and to their state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def plain_optimizer(optimizer: Any) -> Any:
    """Return the optimiser inside any wrappers, such as that of accelerate."""
    while isinstance(getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = optimizer.optimizer
    return optimizer


def trains(optimizer: Any, parameters: Iterable[Tensor]) -> bool:
    """Return whether an optimiser trains all of these parameters.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> optimizer = torch.optim.SGD([layer.weight])
    >>> trains(optimizer, [layer.weight]), trains(optimizer, layer.parameters())
    (True, False)
    """
    known = {id(p) for group in plain_optimizer(optimizer).param_groups for p in group["params"]}
    return all(id(p) in known for p in parameters)


def forget(optimizer: Any, parameters: Iterable[Tensor]) -> None:
    """Remove the state of parameters, such as the moments of Adam; the next step creates a new one.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer or None
        Nothing happens without an optimiser.
    parameters : iterable of Tensor
    """
    if optimizer is not None:
        for parameter in parameters:
            plain_optimizer(optimizer).state.pop(parameter, None)


def replace(optimizer: Any, old: Sequence[nn.Parameter], new: Sequence[nn.Parameter]) -> None:
    """Put new parameters in the places of old ones in parameter groups, and remove the old state.

    Each new parameter takes the place of the old one of the same index. If there are more new ones,
    they follow the last old one.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer or None
        Nothing happens without an optimiser, or if it trains none of the old parameters.
    old, new : sequences of parameters
        A parameter in both keeps its state.

    Examples
    --------
    >>> a, b, c = (nn.Parameter(torch.ones(n)) for n in (1, 2, 3))
    >>> optimizer = torch.optim.SGD([a, b])
    >>> replace(optimizer, [a], [c])
    >>> [len(p) for p in optimizer.param_groups[0]["params"]]
    [3, 2]
    """
    if optimizer is None or not old or list(map(id, old)) == list(map(id, new)):
        return
    heirs = {id(p): list(new[k : k + 1]) for k, p in enumerate(old)}
    heirs[id(old[-1])] = list(new[len(old) - 1 :])
    for group in plain_optimizer(optimizer).param_groups:
        group["params"] = [q for p in group["params"] for q in heirs.get(id(p), [p])]
    stay = set(map(id, new))
    forget(optimizer, (p for p in old if id(p) not in stay))
