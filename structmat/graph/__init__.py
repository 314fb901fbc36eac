"""networkx in: undirected graphs by edges or cliques, layered ones that can be orthogonal."""

from structmat.graph.layers import completion, from_layers
from structmat.graph.undirected import from_graph

__all__ = ["completion", "from_graph", "from_layers"]
