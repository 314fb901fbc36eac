"""Exact transforms as rotations: Walsh–Hadamard, Fourier, Hartley, cosine, sine and Haar."""

from typing import TYPE_CHECKING, Any

from structmat.errors import suggest
from structmat.linalg.transforms.compositions import kron, shift
from structmat.linalg.transforms.fourier import dft, hartley, idft
from structmat.linalg.transforms.random_transforms import householder, kac_walk
from structmat.linalg.transforms.transform import Operations, Transform
from structmat.linalg.transforms.trigonometric import dct, dst
from structmat.linalg.transforms.walsh_haar import haar, hadamard

__all__ = [
    "Operations",
    "Transform",
    "dct",
    "dft",
    "dst",
    "haar",
    "hadamard",
    "hartley",
    "householder",
    "idft",
    "kac_walk",
    "kron",
    "shift",
]

_OTHER_NAMES = {  # names of these transforms elsewhere
    "fft": "dft(n)",
    "rfft": "dft(n), or hartley(n), which is real",
    "ifft": "idft(n)",
    "fft2": "kron(dft(m), dft(n))",
    "dht": "hartley(n)",
    "fht": "hartley(n) or hadamard(n)",
    "idct": "dct(n, 3)",
    "idst": "dst(n, 3)",
    "dctn": "kron(dct(m), dct(n))",
    "dst2": "dst(n, 2), or kron(dst(m), dst(n)) for images",
    "dct2": "dct(n, 2), or kron(dct(m), dct(n)) for images",
    "wht": "hadamard(n)",
    "fwht": "hadamard(n)",
    "walsh": 'hadamard(n, "sequency")',
    "dwt": "haar(n)",
    "wavelet": "haar(n)",
    "givens": "kac_walk(n, steps)",
}


def named(name: str) -> str:
    """Return the call for a transform known by this name elsewhere, or "" for other names.

    Examples
    --------
    >>> named("dct"), named("ifft"), named("butterfly")
    ('dct', 'idft(n)', '')
    """
    lower = name.lower()
    return lower if lower in __all__ else _OTHER_NAMES.get(lower, "")


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        use = named(name)
        hint = f"; use {use}" if use else suggest(name, __all__)
        raise AttributeError(
            f"module 'structmat.transforms' has no attribute {name!r}"
            + ("" if name.startswith("_") else hint)
        )

    def __dir__() -> list[str]:
        return __all__
