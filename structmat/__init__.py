"""structmat: an orthogonal matrix as a network of small rotations.

Draw or name a network, analyse it, compute its sparse factors, and train it as a torch layer.
Importing this package does not load torch; `structmat.nn` does. The ten most used families are
here, and all families are in `structmat.families`.
"""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from structmat import errors, families
from structmat.analysis.certificates import certify
from structmat.analysis.comparison import compare
from structmat.analysis.dimension import dimension
from structmat.analysis.gauge import reduced
from structmat.analysis.isomorphism import isomorphism
from structmat.analysis.jacobian import conditioning
from structmat.analysis.lower_bounds import lower_bounds
from structmat.analysis.min_cut import rank_bound
from structmat.analysis.mixing import mixing
from structmat.analysis.reachability import dense_depth, is_dense, path_counts, reach
from structmat.analysis.report import report
from structmat.analysis.spectrum import spectral_statistics
from structmat.errors import StructmatError
from structmat.families import (
    Family,
    benes,
    block_diagonal,
    brickwall,
    butterfly,
    catalogue,
    family,
    gossip,
    mixed_radix,
    monarch,
    parse,
    random,
    ruler,
    shuffle,
)
from structmat.families.resolution import network
from structmat.fitting import fit
from structmat.graph import completion, from_graph, from_layers
from structmat.linalg.blocks import identity_blocks, random_blocks
from structmat.linalg.schedule import schedule
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage
from structmat.routing import route
from structmat.search.dense_networks import dense_networks
from structmat.viz.text_diagram import diagram

if TYPE_CHECKING:
    from structmat.analysis.symbolic import symbolic
    from structmat.explorer.exploring import explore
    from structmat.linalg import transforms
    from structmat.linalg.rotation import Rotation
    from structmat.linalg.rotators import Rotator, rotator
    from structmat.search.atlas.lookup import atlas
    from structmat.search.choice.ranking import choose
    from structmat.search.study.engine import search

__version__ = "0.1.0"

__all__ = [
    "Network",
    "Stage",
    "Bank",
    "network",
    "from_graph",
    "from_layers",
    "completion",
    "families",
    "butterfly",
    "mixed_radix",
    "monarch",
    "shuffle",
    "block_diagonal",
    "benes",
    "brickwall",
    "ruler",
    "gossip",
    "random",
    "Family",
    "family",
    "parse",
    "catalogue",
    "choose",
    "dense_networks",
    "atlas",
    "search",
    "report",
    "compare",
    "certify",
    "diagram",
    "explore",
    "reach",
    "is_dense",
    "path_counts",
    "dense_depth",
    "rank_bound",
    "lower_bounds",
    "dimension",
    "reduced",
    "mixing",
    "spectral_statistics",
    "conditioning",
    "isomorphism",
    "Rotation",
    "transforms",
    "Rotator",
    "rotator",
    "random_blocks",
    "identity_blocks",
    "schedule",
    "symbolic",
    "fit",
    "route",
    "StructmatError",
    "errors",
    "__version__",
]


if not TYPE_CHECKING:
    _DEFERRED = {  # importing scipy.sparse takes a while, and sympy longer
        "Rotation": "structmat.linalg.rotation",
        "Rotator": "structmat.linalg.rotators",
        "rotator": "structmat.linalg.rotators",
        "choose": "structmat.search.choice.ranking",
        "symbolic": "structmat.analysis.symbolic",
        "atlas": "structmat.search.atlas.lookup",
        "explore": "structmat.explorer.exploring",
    }
    _HINTS = {  # for names that users expect here
        "adjoint_blocks": "use Rotation(net, blocks).H.blocks",
        "load": "use structmat.Rotation.load(path)",
        "from_matrix": "structmat.fit(net, matrix).rotation is the rotation fitted to a matrix",
        "random_rotation": "use rotator(width), or Rotation(net, random_blocks(net, rng=0))",
        "rotation": "use rotator(width), or Rotation(net, random_blocks(net, rng=0))",
        "draw": "use net.plot(), or print(structmat.diagram(net))",
        "plot": "use net.plot(), or print(structmat.diagram(net))",
        "operations": "use r.operations of a transform r, or schedule(net)",
    }

    class _Library(ModuleType):
        """The class of this module: `search` is the function, not the package of this name."""

        @property
        def search(self) -> Any:
            return import_module("structmat.search.study.engine").search

        @search.setter
        def search(self, package: ModuleType) -> None:
            """Ignore the package, which Python assigns when it has imported it."""

    sys.modules[__name__].__class__ = _Library

    def __getattr__(name: str) -> Any:
        if name in _DEFERRED:
            return getattr(import_module(_DEFERRED[name]), name)
        if name == "transforms":
            return import_module("structmat.linalg.transforms")
        raise AttributeError(f"module 'structmat' has no attribute {name!r}{_elsewhere(name)}")

    def __dir__() -> list[str]:
        loaded = (name for name in globals() if f"structmat.{name}" in sys.modules)
        return sorted({*__all__, *loaded})

    def _elsewhere(name: str) -> str:
        """Return a hint, for an error message, where to find a name that this package lacks."""
        if name.startswith("_"):  # asked by Python and by notebooks
            return ""
        if name in families.__all__:
            return f"; it is structmat.families.{name}"
        if (Path(__file__).parent / name / "__init__.py").is_file():
            return f"; it is a package: import structmat.{name}"
        transforms = import_module("structmat.linalg.transforms")
        if transform := transforms.named(name):
            return f"; structmat.transforms has {transform}"
        if name in _HINTS:
            return f"; {_HINTS[name]}"
        known = {*__all__, *families.__all__, *transforms.__all__}
        return errors.suggest(name, known, "dir(structmat) lists its names")
