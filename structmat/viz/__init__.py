"""Plots of networks and of training; functions that draw take `ax=` and return matplotlib Axes.

Without `ax` a new figure is created that is not registered with pyplot: it need not be closed, and
`plt.title` and `plt.show()` have no effect on it. Pass `ax=plt.subplots()[1]` to use them. Axes on
the last line of a notebook cell are displayed; `save(ax, path)` writes them as SVG or PNG. The
colours are distinguishable to colour-blind readers.
"""

from structmat.viz.charts import bars, curves
from structmat.viz.eigenangle_plot import eigenangles
from structmat.viz.matrix_patterns import paths, reach, sparsity
from structmat.viz.meeting_graph import meetings
from structmat.viz.network_drawing import grid
from structmat.viz.palette import COLOURS
from structmat.viz.recorded_slider import Slider, slider
from structmat.viz.style import save
from structmat.viz.tradeoffs import frontier, pareto, tradeoff

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
    "slider",
    "Slider",
    "save",
    "COLOURS",
]
