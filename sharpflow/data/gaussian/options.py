"""Options of Gaussian data."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sharpflow.parts.options import DataOptions, Form, Seed, Span, Words

Deviation = Annotated[float, Field(ge=0, le=1e6)]
Deviations = Deviation | Annotated[list[Deviation], Field(min_length=1)] | Span


class Options(DataOptions):
    """x ~ N(0, Σx), y = V x + ε, ε ~ N(0, Σε), with diagonal covariances."""

    inputs: Annotated[int, Field(ge=1, le=10_000)]
    """Number of inputs d0."""
    outputs: Annotated[int, Field(ge=1, le=10_000)]
    """Number of outputs d2."""
    input_std: Deviations = 1.0
    """Standard deviations of the inputs: one for all, a list, or evenly from `first` to `last`."""
    noise_std: Deviations = 1.0
    """Standard deviations of the label noise ε, likewise."""
    teacher: Literal["identity", "rotation"] = "identity"
    """V: the identity, or a random rotation; of the first rows and columns if not square."""
    teacher_scale: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0
    """A factor of V."""
    teacher_seed: Seed = 0
    """Seed of the rotation."""
    samples: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Number of samples, drawn for each run; `null` draws every batch anew."""

    @model_validator(mode="after")
    def _lengths(self):
        for name, size in (("input_std", self.inputs), ("noise_std", self.outputs)):
            value = getattr(self, name)
            if isinstance(value, list) and len(value) != size:
                raise ValueError(f"{name} lists {len(value)} numbers where {size} are needed")
        return self

    def form(self) -> Form:
        """The form of its samples."""
        return Form("population", (self.inputs,), self.outputs, "real", self.samples)

    def capabilities(self) -> Words:
        """What its datasets have beyond inputs and targets."""
        population = frozenset({"gaussian population"})
        return population if self.samples is None else population | {"finite samples"}
