"""Sharpness-aware minimisation (Foret et al. 2021)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sharpflow.models.base import Parameters
from sharpflow.optimisers.base import GradientFunction, Optimiser, State, Step, norm, over, per_run


class SAM(Optimiser):
    """θ⁺ = θ − η(∇L(θ + ρ g/‖g‖) + γθ), g = ∇L(θ); ‖g‖ is over all trained parameters of a run.

    Its threshold depends on g: ‖g‖/(2ρ)·(√(1 + 4ρc/‖g‖) − 1) with c = 2/η − γ, and c as ρ vanishes
    (Long and Bartlett 2024, "SAM-edge", for γ = 0). Buffers are those of the pass at θ.
    """

    rotation_invariant = True
    threshold_moves = True

    def __init__(self, radius: float, weight_decay: float, clip_norm: float | None):
        super().__init__(weight_decay, clip_norm)
        self.radius = radius

    def step(
        self,
        parameters: Parameters,
        state: State,
        gradient: GradientFunction,
        learning_rate: float,
        step: int,
    ) -> Step:
        """One step: a pass at θ and one at θ + ρ g/‖g‖."""
        here = gradient(parameters)
        scale = self.radius / (norm(here.gradients) + 1e-12)
        there = {n: t + per_run(scale, t) * here.gradients[n] for n, t in parameters.items()}
        ahead = self.conditioned(parameters, gradient(there).gradients)
        moved = self.update(parameters, ahead, state, learning_rate, step)
        return Step(*moved, here, self.threshold(learning_rate, here.gradients))

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        state: State,
        learning_rate: float,
        step: int,
    ) -> tuple[Parameters, State]:
        """Parameters and state after the step."""
        return {n: t.sub(gradients[n], alpha=learning_rate) for n, t in parameters.items()}, {}

    def threshold(self, learning_rate: float, gradients: Parameters | None) -> float | Tensor:
        """SAM's edge at the gradients, (R,); 2/η − γ without them."""
        plain = over(2.0, learning_rate) - self.weight_decay
        if gradients is None or not learning_rate:
            return plain
        root = torch.sqrt(1.0 + 4.0 * self.radius * plain / norm(gradients).double())
        return 2.0 * plain / (1.0 + root)


def build(options: Mapping[str, Any], weight_decay: float, clip_norm: float | None) -> SAM:
    """The rule of `{kind: sam, radius}`."""
    return SAM(options["radius"], weight_decay, clip_norm)
