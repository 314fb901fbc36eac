"""The torch layer `Orthogonal`, fixed rotations, and orthogonal parametrizations.

Importing this loads torch.
"""

from structmat.nn.fixed_rotation import FixedRotation
from structmat.nn.orthogonal_layer import Orthogonal
from structmat.nn.weight_parametrization import orthogonal

__all__ = ["Orthogonal", "orthogonal", "FixedRotation"]
