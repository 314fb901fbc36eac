"""structmat: an orthogonal matrix as a network of small rotations.

Draw or name a network, see what it can do, get its sparse factors, and train it as a torch layer.
Importing this package does not load torch; `structmat.nn` does.
"""

from structmat import errors
from structmat.blocks import adjoint_blocks, identity_blocks, random_blocks
from structmat.choosing import dense_networks
from structmat.drawing import diagram
from structmat.errors import StructmatError
from structmat.families import (
    Claims,
    Family,
    baseline,
    benes,
    block_diagonal,
    brickwall,
    butterfly,
    catalogue,
    cayley,
    chordal_cycle,
    circulant,
    clos,
    de_bruijn,
    deal,
    family,
    gossip,
    hamming,
    hypercube,
    kautz,
    knodel,
    margulis,
    mixed_radix,
    monarch,
    omega,
    parse,
    product,
    ramanujan,
    random,
    random_regular,
    round_robin,
    ruler,
    shuffle,
    torus,
    triangle,
    waksman,
)
from structmat.graph import completion, from_graph, from_layers
from structmat.network import Network, Straightened
from structmat.reachability import dense_depth, is_dense, path_counts, reach
from structmat.relabelling import Ends, isomorphism
from structmat.reporting import Comparison, Report, compare, report
from structmat.routing import route
from structmat.scheduling import Schedule, schedule
from structmat.sparse import apply, dense, factors, operator
from structmat.stage import Bank, Stage

__version__ = "0.1.0"

__all__ = [
    "Bank",
    "Stage",
    "Network",
    "Straightened",
    "block_diagonal",
    "butterfly",
    "mixed_radix",
    "monarch",
    "shuffle",
    "deal",
    "kautz",
    "omega",
    "baseline",
    "benes",
    "waksman",
    "clos",
    "brickwall",
    "triangle",
    "round_robin",
    "ruler",
    "knodel",
    "gossip",
    "random",
    "hamming",
    "hypercube",
    "torus",
    "product",
    "circulant",
    "cayley",
    "de_bruijn",
    "random_regular",
    "ramanujan",
    "margulis",
    "chordal_cycle",
    "from_graph",
    "from_layers",
    "completion",
    "isomorphism",
    "Ends",
    "Family",
    "family",
    "Claims",
    "parse",
    "catalogue",
    "reach",
    "is_dense",
    "path_counts",
    "dense_depth",
    "dense_networks",
    "Report",
    "report",
    "Comparison",
    "compare",
    "diagram",
    "route",
    "Schedule",
    "schedule",
    "random_blocks",
    "identity_blocks",
    "adjoint_blocks",
    "factors",
    "operator",
    "dense",
    "apply",
    "StructmatError",
    "errors",
    "__version__",
]
