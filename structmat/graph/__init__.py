"""networkx in: any undirected graph by edge colouring, any layered one that can be orthogonal."""

from structmat.graph.colouring import from_graph
from structmat.graph.layers import completion, from_layers

__all__ = ["completion", "from_graph", "from_layers"]
