"""Random tokens, and what a random layer of attention makes of them, with noise."""

from typing import Annotated

import torch
from pydantic import Field

from sharpflow.data.gaussian import standard_deviations
from sharpflow.data.gaussian.options import Span
from sharpflow.parts.options import DataOptions, Form, Seed

from ..models.attention import attend


class Options(DataOptions):
    """Normal tokens x, y = teacher(x) + ε with a layer of attention, and normal label noise ε."""

    samples: Annotated[int, Field(ge=2, le=100_000)] = 1000
    """Number of sequences."""
    tokens: Annotated[int, Field(ge=2, le=1024)] = 8
    """Tokens in a sequence."""
    size: Annotated[int, Field(ge=1, le=1024)] = 16
    """Numbers in a token, of inputs and outputs; all heads of the teacher have it together."""
    heads: Annotated[int, Field(ge=1, le=64)] = 2
    """Heads of the teacher; they share the size."""
    sharpness: Annotated[float, Field(gt=0, le=100)] = 1.5
    """Standard deviation of the teacher's scores, over that of the standard normal ones."""
    input_std: Annotated[float, Field(gt=0, le=100)] | Span = 1.0
    """Standard deviations of a token's numbers: one for all, or evenly from `first` to `last`."""
    noise_std: Annotated[float, Field(ge=0, le=100)] | Span = 1.0
    """Standard deviations of the label noise, likewise."""
    seed: Seed = 0
    """Of the teacher, the tokens and the noise."""

    def form(self):
        """Whole sequences in and out."""
        length = self.tokens * self.size
        return Form("vectors", (length,), length, "real", self.samples)

    def capabilities(self):
        """There is a number of samples."""
        return frozenset({"finite samples"})


def generate(spec):
    """Inputs and targets (n, T·d)."""
    source = torch.Generator().manual_seed(spec["seed"])

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=source)

    size, count = spec["size"], spec["samples"]
    scales = {"query": spec["sharpness"] ** 0.5, "key": spec["sharpness"] ** 0.5}
    weights = {
        name: scales.get(name, 1.0) * normal(size, size) / size**0.5
        for name in ("query", "key", "value", "output")
    }
    stds = [standard_deviations(spec[name], size) for name in ("input_std", "noise_std")]
    inputs = stds[0] * normal(count, spec["tokens"], size)
    targets = attend(weights, inputs, spec["heads"])
    targets = targets + stds[1] * normal(*targets.shape)
    tensors = {"inputs": inputs.flatten(1).float(), "targets": targets.flatten(1).float()}
    return tensors, {"source": "attention_teacher"}
