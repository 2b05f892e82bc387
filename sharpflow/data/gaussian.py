"""A Gaussian population: x ~ N(0, Σx), y = V x + ε, ε ~ N(0, Σε), sampled during training.

Source: ziyin2024, section 5 and appendix A.2.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


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
    """The population's parameters: input_std (d0,), noise_std (d2,), teacher (d2, d0)."""
    inputs, outputs = spec["inputs"], spec["outputs"]
    tensors = {
        "input_std": standard_deviations(spec["input_std"], inputs),
        "noise_std": standard_deviations(spec["noise_std"], outputs),
        "teacher": teacher_matrix(
            spec["teacher"], spec["teacher_scale"], outputs, inputs, spec["teacher_seed"]
        ),
    }
    return tensors, {"source": "gaussian"}


def sample(population: Mapping[str, Tensor], normals: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (..., d0) and targets (..., d2) from standard normals (..., d0 + d2)."""
    size = population["input_std"].numel()
    inputs = normals[..., :size] * population["input_std"]
    noise = normals[..., size:] * population["noise_std"]
    return inputs, inputs @ population["teacher"].mT + noise
