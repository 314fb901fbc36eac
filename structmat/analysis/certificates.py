"""Certificates of fixed rotations: how evenly they spread energy, and where they do not."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from structmat._util.text_table import Paragraph, Printed, Table, cell, counted, in_html
from structmat.analysis import distortion as bounds
from structmat.analysis.energies import (
    Extreme,
    deviation,
    energies,
    expected_deviation,
    expected_energies,
    haar_limit,
    largest,
    largest_pair,
)
from structmat.analysis.mixing import fourth_moments, mixing
from structmat.analysis.reachability import fewest_reached
from structmat.analysis.sign_moments import haar_fourth_moment, largest_fourth_moments
from structmat.errors import StructmatError, WiringError, abbreviated
from structmat.linalg.shared_blocks import each
from structmat.networks import permutation
from structmat.networks.permutation import Index

if TYPE_CHECKING:
    from structmat.linalg.rotation import Rotation

Array: TypeAlias = npt.NDArray[Any]

_COMPLETE = 4096  # largest width at which all inputs are examined by default
_SAMPLED = 256  # maximum number of inputs that are sampled at larger widths
_NUMBERS = 2**24  # maximum number of entries of R that are computed for a sample
_MOST = 2**26  # the same for given inputs
_FOURTH = 128  # largest width for `fourth_moments`, whose time is cubic in the width
_CHUNK = 512  # rows processed at once
_HEAD = ("quantity", "value", "ideal", "where", "holds for")


@dataclass(frozen=True)
class Certificate(Printed):
    """The result of `certify`: how evenly a rotation spreads energy, with witnesses.

    The energy of a vector is its squared norm, and that of an output y_i is |y_i|². Some attributes
    apply to any blocks on this topology, others are averages over independent random signs (phases
    if unitary) of all wires before every stage, with these blocks, and the rest apply to exactly
    this matrix. Unless `complete`, only a sample of inputs was examined, and the values for this
    matrix, the energies and the fourth moments are lower bounds on those of all inputs.

    Attributes
    ----------
    width, depth : int
    field : {"real", "complex"}
        Whether the matrix is orthogonal or unitary.
    examined : int
        The number of inputs examined.
    topology_mixing : float
        ‖W − J/d‖₂ for the averaging matrices of the stages (`structmat.mixing`): the deviation of
        E|R_ij|² from 1/d for flat blocks (all entries of a block have the same modulus) with random
        signs before every stage, and for Haar blocks.
    expected_mixing : float
        The same for these blocks: with random signs before every stage, E|R_ij|² is the product of
        the matrices of squared moduli of the stages.
    mixing : float
        ‖|R|² − J/d‖₂ of this matrix.
    reached : int
        The fewest outputs that an input reaches: for any blocks, this input leaves at least
        1/reached of its energy on one output.
    reached_from : int
        Such an input.
    expected : Extreme
        The largest E|R_ij|² over random signs before every stage, of these blocks.
    one : Extreme
        The largest |R_ij|² of this matrix: the most energy that a unit vector on one input leaves
        on one output. For random signs D, it is also the largest E|(R D x)_i|² over unit vectors x
        and outputs i.
    two : Extreme or None
        The largest |R_ij|² + |R_ik|²: the same for unit vectors on two inputs. None if fewer than
        two were examined.
    haar_limit : float
        The probability that some entry of a Haar matrix has more energy than this is at most 0.1 %.
    expected_above, above : int
        The number of examined inputs with an E|R_ij|² or an |R_ij|², respectively, above this
        limit.
    fourth : float
        The largest E|(R D x)_i|⁴ over unit vectors x, outputs i and random signs D on the inputs,
        relative to that of a Haar matrix.
    fourth_output : int
        The output where it occurs.
    haar_blocks_fourth : float or None
        The largest E|R_ij|⁴ for independent Haar blocks of the topology, relative to that of a Haar
        matrix; None above width 128.
    quartic_sum : float
        The largest Σ_i |R_ij|⁴ over the inputs j; the result of `rms_distortion` depends on it.
    """

    width: int
    depth: int
    field: str
    examined: int
    topology_mixing: float
    expected_mixing: float
    mixing: float
    reached: int
    reached_from: int
    expected: Extreme
    one: Extreme
    two: Extreme | None
    haar_limit: float
    expected_above: int
    above: int
    fourth: float
    fourth_output: int
    haar_blocks_fourth: float | None
    quartic_sum: float

    def __getattr__(self, name: str) -> Any:
        if name in ("ok", "passed", "valid"):
            raise AttributeError(
                f"a Certificate has no {name}: use its attribute faults, which is empty if no fault"
                " was found"
            )
        raise AttributeError(f"a Certificate has no attribute {name!r}")

    @property
    def complete(self) -> bool:
        """Whether all inputs were examined."""
        return self.examined == self.width

    @property
    def coherence(self) -> float:
        """√d·max |R_ij| of this matrix, at least 1 (entries of equal modulus) and at most √d."""
        return float(np.sqrt(self.width * self.one.energy))

    @property
    def faults(self) -> tuple[str, ...]:
        """Where this rotation concentrates energy more than a Haar matrix does, with witnesses."""
        found = []
        d, limit = self.width, _share(self.haar_limit)
        if self.reached < d:
            found.append(
                f"input {self.reached_from} reaches {self.reached:,} of {d:,} outputs: whatever the"
                f" blocks, it leaves at least {_share(1 / self.reached)} of its energy on one of"
                " them"
            )
        if self.expected_above:
            found.append(
                f"input {self.expected.inputs[0]} leaves on average"
                f" {_share(self.expected.energy)} of its energy on output"
                f" {self.expected.output}, over random {self._signs} before every stage;"
                f" {self._many(self.expected_above)} more than {limit} on one output"
            )
        if self.above:
            found.append(
                f"input {self.one.inputs[0]} leaves {_share(self.one.energy)} of its energy on"
                f" output {self.one.output}; {self._many(self.above)} more than {limit}, which a"
                " Haar matrix exceeds anywhere with probability at most 0.1 %"
            )
        return tuple(found)

    @property
    def _signs(self) -> str:
        return "phases" if self.field == "complex" else "signs"

    def _many(self, count: int) -> str:
        verb = "leaves" if count == 1 else "leave"
        return f"{count:,} of {counted(self.examined, 'input')} examined {verb}"

    def rms_distortion(self, outputs: int) -> float:
        """Return a bound on the root mean square of ‖S R D x‖²·d/m − 1 for every unit vector x.

        S samples m = `outputs` of the outputs uniformly, without replacement; D consists of random
        signs of the inputs. See `structmat.analysis.distortion.rms_distortion`.

        Raises
        ------
        StructmatError
            If the certificate is not complete, or `outputs` is not from 1 to the width.
        """
        self._check_complete("rms_distortion")
        return bounds.rms_distortion(self.width, outputs, self.quartic_sum, field=self.field)

    def distortion(self, outputs: int, *, vectors: int = 1, failure: float = 0.01) -> float:
        """Return ε such that ‖S R D x‖²·d/m is within ε of ‖x‖² for each of N fixed vectors.

        This holds with probability at least 1 − `failure` for samples S of m = `outputs` outputs
        and random signs D on the inputs. It is the smallest of three bounds: that of Hoeffding's
        and Bernstein's inequalities with the coherence, that of Chebyshev's inequality with
        `rms_distortion`, and max(1, d/m − 1); see `structmat.analysis.distortion.distortion`.

        Parameters
        ----------
        outputs, vectors : int
        failure : float

        Raises
        ------
        StructmatError
            If the certificate is not complete, or an argument is out of range.

        Examples
        --------
        >>> from structmat.families import mixed_radix
        >>> from structmat.linalg.rotation import Rotation
        >>> flat = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2)
        >>> net = mixed_radix(1024)
        >>> hadamard = Rotation(net, [np.tile(flat, (512, 1, 1))] * 10)
        >>> round(certify(hadamard).distortion(512, failure=0.1), 3)
        0.14
        """
        self._check_complete("distortion")
        strong = bounds.distortion(
            self.width, outputs, self.coherence, vectors=vectors, failure=failure
        )
        weak = self.rms_distortion(outputs) * math.sqrt(vectors)
        return min(strong, weak / math.sqrt(bounds.checked_failure(failure)))

    def _check_complete(self, asker: str) -> None:
        if not self.complete:
            raise StructmatError(
                f"{asker}: {self.examined:,} of {self.width:,} inputs were examined, and the bound"
                f" needs all; certify examines all up to width {_COMPLETE:,}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, as a JSON-serialisable dict."""
        found = asdict(self)
        for name in ("expected", "one", "two"):
            extreme = getattr(self, name)
            found[name] = None if extreme is None else extreme._asdict()
            if extreme is not None:
                found[name]["inputs"] = list(extreme.inputs)
        more = {"complete": self.complete, "coherence": self.coherence, "faults": list(self.faults)}
        return found | more

    def _rows(self) -> list[tuple[str, str, str, str, str]]:
        d, signs = self.width, self._signs
        least = "" if self.complete else "≥ "
        before = f"these blocks, {signs} before each stage"
        on_inputs = f"this matrix, {signs} on the inputs"
        between = f"flat blocks with {signs}, or Haar"
        even = _share(1 / d)
        flat = largest_fourth_moments(np.full((1, d), 1 / d), field=self.field)[0]
        haar = haar_fourth_moment(d, field=self.field)
        rows = [
            ("mixing", f"{self.topology_mixing:.3f}", "0", "", between),
            ("mixing", f"{self.expected_mixing:.3f}", "0", "", before),
            ("mixing", f"{least}{self.mixing:.3f}", "0", "", "this matrix"),
            (
                "outputs reached",
                f"{'' if self.complete else '≤ '}{self.reached:,}",
                f"{d:,}",
                f"{self.reached_from}",
                "any blocks",
            ),
            ("energy of one input", f"≥ {_share(1 / self.reached)}", even, "", "any blocks"),
            _energy("energy of one input", least, self.expected, even, before),
            _energy("energy of one input", least, self.one, even, "this matrix"),
        ]
        if self.two is not None:
            even = _share(2 / d)
            rows.append(_energy("energy of two inputs", least, self.two, even, "this matrix"))
        rows += [
            ("coherence", f"{least}{self.coherence:.2f}", "1.00", "", "this matrix"),
            (
                "fourth moment / Haar",
                f"{least}{self.fourth:.2f}",
                f"{flat / haar:.2f}",
                f"→ {self.fourth_output}",
                on_inputs,
            ),
        ]
        if self.haar_blocks_fourth is not None:
            value = f"{self.haar_blocks_fourth:.2f}"
            rows.append(("fourth moment / Haar", value, "1.00", "", "Haar blocks"))
        if self.complete and d > 1:
            ideal = bounds.rms_distortion(d, d // 2, 1 / d, field=self.field)
            value = f"≤ {self.rms_distortion(d // 2):.3f}"
            rows.append(("rms distortion, d/2", value, f"{ideal:.3f}", "", f"{on_inputs}, sample"))
        return rows

    @property
    def _title(self) -> str:
        kind = "unitary" if self.field == "complex" else "orthogonal"
        seen = "all inputs" if self.complete else counted(self.examined, "input")
        stages = counted(self.depth, "stage")
        return f"{kind}, width {self.width:,}, {stages}; {seen} examined"

    @property
    def _findings(self) -> list[str]:
        none = "no fault found" if self.complete else "no fault found with these inputs"
        return [f"fault: {fault}" for fault in self.faults] or [none]

    def _parts(self) -> list[object]:
        table = Table(_HEAD, self._rows(), left=(0, 3, 4), rule=True)
        findings = [Paragraph(line, indent="  ") for line in self._findings]
        return [self._title, "", table, "", *findings]

    def _repr_html_(self) -> str:
        rows = ["".join(cell("th", text) for text in _HEAD)]
        rows += ["".join(cell("td", text) for text in row) for row in self._rows()]
        findings = [cell("p", line) for line in self._findings]
        return "\n".join([cell("p", self._title), in_html(rows), *findings])


def certify(rotation: Rotation, *, inputs: npt.ArrayLike | None = None) -> Certificate:
    """Return a certificate of how evenly a rotation spreads the energy of its inputs.

    Fixed rotations are used to make all coordinates of a vector alike, for example before
    quantisation or sampling. The certificate states how well this rotation does so: for any blocks
    on its topology, on average over random signs, and for exactly this matrix. It names the inputs
    and outputs with the most concentrated energy.

    Parameters
    ----------
    rotation : Rotation
        Orthogonal or unitary, with numpy blocks, which are converted to double precision.
    inputs : sequence of integers, optional
        The inputs to examine. By default all up to width 4,096, and at larger widths at most 256
        drawn with seed 0: the energies, fourth moments and `mixing` are then lower bounds, and
        `reached` an upper bound. The two other mixing values always concern all inputs.

    Returns
    -------
    Certificate
        Exact up to rounding where all inputs are examined.

    Raises
    ------
    StructmatError
        If the argument is not a Rotation, or the given inputs need more than 2²⁶ entries of R.
    BlockError
        For blocks that are not numpy arrays.
    WiringError
        If an input is not a wire of the network, or there are none.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> from structmat.linalg.blocks import random_blocks
    >>> from structmat.linalg.rotation import Rotation
    >>> net = butterfly(64, depth=5)                      # one stage too few
    >>> certificate = certify(Rotation(net, random_blocks(net, rng=0)))
    >>> certificate.reached, certificate.one.inputs, certificate.one.output
    (32, (26,), 13)
    >>> print(certificate.faults[0])
    input 0 reaches 32 of 64 outputs: whatever the blocks, it leaves at least 1/32 of its energy \
on one of them
    """
    from structmat.linalg.rotation import Rotation  # deferred: it loads scipy.sparse

    if not isinstance(rotation, Rotation):
        raise StructmatError(
            f"certify of {abbreviated(rotation)}: it takes a Rotation, {_remedy(rotation)}"
        )
    net, width = rotation.network, rotation.network.width
    chosen = _inputs(inputs, width)
    blocks = _wide(rotation)
    field = "complex" if any(np.iscomplexobj(b) for b in blocks) else "real"
    limit = haar_limit(width, field=field)
    haar = haar_fourth_moment(width, field=field)

    squares = [each(lambda one: np.abs(one) ** 2, b) for b in blocks]
    means = expected_energies(net, squares, chosen)
    expected, expected_above = largest(means, chosen), int((means.max(axis=0) > limit).sum())
    complete = len(chosen) == width
    expected_mixing = deviation(means) if complete else expected_deviation(net, squares)
    del means  # as large as the following

    exact = energies(net, blocks, chosen)
    fourth, output = _largest_fourth(exact, field)
    reached, start = fewest_reached(net, chosen)
    haar_blocks = None
    if width <= _FOURTH:
        haar_blocks = float(fourth_moments(net, field=field).max()) / haar
    return Certificate(
        width=width,
        depth=net.depth,
        field=field,
        examined=len(chosen),
        topology_mixing=mixing(net),
        expected_mixing=expected_mixing,
        mixing=deviation(exact),
        reached=reached,
        reached_from=start,
        expected=expected,
        one=largest(exact, chosen),
        two=largest_pair(exact, chosen),
        haar_limit=limit,
        expected_above=expected_above,
        above=int((exact.max(axis=0) > limit).sum()),
        fourth=fourth / haar,
        fourth_output=output,
        haar_blocks_fourth=haar_blocks,
        quartic_sum=float((exact**2).sum(axis=0).max()),
    )


def _inputs(inputs: npt.ArrayLike | None, width: int) -> Index:
    """Return the inputs to examine, in ascending order."""
    if inputs is None:
        if width <= _COMPLETE:
            return permutation.identity(width)
        count = min(_SAMPLED, max(1, _NUMBERS // width))
        drawn = np.random.default_rng(0).choice(width, count, replace=False)
        return np.sort(drawn).astype(np.int64)
    chosen: Index = np.unique(permutation.some(inputs, width, "inputs"))
    if not len(chosen):
        raise WiringError("inputs is empty: give at least one input")
    if len(chosen) * width > _MOST:
        raise StructmatError(
            f"{len(chosen):,} inputs of {width:,}: certify computes up to {_MOST:,} entries;"
            f" give at most {max(1, _MOST // width):,} inputs"
        )
    return chosen


def _wide(rotation: Rotation) -> list[Array]:
    """Return the blocks in double precision."""
    return [
        each(lambda one: one.astype(np.result_type(one, np.float64)), b)
        for b in rotation._numpy("certify")
    ]


def _largest_fourth(energies: Array, field: str) -> tuple[float, int]:
    """Return the largest fourth moment over signs on the inputs, and its output."""
    moments = np.concatenate(
        [
            largest_fourth_moments(energies[first : first + _CHUNK], field=field)
            for first in range(0, len(energies), _CHUNK)
        ]
    )
    output = int(moments.argmax())
    return float(moments[output]), output


def _energy(
    name: str, least: str, found: Extreme, ideal: str, condition: str
) -> tuple[str, str, str, str, str]:
    where = f"{', '.join(map(str, found.inputs))} → {found.output}"
    return name, f"{least}{_share(found.energy)}", ideal, where, condition


def _share(energy: float) -> str:
    """Return an energy as 1/n or 2/n if it has this value up to rounding, else as a decimal."""
    for numerator in (1, 2):
        n = round(numerator / energy) if energy > 0 else 0
        if n and abs(energy * n / numerator - 1) < 1e-9:
            return f"{numerator}/{n:,}" if n > 1 else f"{numerator}"
    return f"{energy:.4f}"


def _remedy(value: Any) -> str:
    """Return advice on making a Rotation from a value that is not one."""
    if isinstance(value, np.ndarray) and value.ndim == 2:
        whole = f"Network.of({len(value)}, [[range({len(value)})]])"
        return f"such as one switch with this matrix: Rotation({whole}, [matrix[None]])"
    held = getattr(value, "rotation", None)
    if hasattr(held, "network"):  # of a Fit, or a module with a fixed rotation
        return "such as its attribute rotation"
    if callable(held):  # of a layer
        return "such as the result of its method rotation()"
    return "such as Rotation(net, random_blocks(net, rng=0))"
