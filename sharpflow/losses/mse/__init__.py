"""The squared error, as in li2022: ℓ = ‖F − y‖², without a factor ½."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sharpflow.losses.base import Loss


class SquaredError(Loss):
    """ℓ = ‖F − y‖²."""

    squared_error = True

    def rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """ℓ of each row, (..., m)."""
        return ((outputs - targets) ** 2).sum(dim=-1)

    def slope(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """2(F − y)."""
        return 2.0 * (outputs - targets)

    def curvature(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """2, for every output."""
        return torch.full_like(outputs, 2.0)

    def third(self, outputs: Tensor, targets: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(first)


def build(options: Mapping[str, Any]) -> SquaredError:
    """The loss of `{kind: mse}`."""
    return SquaredError()
