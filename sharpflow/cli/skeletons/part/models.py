"""The network, in one line."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from sharpflow.initialisations.base import Weight, draw_weights
from sharpflow.models.base import Model, Setting
from sharpflow.parts.options import Form, ModelOptions, PartOf


class Options(ModelOptions):
    """One hidden layer with a tanh that has a slope of its own."""

    slope: Annotated[float, Field(gt=0)] = 1.0
    """Factor before the tanh's argument."""
    initialisation: Annotated[Any, PartOf("initialisations")] = "default"
    """Distribution of the initial weights."""

    def parameter_count(self, form: Form, width: int) -> int | None:
        """Number of parameters, from which sizes are estimated; None where only data can tell."""
        if form.size is None or form.outputs is None:
            return None
        return width * (form.size + form.outputs)


class Network(Model):
    """The seeds of a job are trained together, on a leading dimension of every parameter."""

    def __init__(self, options: Mapping[str, Any], setting: Setting):
        self.layers = [["hidden"], ["output"]]  # names of the parameters, the output layer last
        self.slope = options["slope"]
        self.initialisation = options["initialisation"]
        self.setting = setting

    def initialise(
        self, dataset: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Parameters of one run, without the leading dimension."""
        inputs, width = dataset["inputs"].shape[1], self.setting.width
        outputs = dataset["targets"].shape[1]
        wanted = [
            Weight("hidden", (inputs, width), inputs, width),
            Weight("output", (width, outputs), width, outputs),
        ]
        return draw_weights(self.initialisation, wanted, dataset, generator)

    def __call__(self, parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Outputs (runs, samples, outputs); gradients are automatic."""
        hidden = torch.tanh(self.slope * (inputs @ parameters["hidden"]))
        return hidden @ parameters["output"]


def build(options: Mapping[str, Any], setting: Setting) -> Network:
    """The network of a run's width."""
    return Network(options, setting)
