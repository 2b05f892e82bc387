"""The binary cross-entropy of labels ±1: ℓ = Σₖ log(1 + exp(−Fₖ yₖ))."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sharpflow.losses.base import Loss


class BinaryCrossEntropy(Loss):
    """ℓ = Σₖ log(1 + exp(−Fₖ yₖ)), y = ±1."""

    def rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """ℓ of each row, (..., m)."""
        return F.softplus(-outputs * targets).sum(dim=-1)

    def slope(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """−y σ(−F y)."""
        return -targets * torch.sigmoid(-outputs * targets)

    def curvature(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """p(1 − p), p = σ(F y)."""
        p = torch.sigmoid(outputs * targets)
        return p * (1.0 - p)


def build(options: Mapping[str, Any]) -> BinaryCrossEntropy:
    """The loss of `{kind: binary_cross_entropy}`."""
    return BinaryCrossEntropy()
