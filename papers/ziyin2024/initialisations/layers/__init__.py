"""Normal layers of a deep linear network, each with a scale of its own: unbalanced starts."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpflow.errors import ConfigError
from sharpflow.initialisations.base import Weight, normal


def draw(
    options: Mapping[str, Any],
    weights: Sequence[Weight],
    dataset: Mapping[str, Tensor],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """W_1, …, W_L.

    Raises:
        ConfigError: there are more or fewer standard deviations than layers.
    """
    stds = options["stds"]
    if len(stds) != len(weights):
        raise ConfigError(
            f"model.initialisation.stds lists {len(stds)} numbers, and the network has "
            f"{len(weights)} layers: give one a layer."
        )
    return {
        weight.name: normal(weight, std**2 / weight.fan_in, generator)
        for weight, std in zip(weights, stds, strict=True)
    }
