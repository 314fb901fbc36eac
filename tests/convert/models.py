"""Small models and helpers for the conversion tests."""

import torch
from torch import nn

from structmat.adapters import adapt, adapters, load_adapter, merge
from tests.random_modules import randomised


def linears(seed=0, widths=(32, 64)):
    torch.manual_seed(seed)
    a, b = widths
    return nn.Sequential(
        nn.ModuleDict({"up": nn.Linear(a, b), "down": nn.Linear(b, a, bias=False)}),
        nn.Linear(a, 3),
    ).eval()


def images(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.Flatten(), nn.Linear(96, 5)).eval()


def copied(model, fresh):
    fresh.load_state_dict(model.state_dict())
    return fresh


def merged_weights(model, folder):
    """Return the weights after loading and merging a structmat adapter."""
    loaded = merge(load_adapter(model, folder), unload=True)
    return {k: v.detach().clone() for k, v in loaded.state_dict().items()}


def ours(model, spec, *, seed=0, size=0.3, **options):
    """Return a model with random structmat adapters."""
    return randomised(adapt(model, spec, **options), seed, size)


def effective(model):
    """Return the effective weights of the adapted layers, by name."""
    return {name: adapter.weight.detach() for name, adapter in adapters(model).items()}


def same(a, b, tolerance=1e-6):
    """Assert that two sets of tensors have the same names and values."""
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].shape == b[name].shape, name
        error = (a[name].double() - b[name].double()).abs().max()
        assert error <= tolerance * max(1.0, float(b[name].abs().max())), (name, float(error))
