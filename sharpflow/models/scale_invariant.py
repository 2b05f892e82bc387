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

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, n, d2) for inputs (n, d0) or (R, n, d0)."""
        u, w = parameters["u"], parameters["w"]
        size_u, size_w = (t.square().sum((-2, -1), keepdim=True) for t in (u, w))
        if self.normalisation == "global":
            size_u = size_w = size_u + size_w
        gain = math.sqrt(self.width)
        hidden = torch.tanh((gain * inputs) @ (w * size_w.rsqrt()).mT)
        return (gain * hidden) @ (u * size_u.rsqrt()).mT


def build(spec: Mapping[str, Any], width: int) -> ScaleInvariant:
    """The network of `{kind: scale_invariant, normalisation, initialisation}`."""
    return ScaleInvariant(width, spec["normalisation"], spec["initialisation"])
