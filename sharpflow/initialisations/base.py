"""What an initialisation is asked for, and the scale that the usual ones share."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sharpflow.parts.loading import load_part


class Weight(NamedTuple):
    """A tensor that is to be drawn.

    Attributes:
        name: of the parameter.
        shape: of one run's.
        fan_in, fan_out: inputs and outputs of the linear map that it belongs to.
        bias: whether it is the map's offset.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int
    fan_out: int
    bias: bool = False


Draw = Callable[[Weight, torch.Generator], Tensor]


def uniform(weight: Weight, generator: torch.Generator) -> Tensor:
    """PyTorch's for Linear and Conv2d: uniform on ±1/√fan_in, float64."""
    drawn = torch.rand(*weight.shape, dtype=torch.float64, generator=generator)
    return (2.0 * drawn - 1.0) / math.sqrt(weight.fan_in)


def normal(weight: Weight, variance: float, generator: torch.Generator) -> Tensor:
    """N(0, variance), float64."""
    drawn = torch.randn(*weight.shape, dtype=torch.float64, generator=generator)
    return drawn * math.sqrt(variance)


def one_by_one(
    weights: Sequence[Weight], draw: Draw, generator: torch.Generator
) -> dict[str, Tensor]:
    """Each weight drawn by itself, in order; offsets are PyTorch's."""
    return {w.name: (uniform if w.bias else draw)(w, generator) for w in weights}


def draw_weights(
    options: Mapping[str, Any],
    weights: Sequence[Weight],
    dataset: Mapping[str, Tensor],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """One run's parameters by name, float64, drawn by the initialisation that the options name.

    Args:
        options: of an initialisation, with its `kind`.
        weights: what is to be drawn, in the order of drawing.
        dataset: tensors of the shard's dataset, for an initialisation that looks at the data.
        generator: the run's stream.
    """
    drawn = load_part("initialisations", options).draw(options, weights, dataset, generator)
    scale = options.get("scale", 1.0)
    return {name: scale * tensor for name, tensor in drawn.items()}
