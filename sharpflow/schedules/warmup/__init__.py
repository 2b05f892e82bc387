"""A warm-up of the learning rate, by a step or linear (ziyin2024, figure 4, has a step)."""

from collections.abc import Callable, Mapping
from typing import Any


def build(options: Mapping[str, Any], nominal: float, steps: int) -> Callable[[int], float]:
    """The learning rate as a function of the step."""
    first, until = options["learning_rate"], options["until"]
    if options["shape"] == "step":
        return lambda step: first if step < until else nominal

    def rate(step: int) -> float:
        return first + (nominal - first) * step / until if step < until else nominal

    return rate
