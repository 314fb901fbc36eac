"""The vision transformer and the images of the studies that adapt it to new digits.

The images are scikit-learn's, of 8×8 pixels. A transformer is pretrained on the digits 0 to 4.
"""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

WIDTH, LAYERS, HEADS = 64, 2, 4
OLD, NEW = range(5), range(5, 10)

Images = tuple[Tensor, Tensor]


class Block(nn.Module):
    """Attention and a perceptron, each after a normalisation, in six linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x (images, patches, width)."""
        z = self.before(x)
        q, k, v = (
            layer(z).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        seen = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        x = x + self.out(seen)
        return x + self.down(functional.gelu(self.up(self.between(x))))


class Body(nn.Module):
    """A vision transformer over the sixteen 2×2 patches of an image, up to its pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, WIDTH)
        self.place = nn.Parameter(0.1 * torch.randn(16, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (images, width) of images (images, 8, 8)."""
        patches = images.unfold(1, 2, 2).unfold(2, 2, 2).reshape(-1, 16, 4)
        return self.norm(self.blocks(self.embed(patches) + self.place)).mean(1)


def images_of(digits: Sequence[int]) -> Images:
    """Return the images of some digits, in a fixed random order, and their labels.

    Labels are numbered from 0, starting with the first of these digits.
    """
    data = load_digits()
    picked = np.flatnonzero(np.isin(data.target, digits))
    picked = np.random.default_rng(0).permutation(picked)
    images = torch.tensor(data.images[picked] / 8 - 1, dtype=torch.float32)
    return images, torch.tensor(data.target[picked] - digits[0])


def parts(digits: Sequence[int], tested: int) -> tuple[Images, Images]:
    """Return the training and the test images, which are the same for every seed."""
    images, labels = images_of(digits)
    return (images[tested:], labels[tested:]), (images[:tested], labels[:tested])


def drawn(given: Images, each: int, seed: int) -> tuple[Images, Images]:
    """Return training and validation images, the same number of each digit."""
    images, labels = given
    order = torch.as_tensor(np.random.default_rng(seed).permutation(len(labels)))
    places = [order[labels[order] == digit] for digit in labels.unique()]
    train = torch.cat([p[:each] for p in places])
    valid = torch.cat([p[each : 2 * each] for p in places])
    return (images[train], labels[train]), (images[valid], labels[valid])
