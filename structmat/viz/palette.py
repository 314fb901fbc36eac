"""The colours of all pictures: of switches and curves, of lines and text, and of sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from structmat.errors import require

# Okabe and Ito (2008): distinguishable to colour-blind readers, and from white and black; black
# and yellow are omitted.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

INK, BARE, QUIET, FAINT = "#333333", "#888888", "#BBBBBB", "#D4D4D4"


def in_steps(count: int) -> list[Any]:
    """Return `count` colours that form a sequence, from dark to light."""
    maps = require("matplotlib", "plot").colormaps
    return list(maps["viridis"](np.linspace(0, 0.92, count)))  # the lightest yellow is too pale
