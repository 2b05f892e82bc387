"""Options of the outputs measurement."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import MeasurementOptions, Stride, Words


class Options(MeasurementOptions):
    """The network's outputs for a few samples, by which runs are compared as functions."""

    every: Stride = 10
    """Stride, in steps."""
    samples: Annotated[int, Field(ge=1, le=1000)] = 4
    """Number of samples: the first, the last, and as many as are asked for evenly in between."""

    def gives(self) -> Words:
        return frozenset({"output"})
