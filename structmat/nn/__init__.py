"""The torch layer `Orthogonal` and what it is computed with. Importing this loads torch."""

from structmat.nn.orthogonal_layer import Orthogonal

__all__ = ["Orthogonal"]
