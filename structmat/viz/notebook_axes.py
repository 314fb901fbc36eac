"""Axes whose figure a notebook displays if they are the value of the last line of a cell.

This module imports matplotlib, and is imported only when the first figure is created.
"""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_DPI = 100  # of the page; twice as many are rendered, for high-resolution screens


class Shown(Axes):
    """Axes that display their figure in notebooks, although pyplot does not know the figure.

    Examples
    --------
    >>> ax = shown(4, 3)
    >>> data, size = ax._repr_png_()
    >>> data[1:4], size
    (b'PNG', {'width': 400, 'height': 300})
    """

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        figure: Any = self.figure
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=2 * _DPI)
        width, height = (round(inches * _DPI) for inches in figure.get_size_inches())
        return data.getvalue(), {"width": width, "height": height}


def shown(width: float, height: float) -> Shown:
    """Return the axes of a new figure of this size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.add_subplot(axes_class=Shown)
    assert isinstance(ax, Shown)
    return ax
