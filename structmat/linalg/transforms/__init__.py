"""Exact transforms as rotations: Walsh–Hadamard, Fourier, Hartley, cosine, sine and Haar."""

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
