"""Plots of networks and of training; every function takes `ax=` and returns matplotlib Axes.

Without `ax` a new figure is created that is not registered with pyplot: it need not be closed, and
`plt.title` and `plt.show()` do not affect it; they do with `ax=plt.subplots()[1]`. Axes on the last
line of a notebook cell are displayed; `save(ax, path)` writes them as SVG or PNG. Colours are
distinguishable to colour-blind readers.
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
