"""Options of the angular update."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import MeasurementOptions, Stride, Words


class Options(MeasurementOptions):
    """The angle by which the next step turns parameters, each tensor by itself."""

    every: Stride = 100
    """Stride, in steps."""
    parameters: Annotated[list[str], Field(min_length=1, default_factory=lambda: ["*"])]
    """Shell-style patterns of their names."""

    def gives(self) -> Words:
        return frozenset({"angular_update", "parameter_norm"})
