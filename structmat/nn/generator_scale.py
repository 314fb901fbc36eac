"""The scale of generators for which one learning rate suits every topology."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from structmat.networks.network import Network

STEP = 1.0  # radians per unit of the learning rate, at the identity
_SLOPES = {"cayley": 2.0, "cayley_neumann": 2.0, "householder": 2.0, "exp": 1.0, "givens": 1.0}


@lru_cache(maxsize=256)  # a model has many layers of a few widths
def generator_scale(network: Network, parametrization: str, field: str = "real") -> float:
    """Return the factor of the generators for which a step of Adam rotates vectors by its rate.

    At the identity, a change of every trained number by ±η rotates a random vector by an angle of
    root mean square `STEP`·η, for every topology.

    Parameters
    ----------
    network : Network
    parametrization : str
    field : {"real", "complex"}

    Examples
    --------
    >>> import structmat as sm
    >>> generator_scale(sm.butterfly(4), "exp")
    0.7071067811865475
    """
    d = network.width
    pairs, wires = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for bank in network.straightened().network.banks:
        rows = np.sort(bank.reads, axis=1)
        above, below = np.triu_indices(bank.radix, 1)
        pairs.append((rows[:, above] * d + rows[:, below]).ravel())
        wires.append(rows.ravel())
    squares = [
        float(np.square(np.unique(np.concatenate(a), return_counts=True)[1]).sum())
        for a in (pairs, wires)
    ]
    n = 2 * squares[0] / d if field == "real" else (4 * squares[0] + squares[1]) / d
    return STEP / (_SLOPES[parametrization] * math.sqrt(n)) if n else 1.0
