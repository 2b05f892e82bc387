"""Low-dimensional inputs with an exact spectrum and labels ±1: the data of li2022's proof.

Source: li2022, section 5: a Gram matrix XXᵀ of low rank whose first eigenvalue stands apart from
the others, and labels ±1.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sharpflow.data.base import compress


def whitened_inputs(samples: int, stds: Tensor, seed: int) -> Tensor:
    """X (n, d) with XᵀX/n = diag(stds²) exactly, n ≥ d: a normal sample, whitened and rescaled."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(samples, len(stds), dtype=torch.float64, generator=generator)
    return samples**0.5 * torch.linalg.qr(drawn).Q * stds


def generate(spec: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of `{source: whitened, samples, inputs, leading_std, other_std, seed}`."""
    stds = torch.full((spec["inputs"],), float(spec["other_std"]), dtype=torch.float64)
    stds[0] = spec["leading_std"]
    inputs = whitened_inputs(spec["samples"], stds, spec["seed"])
    labels = torch.ones(spec["samples"], 1, dtype=torch.float64)
    labels[spec["samples"] // 2 :] = -1.0
    coordinates, basis = compress(inputs)
    tensors = {"inputs": inputs, "targets": labels, "coordinates": coordinates, "basis": basis}
    return tensors, {"source": "whitened"}
