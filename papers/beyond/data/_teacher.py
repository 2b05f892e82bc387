"""What sources have in common whose targets a random network makes, with noise."""

from typing import Annotated

import torch
from pydantic import Field

from sharpflow.data.gaussian import standard_deviations
from sharpflow.data.gaussian.options import Span
from sharpflow.parts.options import DataOptions, Seed

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


class Draws:
    """Numbers of one seed, in the order in which they are asked for.

    Args:
        spec: options of a source.
    """

    def __init__(self, spec):
        self._spec = spec
        self._source = torch.Generator().manual_seed(spec["seed"])

    def normal(self, *shape):
        """Standard normal numbers, float64."""
        return torch.randn(*shape, dtype=torch.float64, generator=self._source)

    def inputs(self, *shape):
        """Inputs of a shape, with the standard deviations of the last dimension."""
        return standard_deviations(self._spec["input_std"], shape[-1]) * self.normal(*shape)

    def noisy(self, outputs):
        """The outputs with label noise."""
        spread = standard_deviations(self._spec["noise_std"], outputs.shape[-1])
        return outputs + spread * self.normal(*outputs.shape)
