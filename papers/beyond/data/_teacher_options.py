"""Options of sources whose targets a random network makes, with noise; light to import."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import DataOptions, Seed, Span

Positive = Annotated[float, Field(gt=0, le=100)]


class TeacherOptions(DataOptions):
    """Normal x, y = teacher(x) + ε, with normal ε."""

    samples: Annotated[int, Field(ge=2, le=100_000)] = 500
    """Number of samples."""
    input_std: Positive | Span = 1.0
    """Standard deviations of an input's numbers, or of a token's: one for all, or evenly from
    `first` to `last`."""
    noise_std: Annotated[float, Field(ge=0, le=100)] | Span = 1.0
    """Standard deviations of the label noise, likewise."""
    seed: Seed = 0
    """Of what is random in the teacher, the inputs and the noise."""

    def capabilities(self):
        """There is a number of samples."""
        return frozenset({"finite samples"})
