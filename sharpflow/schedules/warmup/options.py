"""Options of a warm-up."""

from typing import Annotated, Literal

from pydantic import Field

from sharpflow.parts.options import LearningRate, ScheduleOptions


class Options(ScheduleOptions):
    """A lower learning rate for the first steps."""

    learning_rate: LearningRate
    """Learning rate of the first step."""
    until: Annotated[int, Field(ge=1, le=10_000_000)]
    """First step at the run's own learning rate."""
    shape: Literal["step", "linear"] = "step"
    """`step`: it stays until then; `linear`: it rises to the run's own."""
