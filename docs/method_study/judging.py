"""Measures of the study: loss, accuracy, calibration, and how adapted weights changed."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

BINS = 15
SHARE = 0.1  # fraction of W's singular vectors that count as the first ones


class Judged(NamedTuple):
    """The losses of items, and measures of predictions; an item may have several predictions.

    Parameters
    ----------
    loss : (items,) float64
    confidence : (predictions,)
        The largest probability.
    correct : (predictions,) bool
    brier : (predictions,)
        The sum of squared errors of all probabilities.
    """

    loss: Tensor
    confidence: Tensor
    correct: Tensor
    brier: Tensor

    def summary(self) -> dict[str, float]:
        """Return the mean loss, the accuracy, the Brier score and the calibration error."""
        return {
            "loss": float(self.loss.mean()),
            "accuracy": float(self.correct.double().mean()),
            "brier": float(self.brier.mean()),
            "ece": calibration_error(self.confidence, self.correct),
        }


def judged(logits: Tensor, labels: Tensor) -> Judged:
    """Judge predictions.

    Parameters
    ----------
    logits : (items, classes) or (items, predictions, classes)
    labels : (items,) or (items, predictions) integers
    """
    exact = logits.double().log_softmax(-1)
    picked = exact.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    probabilities = exact.exp()
    top, guess = probabilities.max(-1)
    brier = probabilities.square().sum(-1) - 2 * picked.exp() + 1
    return Judged(
        -picked.flatten(1).mean(1) if picked.dim() > 1 else -picked,
        top.flatten(),
        (guess == labels).flatten(),
        brier.flatten(),
    )


def joined(parts: Iterable[Judged]) -> Judged:
    """Return the judgements of all parts as one."""
    return Judged(*(torch.cat(fields) for fields in zip(*parts, strict=True)))


def calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = BINS) -> float:
    """Return the expected calibration error with bins of equal numbers of predictions.

    It is the mean over the predictions of |accuracy − mean confidence| of their bin (Nixon et al.,
    Measuring Calibration in Deep Learning, 2019). It is not finite if a confidence is not finite.

    Examples
    --------
    >>> calibration_error(torch.tensor([0.5, 0.5, 1, 1]), torch.tensor([1, 0, 1, 0]), bins=2)
    0.25
    """
    order = confidence.argsort(stable=True)
    gaps = (correct.double() - confidence.double())[order]
    parts = gaps.tensor_split(min(bins, len(gaps)))
    return float(torch.stack([part.sum().abs() for part in parts]).sum() / len(gaps))


# Changes of weights -----------------------------------------------------------------------------


class Decomposed(NamedTuple):
    """A weight with its singular value decomposition, float64, and its hyperspherical energy."""

    weight: Tensor
    outputs: Tensor
    values: Tensor
    inputs: Tensor
    energy: float


def decomposed(weight: Tensor) -> Decomposed:
    """Decompose a weight (outputs, inputs)."""
    exact = weight.detach().double()
    u, s, vh = torch.linalg.svd(exact, full_matrices=False)
    return Decomposed(exact, u, s, vh, hyperspherical_energy(exact))


def hyperspherical_energy(weight: Tensor) -> float:
    """Return the mean of 1/distance over the pairs of normalised rows.

    Rotating the inputs of a layer preserves it (Liu et al., Learning towards Minimum Hyperspherical
    Energy, NeurIPS 2018).

    Examples
    --------
    >>> round(hyperspherical_energy(torch.eye(3)) ** 2, 6)
    0.5
    """
    rows = functional.normalize(weight.detach().double(), dim=-1)
    distances = torch.pdist(rows).clamp_min(1e-6)  # equal rows would have infinite energy
    return float(distances.reciprocal().mean())


def changed(before: Decomposed, after: Tensor) -> dict[str, float]:
    """Return how a weight changed; see the fields of `change` in `docs.method_study.runner`."""
    new = after.detach().double()
    delta = new - before.weight
    size = float(delta.norm())
    values = torch.linalg.svdvals(delta)
    first = max(1, round(SHARE * len(before.values)))
    outputs = before.outputs[:, :first].T @ delta
    inputs = delta @ before.inputs[:first].T
    shares = values / values.sum().clamp_min(1e-30)
    return {
        "relative": size / float(before.weight.norm()),
        "spectral": float(values[0] / before.values[0]),
        "effective_rank": float(torch.special.entr(shares).sum().exp()) if size else 0.0,
        "top_inputs": float(inputs.norm()) ** 2 / size**2 if size else 0.0,
        "top_outputs": float(outputs.norm()) ** 2 / size**2 if size else 0.0,
        "singular_values": float(
            (torch.linalg.svdvals(new) - before.values).norm() / before.values.norm()
        ),
        "energy_before": before.energy,
        "energy": hyperspherical_energy(new),
    }


def mean_change(
    before: Mapping[str, Decomposed],
    after: Mapping[str, Tensor],
    groups: Mapping[str, Iterable[str]],
) -> dict[str, dict[str, float]]:
    """Return the means of `changed` over the layers of each group, with five significant digits."""
    found = {}
    for group, names in groups.items():
        rows = [changed(before[name], after[name]) for name in names]
        found[group] = {
            key: float(f"{sum(row[key] for row in rows) / len(rows):.5g}") for key in rows[0]
        }
    return found
