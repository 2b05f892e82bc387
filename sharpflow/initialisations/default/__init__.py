"""PyTorch's default for Linear and Conv2d."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpflow.initialisations.base import Weight, one_by_one, uniform


def draw(
    options: Mapping[str, Any],
    weights: Sequence[Weight],
    dataset: Mapping[str, Tensor],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Uniform on ±1/√fan_in."""
    return one_by_one(weights, uniform, generator)
