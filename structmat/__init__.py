"""structmat: an orthogonal matrix as a network of small rotations.

Draw or name a network, see what it can do, get its sparse factors, and train it as a torch layer.
Importing this package does not load torch; `structmat.nn` does.
"""

from typing import TYPE_CHECKING, Any

from structmat import errors
from structmat.analysis.dimension import Dimension, dimension
from structmat.analysis.gauge import Reduced, reduced
from structmat.analysis.isomorphism import Ends, isomorphism
from structmat.analysis.jacobian import Conditioning, conditioning
from structmat.analysis.lower_bounds import LowerBounds, lower_bounds
from structmat.analysis.min_cut import rank_bound
from structmat.analysis.mixing import mixing
from structmat.analysis.reachability import dense_depth, is_dense, path_counts, reach
from structmat.analysis.report import Comparison, Report, compare, report
from structmat.analysis.spectrum import SpectralStatistics, spectral_statistics
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
from structmat.fitting import Fit, fit
from structmat.graph import completion, from_graph, from_layers
from structmat.linalg.blocks import adjoint_blocks, identity_blocks, random_blocks
from structmat.linalg.factors import apply, dense, factors, operator
from structmat.linalg.schedule import Schedule, schedule
from structmat.networks.network import Network, Straightened
from structmat.networks.stage import Bank, Stage
from structmat.routing import route
from structmat.search.dense_networks import dense_networks
from structmat.viz.text_diagram import diagram

if TYPE_CHECKING:
    from structmat.linalg.rotation import Rotation

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
    "rank_bound",
    "LowerBounds",
    "lower_bounds",
    "mixing",
    "SpectralStatistics",
    "spectral_statistics",
    "Conditioning",
    "conditioning",
    "dense_networks",
    "Dimension",
    "dimension",
    "Reduced",
    "reduced",
    "Report",
    "report",
    "Comparison",
    "compare",
    "diagram",
    "route",
    "Schedule",
    "schedule",
    "Rotation",
    "random_blocks",
    "identity_blocks",
    "adjoint_blocks",
    "factors",
    "operator",
    "dense",
    "apply",
    "Fit",
    "fit",
    "StructmatError",
    "errors",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "Rotation":  # a scipy operator, and scipy.sparse takes a while to load
        from structmat.linalg.rotation import Rotation

        return Rotation
    raise AttributeError(f"module 'structmat' has no attribute {name!r}")
