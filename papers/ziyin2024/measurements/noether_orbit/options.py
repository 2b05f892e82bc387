"""Options of the Noether flow along an orbit."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import LearningRate, MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """Noether flow along orbits U e^{λA}, e^{−λA} W of random symmetric A, at the last state."""

    every: Stride = 10_000_000
    """Stride, in steps; only the last step is measured."""
    directions: Annotated[int, Field(ge=1, le=1000)] = 4
    """Number of random symmetric matrices A, each of spectral norm 1."""
    span: Annotated[float, Field(gt=0, le=10)] = 2.0
    """Largest |λ|."""
    points: Annotated[int, Field(ge=3, le=1001)] = 9
    """Values of λ, evenly from −span to span."""
    samples: Annotated[int, Field(ge=2, le=1_000_000)] = 1000
    """Samples that Tr[Σ Q] is estimated from at each of them."""
    draws: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """Draws of one SGD step at either end."""
    batch: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Samples a drawn step."""
    learning_rate: LearningRate = 0.001
    """Learning rate of the drawn steps."""

    def needs(self) -> Needs:
        return "linear two layers", "gaussian population"

    def drawn(self, batch: int) -> int:
        return self.directions * (self.points * self.samples + 2 * self.draws * self.batch)

    def gives(self) -> Words:
        return frozenset({"orbit_falling", "orbit_single_zero", "orbit_returning"})
