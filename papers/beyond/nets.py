"""Small networks on pictures that are averaged over squares of 4 × 4 pixels first."""

import math

from torch import nn

TINY = 1e-12
"""ε of the norms, so small that the scale of the weights before them is a symmetry."""


def _norm(kind: str, width: int) -> list[nn.Module]:
    made = {
        "group": lambda: nn.GroupNorm(2, width, eps=TINY, affine=False),
        "batch": lambda: nn.BatchNorm1d(width, eps=TINY, affine=False),
        "none": lambda: None,
    }[kind]()
    return [] if made is None else [made]


def normalised(width: int, input_shape: tuple[int, ...], outputs: int, norm: str = "group"):
    """Two hidden layers of ReLUs without biases, each with a norm before it; linear outputs."""
    channels, rows, columns = input_shape
    sizes = [channels * rows * columns // 16, width, width]
    layers: list[nn.Module] = [nn.AvgPool2d(4), nn.Flatten()]
    for inputs, units in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(inputs, units, bias=False), *_norm(norm, units), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def convolutional(width: int, input_shape: tuple[int, ...], outputs: int):
    """Two convolutions of ReLUs with biases, averages over what is left, and linear outputs."""
    channels, rows, columns = input_shape
    assert math.gcd(rows, columns) % 16 == 0, "the sides of pictures are multiples of 16"
    return nn.Sequential(
        nn.AvgPool2d(4),
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(width * rows * columns // 256, outputs),
    )
