"""Conversion of networkx graphs: undirected ones by edges or cliques, and layered grid graphs."""

from structmat.graph.layered import completion, from_layers
from structmat.graph.undirected import from_graph

__all__ = ["completion", "from_graph", "from_layers"]
