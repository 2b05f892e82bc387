"""Options of the norm's growth."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """Expected increment of ‖θ‖² in a step."""

    every: Stride = 1
    """Stride, in steps."""
    samples: Annotated[int, Field(ge=2, le=1_000_000)] = 1000
    """Held-out samples that Tr Σ and ∇L are estimated from, where the data are not finite."""

    def needs(self) -> Needs:
        return "scale invariance", "plain steps", ("gaussian population", "finite samples")

    def drawn(self, batch: int) -> int:
        return self.samples

    def gives(self) -> Words:
        return frozenset({"norm_increment_predicted"})
