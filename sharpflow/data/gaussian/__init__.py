"""A Gaussian population, sampled during training or once for each run."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sharpflow.data.population import ONLINE


def standard_deviations(spec: float | list[float] | Mapping[str, float], size: int) -> Tensor:
    """Standard deviations of `size` coordinates: one number, a list, or `{first, last}` evenly."""
    if isinstance(spec, Mapping):
        return torch.linspace(spec["first"], spec["last"], size, dtype=torch.float64)
    if isinstance(spec, list):
        return torch.tensor(spec, dtype=torch.float64)
    return torch.full((size,), float(spec), dtype=torch.float64)


def teacher_matrix(kind: str, scale: float, outputs: int, inputs: int, seed: int) -> Tensor:
    """The (outputs, inputs) teacher: `identity`, or a `rotation` drawn from `seed`, times scale."""
    if kind == "identity":
        return scale * torch.eye(outputs, inputs, dtype=torch.float64)
    size = max(outputs, inputs)
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))
    return scale * (q * torch.sign(torch.diagonal(r)))[:outputs, :inputs]


def generate(spec: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The population: input_std (d0,), noise_std (d2,), teacher (d2, d0), samples ()."""
    inputs, outputs = spec["inputs"], spec["outputs"]
    tensors = {
        "input_std": standard_deviations(spec["input_std"], inputs),
        "noise_std": standard_deviations(spec["noise_std"], outputs),
        "teacher": teacher_matrix(
            spec["teacher"], spec["teacher_scale"], outputs, inputs, spec["teacher_seed"]
        ),
        "samples": torch.tensor(spec["samples"] or ONLINE),
    }
    return tensors, {"source": "gaussian"}
