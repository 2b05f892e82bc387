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
    would be arbitrary.
    """

    def gives(self) -> Words:
        """The steps since the crossing."""
        return frozenset({"since_crossing"})


class Kicked(UntilCrossing):
    """Descent, a kick, and descent."""

    def __init__(self, problem: Problem, run: int, kick: float):
        super().__init__(problem, run)
        self.kick = kick

    def at_crossing(self, weights: Tensor, found: Progress) -> dict[str, Tensor]:
        """The weights after the kick."""
        return {"weights": weights + self.kick * found.square**0.5 * found.direction}

    def beyond(self, own: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """A step of gradient descent."""
        gradient = self.objective.at(own["weights"]).gradient.double()
        return {"weights": own["weights"] - self.learning_rate * gradient}, {}


def build(options: Mapping[str, Any], problem: Problem, run: int) -> Kicked:
    """The process of `{every, kick}`."""
    return Kicked(problem, run, options["kick"])
