"""A ReLU network that is its linear teacher already, moved along the rescaling symmetry."""

import math
from typing import Annotated

import torch
from pydantic import Field

from sharpflow.errors import ConfigError
from sharpflow.parts.options import InitialisationOptions


class Options(InitialisationOptions):
    """ReLU(MVx) and ReLU(−MVx), read by M⁻¹ and −M⁻¹: a minimum of the population's loss.

    M is a rotation, drawn for each run. A network that is wider has several, which share the work.
    """

    shift: Annotated[float, Field(ge=-5, le=5)] = 0.0
    """λ: the first layer is multiplied by e^−λ and the last one by e^λ."""
    apart: Annotated[float, Field(ge=0, le=5)] = 0.0
    """What is added to λ at the units of MV, and taken from it at those of −MV. But for this the
    two are alike in distribution."""


def draw(options, weights, dataset, generator):
    """Weights (d0, width) and (width, d2); units of MV first, then as many of −MV.

    Raises:
        ConfigError: the network has not two layers, its width is no multiple of twice the outputs,
            or the data have no linear teacher.
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
    shape = copies, outputs, outputs
    turns = torch.linalg.qr(torch.randn(*shape, dtype=torch.float64, generator=generator)).Q
    turns = turns / math.sqrt(copies)
    made, read = (turns @ teacher).flatten(0, 1), turns.flatten(0, 1)
    first, last = [], []
    for sign in (1, -1):
        moved = math.exp(options["shift"] + sign * options["apart"])
        first.append(sign * made / moved)
        last.append(sign * read * moved)
    return {weights[0].name: torch.cat(first).T, weights[1].name: torch.cat(last)}
