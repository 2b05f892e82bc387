"""Options of the Noether flow."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import LearningRate, MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """Mean change of a Noether charge over many draws of one SGD step, at the first and last state.

    The charge is ‖U‖² − ‖W‖² for two-layer linear networks and ‖θ‖² for scale-invariant ones.
    """

    every: Stride = 10_000_000
    """Stride, in steps; only the first and the last step are measured."""
    draws: Annotated[int, Field(ge=2, le=1_000_000)] = 2000
    """Number of draws."""
    batch: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Samples a draw."""
    learning_rate: LearningRate = 0.001
    """Learning rate of the drawn steps."""
    samples: Annotated[int, Field(ge=2, le=1_000_000)] = 20_000
    """Samples that the prediction is estimated from, where it has no closed form."""

    def needs(self) -> Needs:
        return ("linear two layers", "scale invariance"), "gaussian population"

    def drawn(self, batch: int) -> int:
        return self.draws * self.batch + self.samples

    def gives(self) -> Words:
        names = ("measured", "predicted", "sde", "unweighted")
        return frozenset({"draws", *(f"flow_{name}" for name in names)})
