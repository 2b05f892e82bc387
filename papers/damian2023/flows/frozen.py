"""The predicted cycle with all coefficients as they are at the crossing: the paper's sketch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sharpflow.training import Problem

from ._crossing import Progress, UntilCrossing
from ._options import CycleOptions


class Options(CycleOptions):
    """Displacement x and excess y of the sharpness from two equations, α and β as at the crossing.

    x⁺ = −(1 + ηy) x, y⁺ = y + η(α − βx²/2). The weights stay where the crossing is.
    """


class Frozen(UntilCrossing):
    """Descent, and two numbers from the crossing on."""

    kept = ("cycle", "coefficients")
    predicts = ("predicted_sharpness",)

    def __init__(self, problem: Problem, run: int, kick: float, follow: int):
        super().__init__(problem, run, follow)
        self.kick = kick

    def at_crossing(self, weights: Tensor, found: Progress) -> dict[str, Tensor]:
        """(x, y), and (α, β)."""
        begun = [self.kick * found.square**0.5, found.sharpness - self.threshold]
        return {
            "cycle": torch.tensor(begun, dtype=torch.float64),
            "coefficients": torch.tensor([found.rate, found.strength], dtype=torch.float64),
        }

    def beyond(self, own: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """The two equations."""
        (x, y), (rate, strength) = own["cycle"].tolist(), own["coefficients"].tolist()
        eta = self.learning_rate
        after = [-(1 + eta * y) * x, y + eta * (rate - strength * x * x / 2)]
        moved = {"cycle": torch.tensor(after, dtype=torch.float64)}
        return moved, {"predicted_sharpness": self.threshold + y}


def build(options: Mapping[str, Any], problem: Problem, run: int) -> Frozen:
    """The process of `{every, kick, follow}`."""
    return Frozen(problem, run, options["kick"], options["follow"])
