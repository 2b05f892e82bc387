"""What rules with a velocity share."""

from sharpflow.models.base import Parameters
from sharpflow.optimisers.base import Optimiser, Rate, State, descended


class Momentum(Optimiser):
    """A rule with v⁺ = βv + g, whose steps add up to η/(1 − β) times each gradient.

    Attributes:
        momentum: β.
        spent: how many steps along a velocity are already taken when it is stored.
    """

    slots = ("velocity",)
    rotation_invariant = True
    spent = 1

    def __init__(self, momentum: float, weight_decay: float, clip_norm: float | None):
        super().__init__(weight_decay, clip_norm)
        self.momentum = momentum
        self.response = 1.0 / (1.0 - momentum)

    def at_rest(self, parameters: Parameters, state: State, learning_rate: Rate) -> Parameters:
        """θ − ηβˢv/(1 − β), s = `spent`."""
        share = self.momentum**self.spent / (1.0 - self.momentum)
        return {
            n: descended(t, share * state[f"velocity/{n}"], learning_rate)
            for n, t in parameters.items()
        }
