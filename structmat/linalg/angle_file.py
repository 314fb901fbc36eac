"""Networks with rotation angles as values: their blocks, and the JSON that the explorer exports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from structmat._util.files import parse_json
from structmat.errors import BlockError, FileError, StructmatError, abbreviated, check_format
from structmat.families.resolution import checked
from structmat.linalg.blocks import Array, generators_per_block, givens
from structmat.networks.network import Network

FORMAT, VERSION = "structmat.angles", 1
_WRITER = "the explorer or structmat.linalg.angle_file.written"

Angles = Sequence[Sequence[Sequence[float]]]


def blocks_of(net: Network, angles: Angles) -> list[Array]:
    """Return the blocks of a network whose switches rotate by given angles.

    Parameters
    ----------
    net : Network
    angles : for each stage, for each switch, a sequence of r(r−1)/2 numbers
        The switches of a stage are numbered bank by bank. The angles of a switch, in radians, are
        those of `structmat.linalg.blocks.givens`, one for each plane (i, j), in lexicographic
        order.

    Returns
    -------
    list of (n, r, r) float64 arrays
        One for each bank.

    Raises
    ------
    BlockError
        If the numbers of stages, switches or angles do not fit the network, or an angle is not a
        finite number.

    Examples
    --------
    >>> from structmat.linalg.rotation import Rotation
    >>> net = Network.of(2, [[[0, 1]]])
    >>> Rotation(net, blocks_of(net, [[[np.pi / 2]]])).matrix().round(12) + 0.0
    array([[ 0.,  1.],
           [-1.,  0.]])
    """
    net = checked(net, "blocks_of")
    _check_count(angles, net.depth, "angles", "stages")
    blocks = []
    for t, (stage, given) in enumerate(zip(net.stages, angles, strict=True)):
        _check_count(given, sum(b.count for b in stage.banks), f"angles of stage {t}", "switches")
        rows = iter(given)
        for bank in stage.banks:
            size = generators_per_block(bank.radix)
            blocks.append(
                givens(_array([next(rows) for _ in range(bank.count)], size, t), bank.radix)
            )
    return blocks


def _check_count(values: Any, count: int, name: str, of: str) -> None:
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str):
        raise BlockError(
            f"{name}={abbreviated(values)}: give a list with one entry for each of the {of}"
        )
    if len(values) != count:
        raise BlockError(f"{name}: {len(values)} entries, but there are {count} {of}")


def _array(rows: list[Any], size: int, stage: int) -> Array:
    try:
        found: Array = np.array(rows, dtype=float)
    except (TypeError, ValueError, OverflowError):
        found = np.array(np.nan)
    if found.shape != (len(rows), size) or not np.isfinite(found).all():
        raise BlockError(
            f"angles of stage {stage}: {abbreviated(rows)}; each switch needs {size} finite"
            " numbers, one for each pair of its wires"
        )
    return found


def written(net: Network, angles: Angles) -> str:
    """Return a network and its angles as JSON text, which `Rotation.load` reads from a file.

    Raises
    ------
    BlockError
        As for `blocks_of`.

    Examples
    --------
    >>> written(Network.of(2, [[[0, 1]]]), [[[0.5]]])
    '{"format": "structmat.angles", "version": 1, "network": {"format": "structmat.network", \
"version": 1, "width": 2, "stages": [[[[[0, 1]]]]]}, "angles": [[[0.5]]]}'
    """
    blocks_of(net, angles)
    listed = [[[float(angle) for angle in row] for row in stage] for stage in angles]
    head = {"format": FORMAT, "version": VERSION, "network": json.loads(net.to_json())}
    return json.dumps(head | {"angles": listed})


def read(text: str) -> tuple[Network, list[Array]]:
    """Return the network and the blocks of JSON text.

    Raises
    ------
    FileError
        If the text is truncated, of another schema version, or contains something else.

    Examples
    --------
    >>> net, [block] = read(written(Network.of(2, [[[0, 1]]]), [[[0.0]]]))
    >>> net, block.tolist()
    (Network(width=2, depth=1, parameters=1), [[[1.0, 0.0], [0.0, 1.0]]])
    """
    data = parse_json(text, "rotation JSON", f"; expected the output of {_WRITER}")
    check_format(data, what="rotation JSON", form=FORMAT, version=VERSION, writer=_WRITER)
    try:
        net = Network.from_json(json.dumps(data.get("network")))
        return net, blocks_of(net, data.get("angles"))
    except FileError:
        raise
    except StructmatError as error:
        raise FileError(f"rotation JSON is damaged ({error})") from None
