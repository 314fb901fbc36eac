"""Lower bounds on the error of a fit, from paths, cuts and orthogonality.

Each is a lower bound on ‖R − T‖²_F over all orthogonal or unitary blocks. A submatrix A of T is
compared with the admissible values of that submatrix of R. Its singular values are at most 1; if a
cut allows rank k, all but k of them are 0 (Eckart and Young). The singular values of two matrices
differ by no more than the matrices themselves (Mirsky), so the sum of the squared distances from
the singular values of A to the nearest admissible values is a lower bound. The bounds for disjoint
submatrices add up.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from structmat.analysis.min_cut import rank_bounds
from structmat.analysis.reachability import reach
from structmat.fitting.stage_splits import connected, groups
from structmat.linalg.blocks import Array
from structmat.networks.network import Network
from structmat.networks.permutation import Index


def lower_bound(net: Network, target: Array, *, special: bool = False) -> float:
    """Return a lower bound on ‖R − T‖_F / ‖T‖_F over all blocks.

    It is the largest of three bounds. *Paths*: entries without a path are 0; the nearest orthogonal
    matrix to the remainder of T is a polar factor, and a wire in no switch has an entry 1.
    *Components*: for every t, consider a component of the outputs under the stages after t and a
    component of the inputs under the stages up to t. The submatrix of R between them has as many
    singular values 1 as the two components have wires in common, and the others are 0. *Cuts*:
    minimum cuts between quarters and halves of the wires, and between wires that differ in a bit of
    their number.

    Rounding errors are subtracted, so the bound is as rigorous as the computed singular value
    decomposition.

    Parameters
    ----------
    net : Network
        A straight network.
    target : (width, width), not zero
    special : bool
        Whether real blocks are rotations, in which case R has determinant 1.

    References
    ----------
    C. Eckart and G. Young, The approximation of one matrix by another of lower rank, 1936.
    L. Mirsky, Symmetric gauge functions and unitarily invariant norms, 1960.

    Examples
    --------
    >>> swap = np.eye(4)[[0, 2, 1, 3]]
    >>> round(lower_bound(Network.of(4, [[[0, 1], [2, 3]]]), swap), 4)
    1.0
    """
    wide = target.astype(np.result_type(target.dtype, np.float64))
    squares = [_by_paths(net, wide, special=special), *_by_components(net, wide)]
    squares += _by_cuts(net, wide)
    found = np.sqrt(max(squares)) / np.linalg.norm(wide)
    rounding = np.finfo(wide.dtype).eps * (net.width + 8)
    return float(max(0.0, found - rounding * (1 + found)))  # rounding errors of T and of the sums


def _by_paths(net: Network, target: Array, *, special: bool) -> float:
    open_to = reach(net)
    square = _square(target[~open_to])
    allowed = np.where(open_to, target, 0)
    busy = np.zeros(net.width, dtype=bool)
    for bank in net.banks:
        busy[bank.reads] = True
    for part in groups(connected(net)[-1]):
        inner = allowed[np.ix_(part, part)]
        if not busy[part[0]]:
            square += _square(inner - 1)  # a wire in no switch
            continue
        values = np.linalg.svd(inner, compute_uv=False)
        square += _square(values - 1)
        if special and target.dtype.kind == "f" and np.linalg.slogdet(inner)[0] < 0:
            square += 4 * float(values[-1])  # the best rotation flips the last direction
    return square


def _by_components(net: Network, target: Array) -> Iterator[float]:
    # The wires of some outputs O are divided among the components I of the inputs. Their rows of R
    # have |O| singular values 1 in total, and R[O, I] has rank at most |O ∩ I| and norm at most 1.
    # Hence each R[O, I] has exactly |O ∩ I| singular values 1, and the others are 0.
    before, after = connected(net), connected(net.inverse())[::-1]
    for t in range(net.depth + 1):
        if before[t].any() and after[t].any():  # at least two components of each
            yield sum(
                _blockwise(target, outputs, inputs)
                for outputs in _by_size(after[t])
                for inputs in _by_size(before[t])
            )


def _by_size(label: Index) -> list[Index]:
    """Return the wires of components, as one array (components, size) for each size."""
    parts = groups(label)
    sizes = sorted({len(part) for part in parts})
    return [np.stack([part for part in parts if len(part) == size]) for size in sizes]


def _blockwise(target: Array, outputs: Index, inputs: Index) -> float:
    """Return the sum of the bounds for all submatrices of outputs (a, p) and inputs (b, q)."""
    holder = np.full(len(target), -1)
    holder[inputs] = np.arange(len(inputs))[:, None]
    shared = holder[outputs]
    group = np.broadcast_to(np.arange(len(outputs))[:, None], shared.shape)
    ranks = np.zeros((len(outputs), len(inputs)), dtype=np.int64)
    np.add.at(ranks, (group[shared >= 0], shared[shared >= 0]), 1)
    parts = target[outputs[:, None, :, None], inputs[None, :, None, :]]
    total = _square(parts[ranks == 0])
    for rank in np.unique(ranks[ranks > 0]):
        values = np.linalg.svd(parts[ranks == rank], compute_uv=False)
        values[:, :rank] -= 1
        total += _square(values)
    return total


def _by_cuts(net: Network, target: Array) -> Iterator[float]:
    wires = np.arange(net.width)
    pairs = [(half, other) for half in _halves(net.width) for other in (~half, half)]
    ranks = rank_bounds(net, [(wires[a], wires[b]) for a, b in pairs])
    for (a, b), rank in zip(pairs, ranks.tolist(), strict=True):
        # The rows and columns of R have norm 1: if a submatrix has low rank, its neighbours have
        # singular values 1, and the opposite submatrix has low rank as well.
        p, q = int(a.sum()), int(b.sum())
        if rank < min(p, q):
            yield (
                _gap(target[np.ix_(a, b)], most=rank)
                + _gap(target[np.ix_(~a, ~b)], most=net.width - p - q + rank)
                + _gap(target[np.ix_(a, ~b)], ones=p - rank)
                + _gap(target[np.ix_(~a, b)], ones=q - rank)
            )


def _halves(width: int) -> Iterator[Array]:
    """Yield distinct sets of wires: the first quarter, half, three quarters; and one per bit."""
    wires = np.arange(width)
    sets = [wires < width * k // 4 for k in (1, 2, 3)]
    sets += [wires >> k & 1 == 0 for k in range((width - 1).bit_length())]
    seen: set[bytes] = set()
    for selected in sets:
        if 0 < selected.sum() < width and selected.tobytes() not in seen:
            seen.add(selected.tobytes())
            yield selected


def _gap(part: Array, *, most: int | None = None, ones: int = 0) -> float:
    """Return the squared distance from a matrix to the nearest admissible one, of norm at most 1.

    Admissible matrices have at most `most` non-zero singular values (by default any number), and at
    least `ones` singular values 1.
    """
    values = np.linalg.svd(part, compute_uv=False)
    nearest = np.minimum(values, 1)
    nearest[max(most, 0) if most is not None else len(values) :] = 0
    nearest[:ones] = 1
    return _square(values - nearest)


def _square(values: Array) -> float:
    return float(np.sum(np.abs(values) ** 2))
