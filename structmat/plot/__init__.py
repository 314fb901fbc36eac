"""Pictures of networks and of training: every function returns matplotlib Axes and takes `ax=`.

Without `ax` a figure of its own is made, which pyplot does not know: nothing has to be closed, and
`plt.title` and `plt.show()` do not reach it; they do with `ax=plt.subplots()[1]`. As the last line
of a cell of a notebook axes show themselves; `save(ax, path)` keeps them as SVG or PNG.
Colours can be told apart by colour-blind readers.
"""

from structmat.plot.angles import eigenangles
from structmat.plot.charts import bars, curves
from structmat.plot.colouring import meetings
from structmat.plot.patterns import paths, reach, sparsity
from structmat.plot.style import COLOURS, save
from structmat.plot.tradeoffs import frontier, pareto, tradeoff
from structmat.plot.wiring import grid

__all__ = [
    "grid",
    "meetings",
    "sparsity",
    "reach",
    "paths",
    "eigenangles",
    "tradeoff",
    "pareto",
    "frontier",
    "curves",
    "bars",
    "save",
    "COLOURS",
]
