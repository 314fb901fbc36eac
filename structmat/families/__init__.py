"""Families: rules from a width to a network, registered by name."""

from structmat.families.butterflies import block_diagonal, butterfly, mixed_radix, monarch
from structmat.families.multistage import benes, shuffle
from structmat.families.randomised import random
from structmat.families.registry import Entry, Family, as_family, catalogue, family, parse

__all__ = [
    "Entry",
    "Family",
    "as_family",
    "benes",
    "block_diagonal",
    "butterfly",
    "catalogue",
    "family",
    "mixed_radix",
    "monarch",
    "parse",
    "random",
    "shuffle",
]
