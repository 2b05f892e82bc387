"""Options of a stepwise decay."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import ScheduleOptions, Stride


class Options(ScheduleOptions):
    """The run's learning rate, multiplied by a factor every so many steps."""

    every: Stride
    """Steps between two changes."""
    factor: Annotated[float, Field(gt=0, le=1e3)] = 0.1
    """What it is multiplied by."""
