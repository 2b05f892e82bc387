"""Two-layer tanh networks with normalised weights: the loss does not see their scale.

Source: ziyin2024, section 5.4 and figures 5 and 7 (Net-A and Net-B).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sharpflow.models.base import Parameters
from sharpflow.models.two_layer import Initialisation, initial_factors


@dataclass(frozen=True)
class ScaleInvariant:
    """f(x) = c (U/n_U) tanh(c W x/n_W), c = √width.

    `normalisation` is `layer` (n_U = ‖U‖, n_W = ‖W‖: each layer's scale is a symmetry, Net-B) or
    `global` (both are ‖θ‖: only the common scale is, Net-A).
    """

    width: int
    normalisation: str
    initialisation: Initialisation
    layers: list[list[str]] = field(default_factory=lambda: [["w"], ["u"]])

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, float64: w (d, d0) and u (d2, d)."""
        u, w = initial_factors(self.initialisation, self.width, dataset["teacher"], generator)
        return {"w": w, "u": u}

    def _sizes(self, u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """1/n_U and 1/n_W, (R, 1, 1)."""
        size_u, size_w = (t.square().sum((-2, -1), keepdim=True) for t in (u, w))
        if self.normalisation == "global":
            size_u = size_w = size_u + size_w
        return size_u.rsqrt(), size_w.rsqrt()

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, n, d2) for inputs (n, d0) or (R, n, d0)."""
        u, w = parameters["u"], parameters["w"]
        scale_u, scale_w = self._sizes(u, w)
        gain = math.sqrt(self.width)
        hidden = torch.tanh((gain * inputs) @ (w * scale_w).mT)
        return (gain * hidden) @ (u * scale_u).mT

    def descend(
        self,
        parameters: Parameters,
        inputs: Tensor,
        targets: Tensor,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        """One step of the squared loss, in place and written out: θ ← θ − η (∇L + γ θ).

        Args:
            inputs, targets: (R, S, d0) and (R, S, d2).
        """
        u, w = parameters["u"], parameters["w"]
        scale_u, scale_w = self._sizes(u, w)
        gain = math.sqrt(self.width)
        unit_u, unit_w = u * scale_u, w * scale_w
        inputs = gain * inputs
        hidden = torch.tanh(torch.bmm(inputs, unit_w.mT))
        slope = torch.baddbmm(targets, hidden, unit_u.mT, beta=-1.0, alpha=gain)
        slope *= 2.0 / inputs.shape[1]
        back = torch.bmm(slope, unit_u).mul_(gain) * (1.0 - hidden.square())
        grad_u = torch.bmm(slope.mT, hidden).mul_(gain)
        grad_w = torch.bmm(back.mT, inputs)
        radial_u = (grad_u * unit_u).sum((-2, -1), keepdim=True)
        radial_w = (grad_w * unit_w).sum((-2, -1), keepdim=True)
        if self.normalisation == "global":
            radial_u = radial_w = radial_u + radial_w
        keep = 1.0 - learning_rate * weight_decay
        grad_u.addcmul_(radial_u, unit_u, value=-1.0).mul_(scale_u)
        grad_w.addcmul_(radial_w, unit_w, value=-1.0).mul_(scale_w)
        u.mul_(keep).sub_(grad_u, alpha=learning_rate)
        w.mul_(keep).sub_(grad_w, alpha=learning_rate)


def build(spec: Mapping[str, Any], width: int) -> ScaleInvariant:
    """The network of `{kind: scale_invariant, normalisation, initialisation}`."""
    return ScaleInvariant(width, spec["normalisation"], spec["initialisation"])
