"""Options of whitened data."""

from typing import Annotated

from pydantic import Field, model_validator

from sharpflow.parts.options import DataOptions, Form, Seed, Words


class Options(DataOptions):
    """Inputs of few dimensions with XᵀX/n diagonal, one direction apart; labels ±1."""

    samples: Annotated[int, Field(ge=2, le=60_000, multiple_of=2)]
    """Number of samples n, half of each label; at least as many as inputs."""
    inputs: Annotated[int, Field(ge=1, le=10_000)]
    """Number of inputs d."""
    leading_std: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Standard deviation of the first input."""
    other_std: Annotated[float, Field(gt=0, le=1e6)] = 0.1
    """Standard deviation of the other inputs."""
    seed: Seed = 0
    """Seed of the sample."""

    @model_validator(mode="after")
    def _enough(self):
        if self.samples < self.inputs:
            raise ValueError(f"samples = {self.samples} is less than inputs = {self.inputs}")
        return self

    def form(self) -> Form:
        """The form of its samples."""
        return Form("vectors", (self.inputs,), 1, "signs", self.samples)

    def capabilities(self) -> Words:
        """What its datasets have beyond inputs and targets."""
        return frozenset({"finite samples"})
