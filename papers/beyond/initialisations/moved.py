"""A start moved along the rescaling symmetry: one function, shared otherwise by the layers."""

import math
from typing import Annotated

from pydantic import Field

from sharpflow.initialisations.base import one_by_one, uniform
from sharpflow.parts.options import InitialisationOptions


class Options(InitialisationOptions):
    """PyTorch's default, with the first layer times e^−shift and the last one times e^shift."""

    shift: Annotated[float, Field(ge=-5, le=5)] = 0.0
    """How far, λ."""


def draw(options, weights, dataset, generator):
    """Uniform on ±1/√fan_in, and moved."""
    drawn = one_by_one(weights, uniform, generator)
    factors = {weights[0].name: -options["shift"], weights[-1].name: options["shift"]}
    return {name: math.exp(factors.get(name, 0.0)) * value for name, value in drawn.items()}
