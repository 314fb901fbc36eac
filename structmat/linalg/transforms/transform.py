"""Transforms: rotations with a name, the permutation at their ends, and operation counts."""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

import numpy as np

from structmat.errors import StructmatError, WidthError, abbreviated, checked_integer
from structmat.families.number_theory import prime_factors
from structmat.linalg.rotation import Rotation
from structmat.linalg.shared_blocks import distinct
from structmat.linalg.transforms.assembly import Factored, single

_WIDEST = 2**16  # maximum width
_LARGEST = 2**12  # maximum prime factor: the block of this radix has 2^24 entries


class Operations(NamedTuple):
    """The number of real additions and multiplications in one product R x, for three algorithms.

    An entry of a block counts as a general number unless it is zero: a row of z non-zeros takes z
    multiplications and z − 1 additions, real or complex. A complex multiplication takes 6 real
    operations, a complex addition 2.

    Attributes
    ----------
    network : int
        With the blocks of the network, stage by stage.
    dense : int
        With the dense matrix.
    published : int or None
        The count of a published fast algorithm, if there is a formula for this width. It need not
        be the best one known, and excludes multiplications by ±1 and by a common factor.
    """

    network: int
    dense: int
    published: int | None

    def __str__(self) -> str:
        published = "no formula" if self.published is None else f"{self.published:,}"
        return f"{self.network:,} (dense {self.dense:,}, published {published})"


class Transform(Rotation):
    """A named orthogonal or unitary transform, as a network with blocks.

    It is a `Rotation`; products, transposes and powers of it are plain rotations.

    Attributes
    ----------
    name : str
        The call that makes it, such as "dft(12)", without the seed if it is random.
    permutation : str
        The permutation at the ends of the network, in words. The network contains it, in the wires
        that its first stage reads or its last stage writes; `network.straightened()` splits it off.
    operations : Operations
        The number of real additions and multiplications in one product, in the product with the
        dense matrix, and in a published fast algorithm.

    Examples
    --------
    >>> from structmat.linalg import transforms
    >>> r = transforms.dft(8)
    >>> r
    dft(8): Transform(width=8, depth=3, parameters=48, dtype=complex128)
    >>> print(r.permutation)
    the first stage reads the inputs in bit-reversed order
    >>> print(r.operations)
    336 (dense 496, published 56)
    """

    name: str
    permutation: str
    _published: int | None

    def __init__(
        self,
        network: Any,
        blocks: Any = None,
        *,
        name: str = "transform",
        permutation: str = "none",
        published: int | None = None,
    ) -> None:
        super().__init__(network, blocks)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "permutation", permutation)
        object.__setattr__(self, "_published", published)

    @property
    def operations(self) -> Operations:
        """The number of real additions and multiplications in one product (see `Operations`)."""
        is_complex = np.dtype(self.dtype).kind == "c"
        each, row = (8, 2) if is_complex else (2, 1)
        used = 0
        for block in self._numpy("operations"):
            own = distinct(block)
            nonzeros = int(np.count_nonzero(own)) * (len(block) // len(own))
            used += each * nonzeros - row * block.shape[0] * block.shape[1]
        width = self.network.width
        return Operations(used, width * (each * width - row), self._published)

    def __reduce__(self) -> Any:
        return *super().__reduce__(), (self.name, self.permutation, self._published)

    def __setstate__(self, state: tuple[str, str, int | None]) -> None:
        for name, value in zip(("name", "permutation", "_published"), state, strict=True):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"{self.name}: {super().__repr__().replace('Rotation', 'Transform', 1)}"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        about = (
            f"<p>Permutation: {escape(self.permutation)}.<br>"
            f"Operations of a product: {escape(str(self.operations))}.</p>"
        )
        return f"<div>{super()._repr_html_()}\n{about}</div>"


def named(
    part: Factored, name: str, permutation: str = "none", published: int | None = None
) -> Transform:
    """Return the transform; if it is a single switch, permute its block to make it straight."""
    network, blocks = part
    if network.depth == len(network.banks) == 1 and network.banks[0].radix == network.width:
        (bank,) = network.banks
        matrix = np.empty_like(blocks[0][0])
        matrix[np.ix_(bank.writes[0], bank.reads[0])] = blocks[0][0]
        part, permutation = single(matrix), "none"
    return Transform(*part, name=name, permutation=permutation, published=published)


def checked_size(n: Any, least: int = 1) -> int:
    """Return the width of a transform as an int.

    Raises
    ------
    StructmatError
        If it is not an integer, or is below `least`.
    WidthError
        If it is above 2^16.

    Examples
    --------
    >>> checked_size(0)
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: n=0: n must be an integer ≥ 1
    """
    width = checked_integer(n, "n", least)
    if width > _WIDEST:
        raise WidthError(f"n={abbreviated(width)}: a transform has at most {_WIDEST:,} wires")
    return width


def check_prime(n: int, name: str = "n") -> None:
    """Raise an error if a prime factor is so large that its switch would not fit into memory.

    Raises
    ------
    WidthError
        If a prime factor is above 4,096.

    Examples
    --------
    >>> check_prime(2 * 8191)
    Traceback (most recent call last):
    ...
    structmat.errors.WidthError: n=16382 has the prime factor 8191, which would be a single switch \
of more than 4,096 wires; choose a width with smaller prime factors
    """
    largest = prime_factors(n)[-1] if n > 1 else 1
    if largest > _LARGEST:
        raise WidthError(
            f"{name}={n} has the prime factor {largest}, which would be a single switch of more"
            f" than {_LARGEST:,} wires; choose a width with smaller prime factors"
        )


def checked_type(kind: Any, name: str) -> int:
    """Return the type of a cosine or sine transform, 1 to 4.

    Raises
    ------
    StructmatError
        For any other value.

    Examples
    --------
    >>> checked_type(5, "dct")
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: type=5: the type of a dct is 1, 2, 3 or 4
    """
    if isinstance(kind, bool) or not isinstance(kind, int | np.integer) or not 1 <= kind <= 4:
        raise StructmatError(f"type={abbreviated(kind)}: the type of a {name} is 1, 2, 3 or 4")
    return int(kind)
