"""Heavy-ball momentum (Polyak 1964), as `torch.optim.SGD` has it."""

from collections.abc import Mapping
from typing import Any

from sharpflow.models.base import Parameters
from sharpflow.optimisers.base import Rate, State, descended, over
from sharpflow.optimisers.momentum import Momentum


class HeavyBall(Momentum):
    """v⁺ = βv + g, θ⁺ = θ − ηv⁺, g = ∇L + γθ; stable up to λ = (2 + 2β)/η − γ."""

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

    def threshold(self, learning_rate: Rate, gradients: Parameters | None) -> Rate:
        """(2 + 2β)/η − γ."""
        return over(2.0 + 2.0 * self.momentum, learning_rate) - self.weight_decay


def build(options: Mapping[str, Any], weight_decay: float, clip_norm: float | None) -> HeavyBall:
    """The rule of `{kind: heavy_ball, momentum}`."""
    return HeavyBall(options["momentum"], weight_decay, clip_norm)
