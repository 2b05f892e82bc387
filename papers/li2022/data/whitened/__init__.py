"""Low-dimensional inputs with an exact spectrum and labels ±1: the data of li2022's proof.

Source: li2022, section 5: a Gram matrix XXᵀ of low rank whose first eigenvalue stands apart from
the others, and labels ±1.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sharpflow.data.base import Dataset, input_tensors


def whitened_inputs(samples: int, stds: Tensor, seed: int) -> Tensor:
    """Inputs whose second moments are exact: a normal sample, whitened and rescaled.

    Args:
        samples: n ≥ d.
        stds: (d,), standard deviations.
        seed: of the sample.

    Returns:
        X (n, d) with XᵀX/n = diag(stds²), float64.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(samples, len(stds), dtype=torch.float64, generator=generator)
    return samples**0.5 * torch.linalg.qr(drawn).Q * stds


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Tensors of `{source: whitened, samples, inputs, leading_std, other_std, seed}`."""
    stds = torch.full((spec["inputs"],), float(spec["other_std"]), dtype=torch.float64)
    stds[0] = spec["leading_std"]
    targets = torch.ones(spec["samples"], 1, dtype=torch.float64)
    targets[spec["samples"] // 2 :] = -1.0
    inputs = whitened_inputs(spec["samples"], stds, spec["seed"])
    return input_tensors(inputs) | {"targets": targets}, {"source": "whitened"}
