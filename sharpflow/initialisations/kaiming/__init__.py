"""Normal weights of variance 2/fan_in (He et al. 2015)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpflow.initialisations.base import Weight, normal, one_by_one


def draw(
    options: Mapping[str, Any],
    weights: Sequence[Weight],
    dataset: Mapping[str, Tensor],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """N(0, 2/fan_in)."""
    return one_by_one(weights, lambda w, g: normal(w, 2.0 / w.fan_in, g), generator)
