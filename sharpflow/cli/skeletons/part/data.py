"""Where the samples come from, in one line."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from sharpflow.data.base import compress
from sharpflow.parts.options import DataOptions, Form


class Options(DataOptions):
    """Two clouds of points in the plane, labelled ±1."""

    samples: Annotated[int, Field(ge=4, le=10_000, multiple_of=2)] = 40
    """Number of points, half of each cloud."""
    distance: Annotated[float, Field(ge=0)] = 3.0
    """Distance of the two centres; each cloud has unit variance."""

    def form(self) -> Form:
        """Vectors in two dimensions, one output, signs for targets, so many samples."""
        return Form("vectors", (2,), 1, "signs", self.samples)

    def capabilities(self) -> frozenset[str]:
        """Words that other parts may ask for: here are samples that do not change."""
        return frozenset({"finite samples"})


def generate(spec: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, `inputs` (n, 2) and `targets` (n, 1), and where they come from."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.ones(spec["samples"])
    signs[spec["samples"] // 2 :] = -1.0
    inputs = torch.randn(spec["samples"], 2, generator=generator)
    inputs[:, 0] += signs * spec["distance"] / 2
    coordinates, basis = compress(inputs)  # dense networks train on these
    tensors = {
        "inputs": inputs,
        "targets": signs[:, None],
        "coordinates": coordinates,
        "basis": basis,
    }
    return tensors, {"source": "NAME"}
