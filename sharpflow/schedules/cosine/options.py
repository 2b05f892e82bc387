"""Options of a cosine decay."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import ScheduleOptions


class Options(ScheduleOptions):
    """Half a cosine from the run's learning rate to a share of it."""

    final: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the learning rate that is reached at the end of training."""
    warmup: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Steps of a linear rise from nothing that come first."""

    def check(self, steps: int) -> None:
        if self.warmup >= steps:
            raise ValueError(f"warmup = {self.warmup} leaves none of the {steps} steps for a decay")
