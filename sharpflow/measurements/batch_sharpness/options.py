"""Options of the batch sharpness."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """Curvature of a batch's loss along its own gradient, E[gᵀ H_B g]/E‖g‖²."""

    every: Stride = 10
    """Stride, in steps."""
    draws: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Number of batches drawn; one where training takes all samples at each step."""

    def needs(self) -> Needs:
        return ("finite samples",)

    def drawn(self, batch: int) -> int:
        return self.draws * batch

    def gives(self) -> Words:
        return frozenset({"batch_sharpness", "batch_sharpness_error"})
