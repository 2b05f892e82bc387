"""Normal factors of a two-layer network, each with a scale of its own.

Source: ziyin2024, figures 2 and 8, whose starts are unbalanced.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpflow.initialisations.base import Weight


def draw(
    options: Mapping[str, Any],
    weights: Sequence[Weight],
    dataset: Mapping[str, Tensor],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """W (d, d0) and then U (d2, d)."""
    shapes = {weight.name: weight.shape for weight in weights}
    width, inputs = shapes["w"]
    w, u = (
        torch.randn(*shapes[name], dtype=torch.float64, generator=generator) for name in ("w", "u")
    )
    fan_in = inputs if options["unit"] == "fan_in" else width
    return {
        "w": w * (options["w"] / math.sqrt(fan_in)),
        "u": u * (options["u"] / math.sqrt(width)),
    }
