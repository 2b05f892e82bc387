"""Training without its oscillation: what a central flow is to be compared with.

Source: Cohen, Damian, Talwalkar, Kolter and Lee 2024, "Understanding Optimization in Deep Learning
with Central Flows".
"""

from collections.abc import Mapping
from typing import Any

from sharpflow.flows.process import Advance, Process, Window, distance
from sharpflow.optimisers.base import State
from sharpflow.training import Problem


class Midpoint(Process):
    """(w₋ + 2w + w₊)/4, and the squared distance of w from it.

    An oscillation w = c + (−1)ᵗ a has the midpoint c and the squared distance ‖a‖².
    """

    def begin(self, window: Window) -> State:
        """The midpoint of the first step, where w₋ is w."""
        return window.midpoint

    def advance(self, state: State, here: Window, there: Window) -> Advance:
        """The next midpoint."""
        return Advance(
            there.midpoint, {"oscillation_squared": distance(here.now, here.midpoint) ** 2}
        )


def build(options: Mapping[str, Any], problem: Problem, run: int) -> Midpoint:
    """The process of `{every}`."""
    return Midpoint(problem, run)
