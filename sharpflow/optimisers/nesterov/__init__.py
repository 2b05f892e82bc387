"""Nesterov's momentum (1983), as `torch.optim.SGD(nesterov=True)` has it."""

from collections.abc import Mapping
from typing import Any

from sharpflow.models.base import Parameters
from sharpflow.optimisers.base import Optimiser, Rate, State, descended, over


class Nesterov(Optimiser):
    """v⁺ = βv + g, θ⁺ = θ − η(g + βv⁺), g = ∇L + γθ; stable to λ = (2 + 2β)/((1 + 2β)η) − γ.

    Source of the threshold: Cohen et al. 2021, appendix B.
    """

    slots = ("velocity",)
    rotation_invariant = True

    def __init__(self, momentum: float, weight_decay: float, clip_norm: float | None):
        super().__init__(weight_decay, clip_norm)
        self.momentum = momentum
        self.response = 1.0 / (1.0 - momentum)

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

    def at_rest(self, parameters: Parameters, state: State, learning_rate: Rate) -> Parameters:
        """θ − ηβ²v/(1 − β)."""
        share = self.momentum**2 / (1.0 - self.momentum)
        return {
            n: descended(t, share * state[f"velocity/{n}"], learning_rate)
            for n, t in parameters.items()
        }

    def threshold(self, learning_rate: Rate, gradients: Parameters | None) -> Rate:
        """(2 + 2β)/((1 + 2β)η) − γ."""
        beta = self.momentum
        return over((2.0 + 2.0 * beta) / (1.0 + 2.0 * beta), learning_rate) - self.weight_decay


def build(options: Mapping[str, Any], weight_decay: float, clip_norm: float | None) -> Nesterov:
    """The rule of `{kind: nesterov, momentum}`."""
    return Nesterov(options["momentum"], weight_decay, clip_norm)
