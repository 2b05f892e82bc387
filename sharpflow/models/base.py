"""What training and evaluation ask of a network."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor

Parameters = dict[str, Tensor]
Batch = tuple[Tensor, Tensor, float]
"""Inputs (R, S, ...) and targets (R, S, ...) of a step, and its learning rate."""


class Model(Protocol):
    """A network as pure functions of its parameters, for R runs at once.

    Attributes:
        layers: names of the parameters of each layer, from the input to the output layer.
    """

    layers: list[list[str]]

    def data_inputs(self, dataset: Mapping[str, Tensor]) -> Tensor:
        """The form of a dataset's inputs that this network takes, (n, ...)."""
        ...

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """Parameters of one run (no run dimension), float64, drawn from `generator`."""
        ...

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, n, k) for inputs (n, ...) that all runs share, or (R, n, ...)."""
        ...


def build(spec: Mapping[str, Any], width: int) -> Model:
    """The network that the `model` part of an experiment describes, at one width.

    `spec["kind"]` names the module of `sharpflow.models` whose `build(spec, width)` makes it.
    """
    return import_module(f"sharpflow.models.{spec['kind']}").build(spec, width)
