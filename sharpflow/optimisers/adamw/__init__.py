"""AdamW (Loshchilov and Hutter 2019), as `torch.optim.AdamW` has it."""

from collections.abc import Mapping
from typing import Any

from sharpflow.models.base import Parameters
from sharpflow.optimisers.adam import Adam
from sharpflow.optimisers.base import State


class AdamW(Adam):
    """Adam, after θ has been multiplied by 1 − ηγ."""

    decoupled = True

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        state: State,
        learning_rate: float,
        step: int,
    ) -> tuple[Parameters, State]:
        """Parameters and state after the step."""
        kept = 1.0 - learning_rate * self.weight_decay
        shrunk = {name: kept * tensor for name, tensor in parameters.items()}
        return super().update(shrunk, gradients, state, learning_rate, step)


def build(options: Mapping[str, Any], weight_decay: float, clip_norm: float | None) -> AdamW:
    """The rule of `{kind: adamw, beta1, beta2, epsilon, bias_correction}`."""
    return AdamW(options, weight_decay, clip_norm)
