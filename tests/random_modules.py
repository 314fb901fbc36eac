"""Modules with random parameters, and comparisons of their states."""

import torch
from torch import nn

from structmat.nn import Orthogonal


def randomised(module, seed, size=0.5):
    """Give every trained parameter random values, scales around 1.

    Generators are divided by their factor, so that every network has angles of this size.
    """
    source = torch.Generator().manual_seed(seed)
    layers = [m for m in module.modules() if isinstance(m, Orthogonal)]
    factors = {id(g): q.generator_scale for q in layers for g in q.generators}
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=source, dtype=torch.float64)
                noise *= size / factors.get(id(parameter), 1.0)
                parameter.add_(noise.to(parameter.dtype))
    return module


def layer(net, seed, kind="cayley", dtype=torch.float64, **options):
    """Return an Orthogonal with random generators."""
    return randomised(Orthogonal(net, parametrization=kind, dtype=dtype, **options), seed)


def arrays(q):
    """Return the blocks of a layer as numpy arrays."""
    return [block.detach().numpy() for block in q.blocks()]


def unchanged(model, before):
    """Return whether every entry of the state and every requires_grad is unchanged."""
    now = state(model)
    return now.keys() == before.keys() and all(
        torch.equal(now[k][0], before[k][0]) and now[k][1] == before[k][1] for k in now
    )


def state(model: nn.Module):
    """Return a copy of the state of a model, with the requires_grad flags."""
    return {
        name: (value.detach().clone(), value.requires_grad)
        for name, value in model.state_dict(keep_vars=True).items()
    }
