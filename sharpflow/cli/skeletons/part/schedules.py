"""The course of the learning rate, in one line."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from sharpflow.parts.options import ScheduleOptions


class Options(ScheduleOptions):
    """A straight line from the run's learning rate to a share of it."""

    final: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the learning rate at the end."""


def build(options: Mapping[str, Any], nominal: float, steps: int) -> Callable[[int], float]:
    """The learning rate as a function of the step."""
    return lambda step: nominal * (1.0 - (1.0 - options["final"]) * step / steps)
