"""The initialisation, in one line."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from sharpflow.initialisations.base import Weight, normal, one_by_one
from sharpflow.parts.options import InitialisationOptions


class Options(InitialisationOptions):
    """N(0, gain²/fan-in) in every layer."""

    gain: Annotated[float, Field(gt=0)] = 1.0
    """Factor of the standard deviation."""


def draw(
    options: Mapping[str, Any],
    weights: Sequence[Weight],
    dataset: Mapping[str, Tensor],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """One tensor for each weight that the network asks for."""
    gain = options["gain"]
    return one_by_one(weights, lambda w, g: normal(w, gain**2 / w.fan_in, g), generator)
