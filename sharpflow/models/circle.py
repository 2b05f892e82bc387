"""The two-dimensional scale-invariant toy f(x) = (θ/‖θ‖)·x.

Source: ziyin2024, figure 1 (the loss is chosen here; the paper leaves it open).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sharpflow.data.gaussian import Population
from sharpflow.models.base import Parameters


@dataclass(frozen=True)
class Circle:
    """f(x) = (θ/‖θ‖)·x with `theta` (R, 2), which starts on the unit circle at `angle`."""

    angle: float
    layers: list[list[str]] = field(default_factory=lambda: [["theta"]])

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, float64; nothing is drawn."""
        point = [math.cos(self.angle), math.sin(self.angle)]
        return {"theta": torch.tensor(point, dtype=torch.float64)}

    def _direction(self, parameters: Parameters) -> Tensor:
        theta = parameters["theta"]
        return theta / torch.linalg.vector_norm(theta, dim=-1, keepdim=True)

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, n, 1) for inputs (n, 2) or (R, n, 2)."""
        return inputs @ self._direction(parameters).unsqueeze(-1)

    def population_loss(self, parameters: Parameters, population: Population) -> Tensor:
        """E(θ̂·x − y)², (R,)."""
        excess = (self._direction(parameters) - population.teacher[0]) * population.input_std
        return excess.square().sum(-1) + population.noise_std.square().sum()


def build(spec: Mapping[str, Any], width: int) -> Circle:
    """The network of `{kind: circle, angle}`; the width means nothing to it."""
    return Circle(spec["angle"])
