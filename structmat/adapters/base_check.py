"""Comparison of a model's weights with the fingerprints that were saved with an adapter."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from structmat.adapters.adapted_layer import ONLY, AdaptedLayer
from structmat.adapters.base_fingerprint import Fingerprint, fingerprint
from structmat.adapters.distributed import is_sharded
from structmat.nn.offloading import loaded
from structmat.nn.parametrizations import at_least_float32

Differences = Mapping[str, float]  # the relative difference of each layer that differs


def fingerprints(
    layers: Mapping[str, AdaptedLayer], *, gather: bool = False
) -> dict[str, Fingerprint]:
    """Return the fingerprints of the original weights of adapted layers, merged or not.

    Layers are omitted if their weights are quantised, have no values (on the meta device, or
    partitioned by FSDP1 or ZeRO-3), or are not finite.

    Parameters
    ----------
    layers : dict of name → AdaptedLayer
    gather : bool
        Whether to gather weights that `fully_shard` has sharded, one at a time; every process must
        then call this. Otherwise such layers are omitted.
    """
    found = {}
    for name, layer in layers.items():
        with loaded(layer.base_layer):
            weight = _whole(layer, gather=gather)
            if weight is not None:
                found[name] = fingerprint(weight)
    return {name: one for name, one in found.items() if one.is_finite}


def _whole(layer: AdaptedLayer, *, gather: bool) -> Tensor | None:
    """Return the original weight of a layer, or None if it is quantised or has no values here."""
    if layer.quantised:
        return None
    weight: Tensor = layer.own.detach()
    if is_sharded(weight):
        return weight.full_tensor() if gather else None  # type: ignore[attr-defined]
    return None if weight.is_meta or weight.ndim < 2 or not weight.numel() else weight


@torch.no_grad()
def mismatch(
    layers: Mapping[str, AdaptedLayer], saved: Mapping[str, Fingerprint], adapter: str = ONLY
) -> str | None:
    """Return a warning if weights of layers differ from those that an adapter was trained on.

    Layers without a saved fingerprint, quantised layers, and layers with fewer rows than when the
    adapter was saved are not compared. Layers may have more rows, like embeddings to which tokens
    have been added.
    """
    differences: dict[str, float] = {}
    for name, layer in layers.items():
        if name not in saved:
            continue
        with loaded(layer.base_layer):
            weight = _whole(layer, gather=False)
            change = None if weight is None else difference(saved[name], weight)
        if change is not None:
            differences[name] = change
    if not differences:
        return None
    worst = max(differences, key=differences.__getitem__)
    layer, one = layers[worst], saved[worst]
    with loaded(layer.base_layer):
        again = one.distance(fingerprint(_without(layer, adapter), one.shape))
    return message(differences, len(layers), contained=is_contained(differences[worst], again))


def difference(saved: Fingerprint, weight: Tensor) -> float | None:
    """Return the relative difference of a weight from the saved one, or None if they agree.

    Weights whose shapes cannot be compared, or that are not finite, count as equal.
    """
    if not saved.fits(weight.shape):
        return None
    here = fingerprint(weight, saved.shape)
    return saved.difference(here) if here.is_finite else None


def is_contained(before: float, after: float) -> bool:
    """Return whether a weight already contains an adapter, which was merged into it.

    Parameters
    ----------
    before, after : float
        The relative differences from the saved weight before and after the inverse of the adapter
        is applied. If the weight contains the adapter, the inverse removes the difference, except
        for rounding errors; if it is that of another model, the inverse does not reduce it.
    """
    return after < before / 2


def message(differences: Differences, count: int, *, contained: bool) -> str:
    """Return a warning about layers whose weights differ.

    Parameters
    ----------
    differences : dict of layer name → relative difference
    count : int
        The number of adapted layers.
    contained : bool
        Whether the weights already contain the adapter.
    """
    worst = max(differences, key=differences.__getitem__)
    found = (
        f"the base weights of {len(differences)} of {count} adapted layers differ from those that"
        f" the adapter was trained on, most in {worst or 'the only layer'} (relative Frobenius"
        f" error about {differences[worst]:.2g})"
    )
    if contained:
        return (
            f"{found}: this adapter has already been merged into them; start from the original"
            " model, or the rotations are applied twice"
        )
    return f"{found}; use the original model, or ignore this warning if the difference is intended"


def _without(layer: AdaptedLayer, name: str) -> Tensor:
    """Return the weight that becomes the layer's weight when the adapter is merged into it."""
    base, layout = layer.base_layer, layer.layout
    mode = layer.training
    layer.eval()  # without dropout
    inputs, outputs, scale = layer.adapter(name)
    weight: Tensor = layer.own.detach()
    neurons = layout.neurons(base, weight.to(at_least_float32(weight.dtype)))
    if scale is not None or outputs is not None:
        by_outputs = layout.by_outputs(base, neurons)
        by_outputs = by_outputs if scale is None else by_outputs / scale
        by_outputs = by_outputs if outputs is None else outputs.adjoint(by_outputs)
        neurons = layout.from_outputs(base, by_outputs)
    if inputs is not None:
        rows = layout.rows(base, neurons).conj().resolve_conj()
        neurons = layout.from_rows(base, inputs.adjoint(rows).conj().resolve_conj())
    layer.train(mode)
    return layout.from_neurons(base, neurons)
