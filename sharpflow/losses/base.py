"""What a loss gives: its value, and its first two derivatives in the network's outputs."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Loss(ABC):
    """A loss (1/m) Σᵢ ℓ(Fᵢ, yᵢ) over m rows of k outputs.

    Rows are samples, or, for sequences, the positions of all samples.

    Attributes:
        squared_error: whether ℓ is ‖F − y‖², for which some networks have closed forms.
        diagonal: whether ∂²ℓ/∂F² is diagonal in the outputs.
    """

    squared_error = False
    diagonal = True

    @abstractmethod
    def rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """ℓ of each row, (..., m), for outputs and targets (..., m, k)."""

    @abstractmethod
    def slope(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """∂ℓ/∂F, (..., m, k)."""

    @abstractmethod
    def curvature(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """∂²ℓ/∂F²: its diagonal (..., m, k) where it is diagonal, else (..., m, k, k)."""

    def third(self, outputs: Tensor, targets: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """∂³ℓ/∂F³ along two directions of the outputs, (..., m, k): that of `curvature`."""

        def along(f: Tensor) -> Tensor:
            curvature = self.curvature(f, targets)
            return curvature * second if self.diagonal else (curvature @ second[..., None])[..., 0]

        return torch.func.jvp(along, (outputs,), (first,))[1]

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each run, (...), of outputs (..., m, k)."""
        return self.rows(outputs, targets).mean(dim=-1)
