"""What every source of data gives, and the steps that many sources share."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharpflow.parts.loading import load_part

Dataset = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors of a dataset, and where they come from, as JSON-able text and numbers."""


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Tensors and provenance of the dataset that `spec` describes.

    Args:
        spec: the `data` part of an experiment; `spec["source"]` names the part whose
            `generate(spec)` makes it.

    Returns:
        Tensors: `inputs` (n, ...), float or int64 tokens; either `targets` (n, k), float, or
        `labels` (n,) or (n, length), int64, with `classes` (), their number; `coordinates` and
        `basis` of inputs that are not tokens, as `compress` gives them; `vocabulary` () of tokens.
        A population has `input_std`, `noise_std`, `teacher` and `samples` instead.

    Raises:
        DataError: the source cannot give what is asked for.
        PartError: the source's own code, or the user's, fails.
    """
    return load_part("data", spec, "source").generate(spec)


def scale_pixels(pixels: Tensor, scaling: str) -> Tensor:
    """Pixels as float32.

    Args:
        pixels: (n, channels, rows, columns) uint8.
        scaling: `unit` maps to [0, 1]; `standardised` to mean 0, variance 1 a channel, and a
            channel of one value to 0.

    Returns:
        A tensor of the same shape.
    """
    scaled = pixels.to(torch.float64) / 255.0
    if scaling == "standardised":
        mean = scaled.mean(dim=(0, 2, 3), keepdim=True)
        std = scaled.std(dim=(0, 2, 3), keepdim=True, unbiased=False)
        constant = pixels.amax((0, 2, 3), keepdim=True) == pixels.amin((0, 2, 3), keepdim=True)
        scaled = ((scaled - mean) / std).masked_fill(constant, 0.0)
    return scaled.to(torch.float32)


def compress(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of n samples in an orthonormal basis of the space they span.

    With the thin QR decomposition Xᵀ = B R, a network whose first operation is dense has on the
    coordinates Rᵀ, with first-layer weights Bᵀ W, the outputs, gradients and non-zero curvature
    spectrum that it has on X with W; the part of W outside B never sees the data.

    Args:
        inputs: (n, d).

    Returns:
        coordinates (n, r) and basis (d, r) with r = min(n, d), in the inputs' precision.
    """
    n, d = inputs.shape
    if n >= d:
        return inputs, torch.eye(d, dtype=inputs.dtype)
    basis, upper = np.linalg.qr(inputs.double().numpy().T)
    return (
        torch.from_numpy(np.ascontiguousarray(upper.T)).to(inputs.dtype),
        torch.from_numpy(basis).to(inputs.dtype),
    )


def input_tensors(inputs: Tensor) -> dict[str, Tensor]:
    """Inputs (n, ...) that are numbers, with their coordinates (n, r) and basis (d, r)."""
    coordinates, basis = compress(inputs.flatten(1))
    return {"inputs": inputs, "coordinates": coordinates, "basis": basis}
