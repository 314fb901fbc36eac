"""Families of networks: rules from a width to a network, registered by name.

The families are grouped by kind, one file for each; `registry` registers them, `grammar` parses
specs such as `"butterfly(block=8) * 2"`, and `resolution` resolves any topology to a network.
"""

from structmat.families.affine_spaces import affine
from structmat.families.butterflies import block_diagonal, butterfly, mixed_radix, monarch
from structmat.families.composition import Composition, Rule
from structmat.families.expanders import chordal_cycle, margulis, ramanujan, random_regular
from structmat.families.gossip_protocols import gossip, knodel
from structmat.families.grammar import as_rule, parse
from structmat.families.graph_families import cayley_graph, circulant, de_bruijn
from structmat.families.meshes import brickwall, round_robin, ruler, triangle
from structmat.families.mixing_networks import mixing_network
from structmat.families.multistage import baseline, benes, clos, omega, waksman
from structmat.families.products import hamming, hypercube, product, torus
from structmat.families.random_networks import random
from structmat.families.registry import Claims, Entry, catalogue, family, unregister
from structmat.families.shuffles import deal, kautz, shuffle
from structmat.families.spec import Family

__all__ = [
    "Claims",
    "Composition",
    "Entry",
    "Family",
    "Rule",
    "affine",
    "as_rule",
    "baseline",
    "benes",
    "block_diagonal",
    "brickwall",
    "butterfly",
    "catalogue",
    "cayley_graph",
    "chordal_cycle",
    "circulant",
    "clos",
    "de_bruijn",
    "deal",
    "family",
    "gossip",
    "hamming",
    "hypercube",
    "kautz",
    "knodel",
    "margulis",
    "mixed_radix",
    "mixing_network",
    "monarch",
    "omega",
    "parse",
    "product",
    "ramanujan",
    "random",
    "random_regular",
    "round_robin",
    "ruler",
    "shuffle",
    "torus",
    "triangle",
    "unregister",
    "waksman",
]
