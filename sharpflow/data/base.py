"""What every source of data gives, and the steps that image sources share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharpflow.parts.loading import load_part


@dataclass(frozen=True)
class ImageSet:
    """A balanced two-class set of images.

    Attributes:
        pixels: (n, 3, 32, 32) uint8, channels red, green, blue.
        labels: (n,) float32, each -1 or +1.
        provenance: where the pixels come from, as JSON-able text and numbers.
    """

    pixels: Tensor
    labels: Tensor
    provenance: dict[str, Any] = field(default_factory=dict)


def generate(spec: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and provenance of the dataset that `spec` describes.

    Args:
        spec: the `data` part of an experiment; `spec["source"]` names the part whose
            `generate(spec)` makes it.

    Raises:
        DataError: the source cannot give what is asked for.
    """
    return load_part("data", spec, "source").generate(spec)


def scale_pixels(pixels: Tensor, scaling: str) -> Tensor:
    """Pixels as float32: `unit` maps to [0, 1]; `standardised` to mean 0, variance 1 a channel."""
    scaled = pixels.to(torch.float64) / 255.0
    if scaling == "standardised":
        mean = scaled.mean(dim=(0, 2, 3), keepdim=True)
        std = scaled.std(dim=(0, 2, 3), keepdim=True, unbiased=False)
        scaled = (scaled - mean) / std
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


def image_tensors(images: ImageSet, scaling: str) -> dict[str, Tensor]:
    """The tensors of an image dataset's file: inputs, targets, coordinates and basis."""
    inputs = scale_pixels(images.pixels, scaling)
    coordinates, basis = compress(inputs.flatten(1))
    return {
        "inputs": inputs,
        "targets": images.labels[:, None].to(torch.float32),
        "coordinates": coordinates,
        "basis": basis,
    }
