"""Gradient descent and SGD."""

from collections.abc import Mapping
from typing import Any

from sharpflow.models.base import Parameters
from sharpflow.optimisers.base import Optimiser, Rate, State, descended, over


class SGD(Optimiser):
    """θ⁺ = θ − η(∇L + γθ), stable up to λ = 2/η − γ."""

    plain = True
    response = 1.0
    rotation_invariant = True

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        state: State,
        learning_rate: Rate,
        step: int,
    ) -> tuple[Parameters, State]:
        """Parameters and state after the step."""
        return {n: descended(t, gradients[n], learning_rate) for n, t in parameters.items()}, {}

    def threshold(self, learning_rate: Rate, gradients: Parameters | None) -> Rate:
        """2/η − γ."""
        return over(2.0, learning_rate) - self.weight_decay


def build(options: Mapping[str, Any], weight_decay: float, clip_norm: float | None) -> SGD:
    """The rule of `{kind: sgd}`."""
    return SGD(weight_decay, clip_norm)
