"""Heavy-ball momentum (Polyak 1964), as `torch.optim.SGD` has it."""

from collections.abc import Mapping
from typing import Any

from sharpflow.models.base import Parameters
from sharpflow.optimisers.base import Optimiser, Rate, State, descended, over


class HeavyBall(Optimiser):
    """v⁺ = βv + g, θ⁺ = θ − ηv⁺, g = ∇L + γθ; stable up to λ = (2 + 2β)/η − γ."""

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
            velocity = self.momentum * state[f"velocity/{name}"] + gradients[name]
            new[f"velocity/{name}"] = velocity
            moved[name] = descended(tensor, velocity, learning_rate)
        return moved, new

    def at_rest(self, parameters: Parameters, state: State, learning_rate: Rate) -> Parameters:
        """θ − ηβv/(1 − β)."""
        share = self.momentum / (1.0 - self.momentum)
        return {
            n: descended(t, share * state[f"velocity/{n}"], learning_rate)
            for n, t in parameters.items()
        }

    def threshold(self, learning_rate: Rate, gradients: Parameters | None) -> Rate:
        """(2 + 2β)/η − γ."""
        return over(2.0 + 2.0 * self.momentum, learning_rate) - self.weight_decay


def build(options: Mapping[str, Any], weight_decay: float, clip_norm: float | None) -> HeavyBall:
    """The rule of `{kind: heavy_ball, momentum}`."""
    return HeavyBall(options["momentum"], weight_decay, clip_norm)
