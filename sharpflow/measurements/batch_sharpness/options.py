"""Options of the batch sharpness."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """Curvature of batches' losses along their gradients g: E[gᵀ H_B g/‖g‖²] and E[gᵀ H_B g]/E‖g‖².

    The first is the batch sharpness of Andreyev and Beneventano (2024); the second weighs batches
    with large gradients more.
    """

    every: Stride = 10
    """Stride, in steps."""
    draws: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Number of batches drawn; one where training takes all samples at each step."""

    def needs(self) -> Needs:
        return ("finite samples",)

    def drawn(self, batch: int) -> int:
        return self.draws * batch

    def gives(self) -> Words:
        means = ("mean_of_ratios", "ratio_of_means")
        return frozenset(f"batch_sharpness_{mean}{end}" for mean in means for end in ("", "_error"))
