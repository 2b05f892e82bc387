"""Half a cosine (Loshchilov and Hutter 2017), as `CosineAnnealingLR` has it."""

import math
from collections.abc import Callable, Mapping
from typing import Any


def build(options: Mapping[str, Any], nominal: float, steps: int) -> Callable[[int], float]:
    """The learning rate as a function of the step."""
    warmup, final = options["warmup"], options["final"]

    def rate(step: int) -> float:
        if step < warmup:
            return nominal * (step + 1) / (warmup + 1)
        done = min((step - warmup) / max(steps - warmup, 1), 1.0)
        return nominal * (final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done)))

    return rate
