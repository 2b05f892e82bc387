"""Nesterov's momentum (1983), as `torch.optim.SGD(nesterov=True)` has it."""

from collections.abc import Mapping
from typing import Any

from sharpflow.models.base import Parameters
from sharpflow.optimisers.base import Rate, State, descended, over
from sharpflow.optimisers.momentum import Momentum


class Nesterov(Momentum):
    """v⁺ = βv + g, θ⁺ = θ − η(g + βv⁺), g = ∇L + γθ; stable to λ = (2 + 2β)/((1 + 2β)η) − γ.

    Source of the threshold: Cohen et al. 2021, appendix B.
    """

    spent = 2

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        state: State,
        learning_rate: Rate,
        step: int,
    ) -> tuple[Parameters, State]:
        """Parameters and state after the step."""
        moved, new = {}, {}
        for name, tensor in parameters.items():
            gradient = gradients[name]
            velocity = self.momentum * state[f"velocity/{name}"] + gradient
            new[f"velocity/{name}"] = velocity
            ahead = gradient.add(velocity, alpha=self.momentum)
            moved[name] = descended(tensor, ahead, learning_rate)
        return moved, new

    def threshold(self, learning_rate: Rate, gradients: Parameters | None) -> Rate:
        """(2 + 2β)/((1 + 2β)η) − γ."""
        beta = self.momentum
        return over((2.0 + 2.0 * beta) / (1.0 + 2.0 * beta), learning_rate) - self.weight_decay


def build(options: Mapping[str, Any], weight_decay: float, clip_norm: float | None) -> Nesterov:
    """The rule of `{kind: nesterov, momentum}`."""
    return Nesterov(options["momentum"], weight_decay, clip_norm)
