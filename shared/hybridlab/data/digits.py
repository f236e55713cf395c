"""Handwritten digits as sequences of pixels: the "sequential MNIST" of a machine without a network.

scikit-learn brings 1,797 digits of 8 × 8 pixels (UCI's optical recognition of handwritten digits, test part). Each pixel is repeated,
so that an image is larger, and then read row by row: what a row has to do with the one above lies a whole row back.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

N_TRAIN = 1300


class Digits(NamedTuple):
    """pixels from -1 to 1, one sequence a digit, and which digit it is."""

    pixels: Float[Tensor, "digits time"]
    labels: Int[Tensor, "digits"]


def sequential_digits(repeat: int = 2, seed: int = 0) -> tuple[Digits, Digits]:
    """(training, test) digits as sequences of (8 · repeat)² pixels, shuffled by `seed` before they are parted: 1,300 and 497.

    Raises: ValueError if repeat is less than 1.
    """
    from sklearn.datasets import load_digits  # two seconds

    if repeat < 1:
        raise ValueError(f"repeat is {repeat}; a pixel stands there at least once")
    images, labels = load_digits(return_X_y=True)
    squares = torch.tensor(images, dtype=torch.float32).view(-1, 8, 8) / 8 - 1  # 0 … 16 to -1 … 1
    pixels = squares.repeat_interleave(repeat, 1).repeat_interleave(repeat, 2).flatten(1)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    train, test = order[:N_TRAIN], order[N_TRAIN:]
    targets = torch.tensor(labels)
    return Digits(pixels[train], targets[train]), Digits(pixels[test], targets[test])
