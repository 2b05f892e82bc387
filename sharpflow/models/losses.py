"""Losses as sums over samples of ℓ(F, y), with the derivatives that curvature needs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Loss:
    """A loss (1/n) Σᵢ Σₖ ℓ(Fᵢₖ, yᵢₖ) over n samples and k outputs.

    Attributes:
        pointwise: ℓ(F, y), elementwise.
        slope: ∂ℓ/∂F, elementwise.
        curvature: ∂²ℓ/∂F², elementwise.
    """

    pointwise: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    curvature: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each run, (...), of outputs (..., n, k)."""
        return self.pointwise(outputs, targets).sum(dim=-1).mean(dim=-1)


def _logistic_curvature(outputs: Tensor, targets: Tensor) -> Tensor:
    p = torch.sigmoid(outputs * targets)
    return p * (1.0 - p)


LOSSES: dict[str, Loss] = {
    "mse": Loss(
        pointwise=lambda f, y: (f - y) ** 2,
        slope=lambda f, y: 2.0 * (f - y),
        curvature=lambda f, y: torch.full_like(f, 2.0),
    ),
    # of labels ±1: the binary cross-entropy of the logit F
    "cross_entropy": Loss(
        pointwise=lambda f, y: F.softplus(-f * y),
        slope=lambda f, y: -y * torch.sigmoid(-f * y),
        curvature=_logistic_curvature,
    ),
}
