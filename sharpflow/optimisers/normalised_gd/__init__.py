"""Normalised gradient descent.

Source: Arora, Li and Panigrahi 2022, "Understanding Gradient Descent on Edge of Stability in Deep
Learning".
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sharpflow.models.base import Parameters
from sharpflow.optimisers.base import Optimiser, State, norm, over, per_run


class NormalisedGD(Optimiser):
    """θ⁺ = θ − η(g/‖g‖ + γθ), g = ∇L, with the norm over all trained parameters of a run.

    It is gradient descent with the learning rate η/‖g‖, and its threshold is ‖g‖(2/η − γ). A run
    whose gradient vanishes moves by the decay alone.
    """

    decoupled = True
    rotation_invariant = True
    threshold_moves = True

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        state: State,
        learning_rate: float,
        step: int,
    ) -> tuple[Parameters, State]:
        """Parameters and state after the step."""
        length = norm(gradients)
        scale = (learning_rate / length).where(length > 0, 0.0)
        kept = 1.0 - learning_rate * self.weight_decay
        moved = {n: kept * t - per_run(scale, t) * gradients[n] for n, t in parameters.items()}
        return moved, {}

    def threshold(self, learning_rate: float, gradients: Parameters | None) -> float | Tensor:
        """‖g‖(2/η − γ), (R,); infinite where the gradients are not given, or at η = 0."""
        if gradients is None or not learning_rate:
            return float("inf")
        return (over(2.0, learning_rate) - self.weight_decay) * norm(gradients).double()


def build(options: Mapping[str, Any], weight_decay: float, clip_norm: float | None) -> NormalisedGD:
    """The rule of `{kind: normalised_gd}`."""
    return NormalisedGD(weight_decay, clip_norm)
