"""Normal inputs, and what a frozen network makes of them after a change of low rank, with noise."""

from typing import Annotated

import torch
from pydantic import Field

from sharpflow.data.gaussian import standard_deviations
from sharpflow.data.gaussian.options import Span
from sharpflow.parts.options import DataOptions, Form, Seed

from ..models.adapters import base_weights, dense


class Options(DataOptions):
    """Normal x, y = teacher(x) + ε, of a teacher that is a frozen network but for low-rank changes.

    Each of its two weights W is changed by one of the given rank, of norm ‖W‖ times `change`.
    """

    samples: Annotated[int, Field(ge=2, le=100_000)] = 500
    """Number of samples."""
    inputs: Annotated[int, Field(ge=1, le=4096)] = 20
    """Numbers in an input."""
    hidden: Annotated[int, Field(ge=1, le=4096)] = 32
    """Hidden units of the teacher."""
    outputs: Annotated[int, Field(ge=1, le=4096)] = 8
    """Numbers in an output."""
    rank: Annotated[int, Field(ge=1, le=256)] = 4
    """Rank of the changes."""
    change: Annotated[float, Field(ge=0, le=100)] = 0.5
    """Norm of a change over that of the weight that it changes."""
    base: Seed = 0
    """Of the frozen network: that of the model `adapters` with the same number and sizes."""
    input_std: Annotated[float, Field(gt=0, le=100)] | Span = 1.0
    """Standard deviations of the inputs: one for all, or evenly from `first` to `last`."""
    noise_std: Annotated[float, Field(ge=0, le=100)] | Span = 1.0
    """Standard deviations of the label noise, likewise."""
    seed: Seed = 0
    """Of the changes, the inputs and the noise."""

    def form(self):
        """Vectors in and out."""
        return Form("vectors", (self.inputs,), self.outputs, "real", self.samples)

    def capabilities(self):
        """There is a number of samples."""
        return frozenset({"finite samples"})


def generate(spec):
    """Inputs (n, d) and targets (n, k)."""
    source = torch.Generator().manual_seed(spec["seed"])

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=source)

    sizes = spec["inputs"], spec["hidden"], spec["outputs"]
    weights = base_weights(*sizes, spec["base"])
    for name, weight in weights.items():
        left, right = (normal(size, spec["rank"]) for size in weight.shape)
        change = left @ right.T
        weights[name] = weight + spec["change"] * weight.norm() / change.norm() * change
    spread = standard_deviations(spec["input_std"], spec["inputs"])
    noise = standard_deviations(spec["noise_std"], spec["outputs"])
    inputs = spread * normal(spec["samples"], spec["inputs"])
    targets = dense(weights, inputs) + noise * normal(spec["samples"], spec["outputs"])
    return {"inputs": inputs.float(), "targets": targets.float()}, {"source": "adapter_teacher"}
