"""A learning rate that is multiplied by a factor at regular steps, as `StepLR` has it."""

from collections.abc import Callable, Mapping
from typing import Any


def build(options: Mapping[str, Any], nominal: float, steps: int) -> Callable[[int], float]:
    """The learning rate as a function of the step."""
    every, factor = options["every"], options["factor"]
    return lambda step: nominal * factor ** (step // every)
