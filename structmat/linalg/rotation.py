"""Rotations: networks with blocks, that is, orthogonal or unitary matrices in factored form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np
import numpy.typing as npt
import scipy
from scipy.sparse.linalg import LinearOperator

from structmat._util.files import make_directory, read_bytes, write_bytes
from structmat.errors import (
    BlockError,
    FileError,
    StructmatError,
    abbreviated,
    checked_integer,
    require,
)
from structmat.families.resolution import checked
from structmat.linalg import angle_file
from structmat.linalg.block_powers import powers
from structmat.linalg.blocks import (
    adjoint,
    by_stage,
    check_shapes,
    checked_blocks,
    count_generators,
)
from structmat.linalg.factors import factors, product
from structmat.linalg.shared_blocks import distinct, each, repeated_in
from structmat.networks.network import Network

Array = Any  # an array of any library that follows the array API standard

_FORMAT, _VERSION = "structmat.rotation", 1
DESCRIPTION = "description"  # the entry for a Rotator in the header of a file
_HINTS = {  # for attributes that users expect on a matrix
    "inv": "r.H",
    "inverse": "r.H",
    "net": "r.network",
    "conj": "r.T.H",
    "seed": "r.description, which contains it, if r is a Rotator",
    "toarray": "r.matrix()",
    "todense": "r.matrix()",
    "det": "numpy.linalg.det(r.matrix())",
    "certify": "structmat.certify(r)",
    "schedule": "structmat.schedule(r.network)",
    "random": "Rotation(net, random_blocks(net, rng=0))",
}
_SHOWN = 1024  # maximum width of a matrix that is drawn
_ORTHOGONAL = 1e-4  # |BᴴB − I| of blocks in at least single precision
_COARSE = 2e-2  # and in half precision


class Rotation(LinearOperator):
    """An orthogonal or unitary matrix R = B_m ⋯ B_1: a network, and a block for each switch.

    It is an immutable value and a scipy LinearOperator. `r @ x` is the matrix product, with
    vectors as columns; `r(x)` is R x for each vector along the last axis, as for
    `structmat.nn.Orthogonal`. Both take arrays of numpy, torch, JAX, CuPy, or any other library
    that follows the array API standard, and return arrays of the same library. If that library can
    differentiate or compile functions, this also works for functions that apply a rotation. If x
    and the blocks belong to the same library, its promotion rules determine the dtype of the
    result. If only the blocks are numpy arrays, the result has the precision of x, but at least
    single precision.

    Parameters
    ----------
    network : Network
    blocks : sequence of (n, r, r) arrays
        One array of orthogonal or unitary blocks for each bank, in the order of `random_blocks`.
        numpy arrays are copied and checked; the values of other arrays are not examined. If all
        blocks of a bank are equal, `numpy.broadcast_to(block, (n, r, r))` stores them only once,
        also in products, transposes, powers and files.

    Attributes
    ----------
    network : Network
    blocks : tuple of (n, r, r) arrays
    shape : (width, width)
    dtype : dtype

    Raises
    ------
    BlockError
        If the blocks do not fit the network, or are not orthogonal.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> from structmat.linalg.blocks import random_blocks
    >>> net = butterfly(8)
    >>> r = Rotation(net, random_blocks(net, rng=0))
    >>> r
    Rotation(width=8, depth=3, parameters=12, dtype=float64)
    >>> x = np.arange(8.0)
    >>> bool(np.allclose(r.T @ (r @ x), x)), bool(np.allclose(r.matrix() @ x, r @ x))
    (True, True)
    """

    network: Network
    blocks: tuple[Array, ...]

    def __init__(self, network: Network, blocks: Sequence[Array] | None = None) -> None:
        net = checked(network, "Rotation")
        if blocks is None:
            raise BlockError(
                "a Rotation needs blocks, such as random_blocks(net, rng=0) or identity_blocks(net)"
            )
        held = _held(net, blocks)
        dtype = _result_type(held)
        # scipy's LinearOperator sets attributes by assignment, which `__setattr__` forbids.
        object.__setattr__(self, "network", net)
        object.__setattr__(self, "blocks", held)
        object.__setattr__(self, "shape", (net.width, net.width))
        object.__setattr__(self, "dtype", dtype)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name}: a Rotation is immutable; make a new one")

    def __getattr__(self, name: str) -> Any:
        if name in _HINTS:
            raise AttributeError(f"a Rotation has no {name}: use {_HINTS[name]}")
        if not name.startswith("_") and hasattr(Network, name):
            raise AttributeError(f"a Rotation has no {name}: use r.network.{name}")
        raise AttributeError(f"a Rotation has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name}: a Rotation is immutable; make a new one")

    # Products ------------------------------------------------------------------------------

    def __call__(self, x: Any) -> Any:
        """Return R x for each vector along the last axis: x (..., width) → (..., width).

        Raises
        ------
        BlockError
            If the length of the last axis is not the width, or x does not consist of numbers.

        Examples
        --------
        >>> net = Network.of(3, [[[0, 1]], [[1, 2]]])
        >>> quarter = [[[0.0, -1.0], [1.0, 0.0]]]
        >>> Rotation(net, [quarter, quarter])([1.0, 0.0, 0.0])
        array([0., 0., 1.])
        """
        x = _array(x)
        if x.ndim < 1 or x.shape[-1] != self.network.width:
            raise BlockError(
                f"x of shape {tuple(x.shape)}: its last axis must be the width {self.network.width}"
            )
        xp, own = self._namespace(x), array_api_compat.array_namespace(x)
        columns = own.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])).T
        return xp.reshape(self._apply(xp, columns).T, tuple(x.shape))

    def __matmul__(self, other: Any) -> Any:
        """Return R X for columns X (width,) or (width, k), or the product with another rotation."""
        if isinstance(other, Rotation):
            return self._after(other)
        if isinstance(other, LinearOperator):
            return super().__matmul__(other)
        return self._times(other)

    def __rmatmul__(self, other: Any) -> Any:
        """Return X R for rows X (width,) or (k, width)."""
        if isinstance(other, LinearOperator):
            return super().__rmatmul__(other)
        x = _array(other)
        return self.T(x)

    def _after(self, other: Rotation) -> Rotation:
        return Rotation(other.network.then(self.network), [*other.blocks, *self.blocks])

    def _times(self, other: Any) -> Any:
        x = _array(other)
        if x.ndim not in (1, 2) or x.shape[0] != self.network.width:
            raise BlockError(
                f"x of shape {tuple(x.shape)}: it must be ({self.network.width},) or"
                f" ({self.network.width}, k); for vectors along the last axis call r(x)"
            )
        xp = self._namespace(x)
        columns = x[:, None] if x.ndim == 1 else x
        made = self._apply(xp, columns)
        return made[:, 0] if x.ndim == 1 else made

    def _matmat(self, x: Any) -> Any:
        return self._times(x)

    def _matvec(self, x: Any) -> Any:
        return self._times(x)

    def __pow__(self, times: int) -> Rotation:  # type: ignore[override]  # a rotation
        """Return the product of `times` copies of this rotation."""
        if times == -1:
            raise StructmatError("r ** -1: the inverse is r.H")
        count = checked_integer(times, "times")
        return Rotation(self.network.repeat(count), self.blocks * count)

    # Other rotations -----------------------------------------------------------------------

    def _transpose(self) -> Rotation:
        return self._backwards(conjugate=False)

    def _adjoint(self) -> Rotation:
        return self._backwards(conjugate=True)

    def _backwards(self, *, conjugate: bool) -> Rotation:
        stages = by_stage(self.network, self.blocks)
        made = [_transposed(b, conjugate=conjugate) for stage in reversed(stages) for b in stage]
        return Rotation(self.network.inverse(), made)

    def power(self, t: float) -> Rotation:
        """Return the rotation with each block raised to the power t: this one for t = 1.

        Each block rotates by t times its eigenangles, so it moves along a geodesic that starts at
        the identity. R itself moves along a path of orthogonal matrices, which in general are not
        the powers R^t.

        Parameters
        ----------
        t : float

        Raises
        ------
        BlockError
            For a real block of determinant −1, or blocks that are not numpy arrays.

        Examples
        --------
        >>> net = Network.of(2, [[[0, 1]]])
        >>> quarter = Rotation(net, [[[[0.0, -1.0], [1.0, 0.0]]]])
        >>> half = quarter.power(0.5)
        >>> bool(np.allclose((half @ half).matrix(), quarter.matrix()))
        True
        """
        if not math.isfinite(t):
            raise StructmatError(f"t={t}: a power must be a finite number")
        made = [each(lambda block: powers(block, t), b) for b in self._numpy("power")]
        return Rotation(self.network, made)

    # Contents ------------------------------------------------------------------------------

    def matrix(self) -> Any:
        """Return R as a (width, width) array of the library of the blocks.

        Examples
        --------
        >>> net = Network.of(2, [[[0, 1]]])
        >>> Rotation(net, [[[[0.0, -1.0], [1.0, 0.0]]]]).matrix()
        array([[ 0., -1.],
               [ 1.,  0.]])
        """
        like = self.blocks[0] if self.blocks else np.eye(1)
        xp = array_api_compat.array_namespace(like)
        device = array_api_compat.device(like)
        one = xp.eye(self.network.width, dtype=self.dtype, device=device)
        return self._apply(xp, one)

    def factors(self) -> list[scipy.sparse.csr_array]:
        """Return the sparse factors B_1, …, B_m, in the order in which they are applied.

        Examples
        --------
        >>> from structmat.families import butterfly
        >>> from structmat.linalg.blocks import identity_blocks
        >>> net = butterfly(4)
        >>> [b.nnz for b in Rotation(net, identity_blocks(net)).factors()]
        [8, 8]
        """
        return factors(self.network, self._numpy("factors"))

    @property
    def parameters(self) -> int:
        """The number of free parameters, Σ r(r−1)/2, or Σ r² for unitary blocks."""
        field = "complex" if "complex" in str(self.dtype) else "real"
        return count_generators(self.network, field=field)

    def _numpy(self, asker: str) -> list[npt.NDArray[Any]]:
        if not all(isinstance(b, np.ndarray) for b in self.blocks):
            raise BlockError(
                f"{asker}: the blocks are {type(self.blocks[0]).__module__} arrays; convert them"
                " with numpy.asarray first"
            )
        return [np.asarray(b) for b in self.blocks]

    # Files ---------------------------------------------------------------------------------

    def _about(self) -> dict[str, str]:
        """Return more entries of the header of a file, which `load` reads."""
        return {}

    def save(self, path: str | Path) -> None:
        """Write the rotation to a safetensors file, with the network as JSON in its header.

        Wire labels are included if JSON can represent them: strings, integers, and tuples of these.

        Raises
        ------
        BlockError
            For blocks that are not numpy arrays.
        FileError
            If the file cannot be written or its directory cannot be created.
        MissingExtraError
            Where safetensors is not installed.

        Examples
        --------
        >>> import tempfile
        >>> from structmat.families import butterfly
        >>> from structmat.linalg.blocks import random_blocks
        >>> r = Rotation(butterfly(4), random_blocks(butterfly(4), rng=0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     r.save(f"{folder}/r.safetensors")
        ...     again = Rotation.load(f"{folder}/r.safetensors")
        >>> bool((again.matrix() == r.matrix()).all())
        True
        """
        blocks = self._numpy("save")
        numbers = require("safetensors.numpy", "adapters")
        tensors = {
            f"blocks.{k}": np.ascontiguousarray(
                np.stack([b.real, b.imag], axis=-1) if np.iscomplexobj(b) else b
            )
            for k, b in enumerate(map(distinct, blocks))
        }
        about = {
            "format": _FORMAT,
            "version": str(_VERSION),
            "dtype": str(self.dtype),
            "network": self.network.to_json(),
            **self._about(),
        }
        make_directory(Path(path).parent)
        try:
            write_bytes(Path(path), numbers.save(tensors, metadata=about))
        except OSError as error:
            raise FileError(f"{abbreviated(str(path))}: {error.strerror or error}") from None

    @staticmethod
    def load(path: str | Path) -> Rotation:
        """Read a rotation from a file that `save` wrote, or from JSON that the explorer exported.

        A path that ends in .json is read as a network with rotation angles
        (`structmat.linalg.angle_file`), any other as safetensors.

        Returns
        -------
        Rotation
            A `Rotator` if a `Rotator` was saved and its description makes the blocks in the file.

        Raises
        ------
        FileError
            If the file is missing or truncated, or contains something else, or if the blocks are
            not those that the description of a `Rotator` makes.
        MissingExtraError
            Where safetensors is not installed.
        """
        where = Path(path)
        if where.suffix.lower() == ".json":
            try:
                return Rotation(*angle_file.read(read_bytes(where).decode("utf-8")))
            except (FileError, UnicodeDecodeError) as error:
                said = str(error)
                raise FileError(said if str(where) in said else f"{where}: {said}") from None
        library = require("safetensors", "adapters")
        try:
            with library.safe_open(where, framework="numpy") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, library.SafetensorError) as error:
            raise FileError(f"{where}: cannot be read as safetensors ({error})") from None
        expected = "expected a rotation written by Rotation.save"
        if about.get("format") != _FORMAT:
            raise FileError(
                f"{where}: {abbreviated(about.get('format'))} is not the format of a rotation;"
                f" {expected}"
            )
        if about.get("version") != str(_VERSION):
            raise FileError(
                f"{where} has version {abbreviated(about.get('version'))}, but this version of"
                f" structmat reads version {_VERSION}; upgrade structmat"
            )
        try:
            net = Network.from_json(about["network"])
            blocks = [tensors[f"blocks.{k}"] for k in range(len(net.banks))]
            dtype = np.dtype(about["dtype"])
            if dtype.kind == "c":
                blocks = [b[..., 0] + 1j * b[..., 1] for b in blocks]
            made = Rotation(net, repeated_in(net, [b.astype(dtype) for b in blocks]))
            return _described(about, made)
        except (KeyError, IndexError, TypeError, StructmatError) as error:
            raise FileError(f"{where}: damaged ({error}); {expected}") from None

    def __reduce__(self) -> Any:
        return _rebuilt, (type(self), self.network, [distinct(b) for b in self.blocks])

    def __repr__(self) -> str:
        net = self.network
        return (
            f"Rotation(width={net.width}, depth={net.depth}, parameters={self.parameters},"
            f" dtype={str(self.dtype).removeprefix('torch.')})"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        from structmat.viz.heat_map import heat_map

        blocks = all(isinstance(b, np.ndarray) for b in self.blocks)
        picture = heat_map(self.matrix()) if blocks and self.network.width <= _SHOWN else ""
        return f"<div><p>{self!r}</p>\n{picture}</div>"

    # Application ---------------------------------------------------------------------------

    def _namespace(self, x: Any) -> ModuleType:
        """Return the functions of the library that x and the blocks belong to."""
        arrays = [b for b in self.blocks if not isinstance(b, np.ndarray)]
        try:
            return array_api_compat.array_namespace(x, *arrays)
        except TypeError:
            if isinstance(x, np.ndarray) and arrays:  # numpy input, blocks of another library
                return array_api_compat.array_namespace(*arrays)
            raise BlockError(
                f"x has type {type(x).__name__}, but the blocks have type"
                f" {type(self.blocks[0]).__name__}: they must be arrays of one library"
            ) from None

    def _apply(self, xp: ModuleType, columns: Any) -> Any:
        """Return R X for columns X (width, k), by the schedule of the network."""
        given = (columns, *map(distinct, self.blocks))
        foreign = [array for array in given if not isinstance(array, np.ndarray)]
        device = array_api_compat.device(foreign[0] if foreign else columns)

        def own(array: Any) -> Any:
            if not (foreign and isinstance(array, np.ndarray)):
                return array
            return xp.asarray(array, device=device, copy=True)

        adopted = len(foreign) == 1 and foreign[0] is columns  # all blocks are numpy arrays
        columns, *blocks = map(own, given)
        if not (xp.isdtype(columns.dtype, ("real floating", "complex floating"))):
            if not xp.isdtype(columns.dtype, ("bool", "integral")):
                raise BlockError(f"x of dtype {columns.dtype}: it must consist of numbers")
            columns = xp.astype(columns, blocks[0].dtype if blocks else xp.float64)
        kinds = [b.dtype for b in blocks]
        if adopted:  # only the field of the blocks matters
            complex_blocks = any(xp.isdtype(kind, "complex floating") for kind in kinds)
            kinds = [xp.complex64 if complex_blocks else xp.float32]
        try:
            dtype = xp.result_type(columns.dtype, *kinds)
        except (RuntimeError, TypeError, ValueError):  # such as floats of 8 bits
            raise BlockError(
                f"x of dtype {columns.dtype}: it cannot be multiplied by blocks; convert it to"
                " float16 or wider"
            ) from None
        blocks = [xp.astype(b, dtype, copy=False) for b in blocks]
        return product(self.network, blocks, xp.astype(columns, dtype))


def _array(x: Any) -> Any:
    """Return x as it is if it is an array of a known library, and as a numpy array otherwise."""
    if array_api_compat.is_array_api_obj(x):
        return x
    made = np.asarray(x)
    if made.dtype.kind not in "biufc":
        raise BlockError(f"x of dtype {made.dtype}: it must consist of real or complex numbers")
    return made


def _transposed(block: Any, *, conjugate: bool) -> Any:
    if isinstance(block, np.ndarray):
        return each(adjoint, block) if conjugate else np.swapaxes(block, -1, -2)
    xp = array_api_compat.array_namespace(block)
    transposed = xp.matrix_transpose(block)
    is_complex = xp.isdtype(block.dtype, "complex floating")
    return xp.conj(transposed) if conjugate and is_complex else transposed


def _held(net: Network, blocks: Sequence[Array]) -> tuple[Array, ...]:
    """Return the blocks of a rotation: read-only, checked numpy arrays, or others unchanged."""
    given = list(blocks) if isinstance(blocks, tuple) else blocks
    foreign = isinstance(given, list) and any(
        array_api_compat.is_array_api_obj(b) and not isinstance(b, np.ndarray) for b in given
    )
    if not foreign:
        arrays = checked_blocks(net, given)
        _check_orthogonal(arrays)
        return tuple(each(_frozen, array) for array in arrays)
    try:
        array_api_compat.array_namespace(*given)
    except TypeError:
        raise BlockError(
            "blocks of several libraries: they must be arrays of one library"
        ) from None
    check_shapes(net, given)
    return tuple(given)


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    own = array.copy()
    own.flags.writeable = False
    return own


def _described(about: dict[str, str], made: Rotation) -> Rotation:
    """Return the rotator that the header of a file describes, after comparing its blocks."""
    if DESCRIPTION not in about:
        return made
    # By name, because that module imports this one.
    rotators = import_module("structmat.linalg.rotators")
    described: Rotation = rotators.Rotator.from_description(about[DESCRIPTION])
    same = described.network == made.network and described.dtype == made.dtype
    if not same or not all(map(np.array_equal, described.blocks, made.blocks)):
        raise BlockError(f"the blocks are not those of {about[DESCRIPTION]}")
    return described


def _rebuilt(cls: type[Rotation], net: Network, blocks: Sequence[Array]) -> Rotation:
    return cls(net, repeated_in(net, blocks))


def _result_type(blocks: Sequence[Array]) -> Any:
    if not blocks:
        return np.dtype(float)
    return array_api_compat.array_namespace(*blocks).result_type(*blocks)


def _check_orthogonal(arrays: Sequence[npt.NDArray[Any]]) -> None:
    for k, array in enumerate(arrays):
        own = distinct(array)
        wide = own.astype(np.result_type(own, np.float64))
        gram = adjoint(wide) @ wide - np.eye(array.shape[-1])
        deviation = float(np.abs(gram).max(initial=0))
        if deviation > (_ORTHOGONAL if array.dtype.itemsize >= 4 else _COARSE):
            raise BlockError(
                f"blocks {k}: |BᴴB − I| is {deviation:.2g};"
                " the blocks of a Rotation must be orthogonal"
                " or unitary. structmat.linalg.factors takes any blocks"
            )
