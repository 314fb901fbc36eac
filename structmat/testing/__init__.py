"""Hypothesis strategies that draw networks, their parts, blocks and targets; and assertions.

`check_family` is the conformance suite that every family here passes, and one of your own should.
They need the extra `testing`: pip install "structmat[testing]".
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
