"""Eigenangles of a network with random blocks, compared with those of Haar rotations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from structmat.analysis.spectrum import angles_of, haar_angles
from structmat.errors import checked_integer
from structmat.families.resolution import checked
from structmat.networks.network import Network
from structmat.viz.palette import COLOURS, INK
from structmat.viz.style import axes, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def eigenangles(
    net: Network,
    *,
    samples: int | None = None,
    bins: int = 45,
    rng: np.random.Generator | int | None = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the distribution of eigenangles for random blocks, compared with Haar rotations.

    The eigenvalues of a rotation are pairs exp(±iθ). Bars show the density of the angles θ between
    0 and π for matrices of the network with Haar blocks, relative to the uniform density; the line
    is the exact density for Haar rotations, averaged over each bar.

    Parameters
    ----------
    net : Network
        If it is not straight, its straight form is used, without the end permutations.
    samples : int, optional
        The number of matrices drawn, each in time cubic in the width; by default enough for about
        10,000 angles.
    bins : int
        The number of bars.
    rng : Generator, int or None
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    WidthError
        For a single wire, which has no rotations.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> ax = eigenangles(butterfly(8), samples=20)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['20 random matrices of the network', 'Haar rotations']
    """
    net = checked(net, "eigenangles")
    edges = np.linspace(0, np.pi, checked_integer(bins, "bins", 1) + 1)
    angles = angles_of(net, samples, rng=rng)
    counts, _ = np.histogram(angles, edges)
    even = np.pi / np.diff(edges)
    haar = np.diff(haar_angles(edges, net.width)) * even
    ax = axes(ax, 6.4, 3.6)
    label = f"{len(angles):,} random matrices of the network"
    ax.stairs(counts / angles.size * even, edges, fill=True, color=COLOURS[5], label=label)
    ax.stairs(haar, edges, baseline=None, color=INK, linewidth=1.5, label="Haar rotations")
    ax.set_xlim(0, np.pi)
    ax.set_ylim(bottom=0)
    ax.set_xticks([0, np.pi / 2, np.pi], ["0", "π/2", "π"])
    ax.set_xlabel("eigenangle θ")
    ax.set_ylabel("density, uniform = 1")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    legend(ax)
    return ax
