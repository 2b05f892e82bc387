"""Gradient descent that is pushed along the unstable direction when it comes to 2/η."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sharpflow.parts.options import Words
from sharpflow.training import Problem

from ._crossing import Progress, UntilCrossing
from ._options import CycleOptions


class Options(CycleOptions):
    """Gradient descent with x = kick · δ along the unstable direction at its first crossing.

    Left alone it leaves that direction from rounding errors, so that the time of the first cycle
    would be arbitrary. After the crossing its states are (w₋ + 2w + w₊)/4, without the oscillation:
    the theory's sharpness is that of the centre, and at w it is less by a multiple of x².
    """

    def gives(self) -> Words:
        """The steps since the crossing."""
        return frozenset({"since_crossing"})


class Kicked(UntilCrossing):
    """Descent, a kick, and descent."""

    kept = ("before",)

    def __init__(self, problem: Problem, run: int, kick: float, follow: int):
        super().__init__(problem, run, follow)
        self.kick = kick

    def at_crossing(self, weights: Tensor, found: Progress) -> dict[str, Tensor]:
        """The weights after the kick."""
        return {"weights": weights + self.kick * found.square**0.5 * found.direction}

    def beyond(self, own: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """A step of gradient descent."""
        return {"weights": self._step(own["weights"]), "before": own["weights"]}, {}

    def shown(self, own: Mapping[str, Tensor]) -> Tensor:
        """The centre of three iterates, once there was a kick."""
        weights, before = own["weights"], own["before"]
        if not before.numel():
            return weights
        return (before + 2 * weights + self._step(weights)) / 4

    def _step(self, weights: Tensor) -> Tensor:
        return weights - self.learning_rate * self.objective.at(weights).gradient.double()


def build(options: Mapping[str, Any], problem: Problem, run: int) -> Kicked:
    """The process of `{every, kick, follow}`."""
    return Kicked(problem, run, options["kick"], options["follow"])
