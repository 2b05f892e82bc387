"""The update rule, in one line."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from sharpflow.optimisers.base import Optimiser, over
from sharpflow.parts.options import OptimiserOptions


class Options(OptimiserOptions):
    """θ ← θ − ηa∇L, gradient descent with a factor a."""

    factor: Annotated[float, Field(gt=0, le=10)] = 1.0
    """The factor a."""


class OwnOptimiser(Optimiser):
    """Steps the parameters of all runs at once; weight decay and clipping come before it."""

    def __init__(self, factor: float, weight_decay: float, clip_norm: float | None):
        super().__init__(weight_decay, clip_norm)
        self.factor = factor

    def update(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
        learning_rate: Any,
        step: int,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """New parameters, and the state for the next step (momentum, say)."""
        rate = self.factor * learning_rate
        return {name: value - rate * gradients[name] for name, value in parameters.items()}, {}

    def threshold(self, learning_rate: float, gradients: Mapping[str, Tensor]) -> Any:
        """The largest stable curvature, recorded beside the loss and drawn in the figures."""
        return over(2.0, self.factor * learning_rate)


def build(options: Mapping[str, Any], weight_decay: float, clip_norm: float | None) -> OwnOptimiser:
    """The update rule of its options."""
    return OwnOptimiser(options["factor"], weight_decay, clip_norm)
