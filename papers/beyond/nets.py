"""Small networks on pictures that are averaged over squares of 4 × 4 pixels first."""

from collections import OrderedDict

from torch import nn

TINY = 1e-12
"""ε of the norms, so small that the scale of the weights before them is a symmetry."""


def _norm(kind: str, width: int) -> nn.Module:
    if kind == "group":
        return nn.GroupNorm(2, width, eps=TINY, affine=False)
    if kind == "batch":
        return nn.BatchNorm1d(width, eps=TINY, affine=False)
    return nn.Identity()


def normalised(width: int, input_shape: tuple[int, ...], outputs: int, norm: str = "group"):
    """Two hidden layers of ReLUs without biases, each with a norm before it; linear outputs.

    Args:
        width: of each hidden layer.
        input_shape: channels, rows and columns of a picture.
        outputs: their number.
        norm: `group` (two groups), `batch`, or `none`.
    """
    channels, rows, columns = input_shape
    first = channels * rows * columns // 16
    layers: dict[str, nn.Module] = {"pool": nn.AvgPool2d(4), "flat": nn.Flatten()}
    for index, inputs in enumerate((first, width)):
        layers[f"hidden{index}"] = nn.Linear(inputs, width, bias=False)
        layers[f"norm{index}"] = _norm(norm, width)
        layers[f"relu{index}"] = nn.ReLU()
    layers["outputs"] = nn.Linear(width, outputs)
    return nn.Sequential(OrderedDict(layers))


def convolutional(width: int, input_shape: tuple[int, ...], outputs: int):
    """Two convolutions of ReLUs with biases and average pooling, and linear outputs.

    Args:
        width: channels of each convolution.
        input_shape: channels, rows and columns of a picture; the latter are multiples of 16.
        outputs: their number.
    """
    channels, rows, columns = input_shape
    layers: dict[str, nn.Module] = {"pool": nn.AvgPool2d(4)}
    for index, inputs in enumerate((channels, width)):
        layers[f"convolution{index}"] = nn.Conv2d(inputs, width, 3, padding=1)
        layers[f"relu{index}"] = nn.ReLU()
        layers[f"pool{index}"] = nn.AvgPool2d(2)
    layers["flat"] = nn.Flatten()
    layers["outputs"] = nn.Linear(width * (rows // 16) * (columns // 16), outputs)
    return nn.Sequential(OrderedDict(layers))
