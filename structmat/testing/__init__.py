"""Hypothesis strategies for networks, their parts, blocks and targets, and assertions.

`check_family` runs the conformance suite of the built-in families on any family, including
user-defined ones. The extra `testing` is required: pip install "structmat[testing]".
"""

from structmat.testing.assertions import assert_dense, assert_orthogonal
from structmat.testing.conformance import check_family
from structmat.testing.strategies import (
    blocks_for,
    families,
    layers,
    networks,
    seeds,
    stages,
    targets,
)

__all__ = [
    "networks",
    "families",
    "stages",
    "layers",
    "seeds",
    "blocks_for",
    "targets",
    "assert_orthogonal",
    "assert_dense",
    "check_family",
]
