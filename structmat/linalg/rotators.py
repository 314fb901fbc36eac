"""Rotators: fixed random rotations of any width, described in one line of text.

R is a product of rounds. Each round applies random signs, then a network with flat blocks that
spreads every input over all outputs. The signs are folded into the blocks. For a width whose prime
factors are at most the block size b, this is a mixed-radix network: there is one path from each
input to each output, so every entry is a product of entries of flat blocks, and the energy of every
input is spread evenly, to the extent that the blocks are flat. At any other width d, no network
with such blocks mixes exactly: averaging over at most b wires in each stage yields sums of products
of fractions 1/r, r ≤ b, which never equal 1/d if d has a prime factor above b. At such a width, the
wires are dealt to switches of nearly equal size, in one stage more than a dense network needs, with
new signs before each stage.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat._util.text_table import counted
from structmat.errors import (
    StructmatError,
    WidthError,
    abbreviated,
    checked_field,
    checked_integer,
)
from structmat.families.butterflies import mixed_radix
from structmat.families.number_theory import (
    best_factorization,
    ceil_log,
    divisors,
    prime_factors,
)
from structmat.families.shuffles import deal
from structmat.linalg.flat_blocks import flat_block, unevenness
from structmat.linalg.rotation import DESCRIPTION, Rotation
from structmat.linalg.shared_blocks import repeated
from structmat.networks.network import Network

VERSION = 1  # of the blocks: the same description means the same blocks in every release
WIDEST, LARGEST = 10**6, 256  # maximum width and block
_BITS = 128  # maximum size of a seed
_STAGES = 2**12  # maximum depth: a short description must not take minutes, nor all memory:
_ENTRIES = 2**28  # maximum number of entries of all blocks, 2 GiB in float64

_FORM = "rotator(WIDTH, block=B, [rounds=N,] [depth=K,] [field=complex,] seed=S, version=1)"
_KEYS = ("block", "rounds", "depth", "field", "seed", "version")


class Rotator(Rotation):
    """A fixed random rotation, determined by its description; made by `structmat.rotator`.

    Attributes
    ----------
    description : str
        The width, the options, the seed and the version of the construction. From the same
        description, `from_description` makes the same blocks, bit for bit, on every machine and in
        every release. Pickles and copies are made from it, and files contain it.

    Examples
    --------
    >>> r = rotator(768, rng=0)
    >>> r.description
    'rotator(768, block=16, seed=0, version=1)'
    >>> bool((Rotator.from_description(r.description).matrix() == r.matrix()).all())
    True
    """

    description: str

    def __init__(
        self,
        width: int,
        *,
        block: int = 16,
        rounds: int = 1,
        depth: int | None = None,
        seed: int = 0,
        field: str = "real",
    ) -> None:
        if abbreviated(width).startswith("'rotator("):
            raise StructmatError(
                f"width={abbreviated(width)}: this is a description; use"
                " Rotator.from_description(text)"
            )
        wires = checked_integer(width, "width", 2)
        if wires > WIDEST:
            raise WidthError(f"width={abbreviated(wires)}: a rotator has at most {WIDEST:,} wires")
        largest = checked_integer(block, "block", 2)
        if largest > LARGEST:
            raise StructmatError(f"block={abbreviated(largest)}: block must be at most {LARGEST}")
        checked_field(field)
        times = checked_integer(rounds, "rounds", 1)
        whole = topology(wires, largest, field=field)
        kept = whole.depth if depth is None else checked_integer(depth, "depth", 1)
        if kept > whole.depth:
            raise StructmatError(
                f"depth={kept}: a round of this rotator has {counted(whole.depth, 'stage')}, so"
                f" depth must be at most {whole.depth}; rounds= repeats the round"
            )
        options = [f"{wires}", f"block={largest}"]
        options += [f"rounds={times}"] * (times > 1)
        options += [f"depth={kept}"] * (depth is not None and kept < whole.depth)
        options += [f"field={field}"] * (field != "real")
        text = f"rotator({', '.join(options)}, seed={_checked_seed(seed)}, version={VERSION})"
        one = whole[:kept]
        _check_size(one, times)
        network = one.repeat(times)
        # Where several paths join an input and an output, only signs before every stage make the
        # sum over the paths random.
        signed = 1 if factors(wires, largest, field=field) else kept
        blocks = [
            block
            for k in range(times)
            for block in _round(one, f"{text} round {k}", signed=signed, field=field)
        ]
        super().__init__(network, blocks)
        object.__setattr__(self, "description", text)

    @classmethod
    def from_description(cls, text: str) -> Rotator:
        """Return the rotator with this description.

        Raises
        ------
        StructmatError
            If the text is not a description, is of another version, or describes no rotator.

        Examples
        --------
        >>> Rotator.from_description("rotator(6, block=16, seed=1, version=1)")
        Rotator('rotator(6, block=16, seed=1, version=1)')
        """
        made = cls(**_parsed(text))
        if made.description != text:
            raise StructmatError(
                f"{abbreviated(text)}: the description of this rotator is {made.description!r}"
            )
        return made

    def _about(self) -> dict[str, str]:
        return {DESCRIPTION: self.description}

    def __reduce__(self) -> Any:
        return Rotator.from_description, (self.description,)

    def __repr__(self) -> str:
        return f"Rotator({self.description!r})"

    __str__ = __repr__


def rotator(
    width: int,
    *,
    block: int = 16,
    rounds: int = 1,
    depth: int | None = None,
    rng: Any = 0,
    field: str = "real",
) -> Rotator:
    """Return a fixed random rotation that spreads every input evenly over all outputs.

    It consists of random signs and flat blocks (`structmat.linalg.flat_blocks`), on a network of
    any width; vectors are neither padded nor cut. If all prime factors of the width are at most
    `block`, the network mixes exactly: `structmat.mixing` is 0. For any other width it is below
    0.02 with the default block (measured at random widths).

    Parameters
    ----------
    width : int
        From 2 to 1,000,000.
    block : int
        The maximum number of wires of a switch, from 2 to 256.
    rounds : int
        How often the signs and the network are applied, each time with new signs. Use 2 for codes
        of one bit, the signs of rotated vectors.
    depth : int, optional
        Keep only the first stages of each round. With `depth=1`, R is block diagonal.
    rng : int, numpy Generator, SeedSequence or None
        The seed, at least 0, or a source from which it is drawn; None draws a new one from the
        operating system. The seed is part of the description.
    field : {"real", "complex"}
        With "complex", the blocks are Fourier transforms and the signs are fourth roots of unity.

    Returns
    -------
    Rotator
        A `Rotation` with float64 or complex128 blocks and the attribute `description`.

    Raises
    ------
    StructmatError
        If an option has the wrong type or is out of range, or if there are more than 4,096 stages
        or 2²⁸ block entries in all.

    Notes
    -----
    Among all factorizations of the width into factors of at most `block`, the radices are those
    with the smallest product of largest entries (for one round, this is the largest entry of R),
    then those with the fewest stages, then those with the largest radices. 768 is 16·12·4, all
    three of them orders of Hadamard matrices, so all entries are ±1/√768; with 16·16·3 the largest
    would be 15 % larger. With a prime factor above `block`, the wires are dealt
    (`structmat.families.deal`), and the entries are about as large as those of a Haar rotation.

    The random bits come from SHAKE-256 of the description, and the entries of the blocks are
    correctly rounded, so the same description yields the same bits everywhere.

    Examples
    --------
    >>> r = rotator(1000, rng=7)
    >>> r.description
    'rotator(1000, block=16, seed=7, version=1)'
    >>> x = np.ones(1000)
    >>> bool(np.allclose(r.T(r(x)), x))
    True
    >>> [stage.banks[0].radix for stage in r.network.stages]
    [10, 10, 10]
    """
    seed = drawn_seed(rng)
    return Rotator(width, block=block, rounds=rounds, depth=depth, seed=seed, field=field)


def topology(width: int, block: int, *, field: str = "real") -> Network:
    """Return the network of one round, for blocks of at most `block` wires.

    Examples
    --------
    >>> [stage.banks for stage in topology(768, 16).stages]     # doctest: +NORMALIZE_WHITESPACE
    [(Bank(48 switches of radix 16),), (Bank(64 switches of radix 12),),
     (Bank(192 switches of radix 4),)]
    >>> topology(17, 16).stages[0]
    Stage(width=17, 1×8 + 1×9)
    """
    radices = factors(width, block, field=field)
    if radices is None:
        return deal(width, block=block, depth=ceil_log(width, block) + 1)
    return mixed_radix(width, radices=radices)


def factors(width: int, block: int, *, field: str = "real") -> tuple[int, ...] | None:
    """Return the radices of the mixed-radix network of a rotator, or None if there is none.

    Examples
    --------
    >>> factors(768, 16), factors(3072, 16), factors(1000, 16), factors(17, 16)
    ((16, 12, 4), (16, 16, 12), (10, 10, 10), None)
    """
    if max(prime_factors(width)) > block:
        return None
    radices = [r for r in divisors(width)[1:] if r <= block]
    return best_factorization(width, {r: (unevenness(r, field=field), 1) for r in radices})


def _check_size(one: Network, rounds: int) -> None:
    """Raise an error if so many rounds would have too many stages or block entries."""
    for each, most, what in (
        (one.depth, _STAGES, "stages"),
        (one.nonzeros, _ENTRIES, "block entries"),
    ):
        if each > most:
            raise StructmatError(
                f"width={one.width}: a round would have {each:,} {what}, and a rotator has at most"
                f" {most:,}; use a smaller block or depth"
            )
        if each * rounds > most:
            raise StructmatError(
                f"rounds={abbreviated(rounds)}: a rotator has at most {most:,} {what}, and a round"
                f" of this one has {each:,}, so rounds must be at most {most // each:,}"
            )


def _round(network: Network, text: str, *, signed: int, field: str) -> list[npt.NDArray[Any]]:
    """Return the blocks of one round, with random signs before each of the first stages."""
    blocks = []
    for t, stage in enumerate(network.stages):
        signs = _signs(network.width, f"{text} stage {t}", field) if t < signed else None
        for bank in stage.banks:
            block = flat_block(bank.radix, field=field)
            if signs is None:
                blocks.append(repeated(block[None], bank.count))
            else:  # adding 0 makes no zero negative
                blocks.append(block * signs[bank.reads][:, None, :] + 0)
    return blocks


def _signs(width: int, text: str, field: str) -> npt.NDArray[Any]:
    """Return random signs, or fourth roots of unity, from the digest of a text."""
    size = 2 if field == "complex" else 1
    digest = hashlib.shake_256(text.encode()).digest(-(-width * size // 8))
    bits = np.unpackbits(np.frombuffer(digest, dtype=np.uint8), count=width * size)
    values = np.array([1, -1, 1j, -1j] if size == 2 else [1.0, -1.0])
    signs: npt.NDArray[Any] = values[bits.reshape(width, size) @ (1, 2)[:size]]
    return signs


def drawn_seed(rng: Any) -> int:
    """Return a seed: the given integer, or one drawn from a numpy source of randomness.

    Raises
    ------
    StructmatError
        If `rng` is neither an integer at least 0 nor a Generator, a SeedSequence or None.

    Examples
    --------
    >>> drawn_seed(3), drawn_seed(np.random.SeedSequence(0))
    (3, 15793235383387715774)
    """
    if rng is None:
        return secrets.randbits(64)
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**64, dtype=np.uint64))
    if isinstance(rng, np.random.SeedSequence):
        return int(rng.generate_state(1, np.uint64)[0])
    return _checked_seed(rng, "rng", " or a numpy Generator or SeedSequence, or None")


def _checked_seed(seed: Any, name: str = "seed", others: str = "") -> int:
    integer = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not integer or not 0 <= int(seed) < 2**_BITS:
        raise StructmatError(
            f"{name}={abbreviated(seed)}: it must be an integer from 0 to 2^{_BITS} − 1{others}"
        )
    return int(seed)


def _parsed(text: Any) -> dict[str, Any]:
    """Return the arguments of `Rotator` in a description."""
    wrong = f"{abbreviated(text)}: a description has the form {_FORM}"
    if not isinstance(text, str):
        raise StructmatError(wrong)
    found = re.fullmatch(r"rotator\((\d{1,7})((?:, [a-z]+=[a-z0-9]{1,40})+)\)", text, re.ASCII)
    if found is None:
        raise StructmatError(wrong)
    pairs = [part.split("=") for part in found[2].split(", ")[1:]]
    given = dict(pairs)
    if [name for name, _ in pairs] != [key for key in _KEYS if key in given]:
        raise StructmatError(wrong)
    if not {"block", "seed", "version"} <= set(given):
        raise StructmatError(wrong)
    version = given.pop("version")
    if version != str(VERSION):
        raise StructmatError(
            f"{abbreviated(text)}: version {version} is unknown; this structmat makes version"
            f" {VERSION}, so upgrade structmat"
        )
    field = given.pop("field", "real")
    if not all(value.isdigit() for value in given.values()):
        raise StructmatError(wrong)
    return {"width": int(found[1]), "field": field, **{k: int(v) for k, v in given.items()}}
