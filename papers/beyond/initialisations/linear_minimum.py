"""A ReLU network that is its linear teacher already, moved along the rescaling symmetry."""

import math
from typing import Annotated

import torch
from pydantic import Field

from sharpflow.errors import ConfigError
from sharpflow.parts.options import InitialisationOptions


class Options(InitialisationOptions):
    """ReLU(MVx) and ReLU(−MVx), read by ±M⁻¹: a minimum of the population's loss, of any width.

    M is a rotation a run, so that starts differ. Units beyond twice the outputs share one's work.
    """

    shift: Annotated[float, Field(ge=-5, le=5)] = 0.0
    """The first layer is multiplied by e^−shift and the last one by e^shift."""


def draw(options, weights, dataset, generator):
    """Weights (d0, width) and (width, d2).

    Raises:
        ConfigError: the network is no two layers, or narrower than twice the outputs, or the data
            have no linear teacher.
    """
    if len(weights) != 2 or "teacher" not in dataset:
        raise ConfigError(
            "model.initialisation = linear_minimum is for a dense network of one hidden layer "
            "without biases, on data.source = gaussian."
        )
    teacher, width = dataset["teacher"].double(), weights[0].shape[1]
    outputs = len(teacher)
    if width % (2 * outputs):
        raise ConfigError(
            f"model.initialisation = linear_minimum needs a multiple of {2 * outputs} hidden "
            f"units, twice the number of outputs; the width is {width}."
        )
    copies = width // (2 * outputs)
    read, made = [], []
    for _ in range(copies):
        turn = torch.randn(outputs, outputs, dtype=torch.float64, generator=generator)
        turn = torch.linalg.qr(turn).Q / math.sqrt(copies)
        made += [turn @ teacher, -turn @ teacher]
        read += [turn.T, -turn.T]
    return {
        weights[0].name: math.exp(-options["shift"]) * torch.cat(made).T,
        weights[1].name: math.exp(options["shift"]) * torch.cat(read, dim=1).T,
    }
