"""The softmax cross-entropy: ℓ = −Σₖ yₖ log softmax(F)ₖ for a distribution y over k classes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sharpflow.losses.base import Loss


class CrossEntropy(Loss):
    """ℓ = −Σₖ yₖ log softmax(F)ₖ; targets are one-hot, or any distribution over the classes.

    Args:
        smoothing: share of the target that is spread evenly.
    """

    diagonal = False

    def __init__(self, smoothing: float = 0.0):
        self.smoothing = smoothing

    def _smoothed(self, targets: Tensor) -> Tensor:
        if not self.smoothing:
            return targets
        return targets * (1.0 - self.smoothing) + self.smoothing / targets.shape[-1]

    def rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """ℓ of each row, (..., m)."""
        return -(self._smoothed(targets) * torch.log_softmax(outputs, dim=-1)).sum(dim=-1)

    def slope(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """softmax(F) − y."""
        return torch.softmax(outputs, dim=-1) - self._smoothed(targets)

    def curvature(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """diag(p) − p pᵀ, p = softmax(F): (..., m, k, k)."""
        p = torch.softmax(outputs, dim=-1)
        return torch.diag_embed(p) - p[..., :, None] * p[..., None, :]


def build(options: Mapping[str, Any]) -> CrossEntropy:
    """The loss of `{kind: cross_entropy, label_smoothing}`."""
    return CrossEntropy(options["label_smoothing"])
