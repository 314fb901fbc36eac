"""The torch layer `Orthogonal`, and orthogonal parametrizations. Importing this loads torch.

The product of vectors and a network is in `ops`, with execution plans and a backend for each type
of device; `parametrizations` maps free parameters to orthogonal blocks. The other modules support
offloaded parameters and autocast, and access private parts of torch.
"""

from structmat.nn.fixed_rotation import FixedRotation
from structmat.nn.learned_topology import LearnedTopology, learn_topology
from structmat.nn.orthogonal_layer import Orthogonal
from structmat.nn.weight_parametrization import orthogonal

__all__ = ["Orthogonal", "orthogonal", "FixedRotation", "learn_topology", "LearnedTopology"]
