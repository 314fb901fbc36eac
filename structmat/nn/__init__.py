"""The torch layer `Orthogonal`, and weights that are orthogonal. Importing this loads torch."""

from structmat.nn.orthogonal_layer import Orthogonal
from structmat.nn.parametrize import orthogonal

__all__ = ["Orthogonal", "orthogonal"]
