"""Networks as immutable values: permutations, switches, stages, and their serialization."""

from structmat.networks.network import Network, Straightened
from structmat.networks.stage import Bank, Stage

__all__ = ["Bank", "Network", "Stage", "Straightened"]
