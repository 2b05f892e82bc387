"""Two-layer tanh networks with normalised weights: the loss does not see their scale.

Source: ziyin2024, section 5.4 and figures 5 and 7 (Net-A and Net-B).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from sharpflow.models.base import Batch, Model, Parameters, Setting
from sharpflow.models.stacks import Stack, divergence_allowed, elementwise, stack, tensor

from ..two_layer import Ends, initial_factors

S = TypeVar("S", bound=Stack)


@dataclass(frozen=True)
class ScaleInvariant(Model):
    """f(x) = c (U/n_U) tanh(c W x/n_W), c = √width.

    `normalisation` is `layer` (n_U = ‖U‖, n_W = ‖W‖: each layer's scale is a symmetry, Net-B) or
    `global` (both are ‖θ‖: only the common scale is, Net-A).
    """

    width: int
    ends: Ends
    normalisation: str
    initialisation: Mapping[str, Any]
    layers: list[list[str]] = field(default_factory=lambda: [["w"], ["u"]])
    capabilities: frozenset[str] = frozenset(
        {"two layers", "scale invariance", "written-out steps"}
    )

    def data_inputs(self, dataset: Mapping[str, Tensor]) -> Tensor:
        """The samples, (n, d0): of pictures, all pixels in a row."""
        return dataset["inputs"].flatten(1)

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, float64: w (d, d0) and u (d2, d)."""
        return initial_factors(self.initialisation, self.width, self.ends, dataset, generator)

    def _sizes(self, u: S, w: S) -> tuple[S, S]:
        """1/n_U and 1/n_W, (R, 1, 1)."""
        size_u, size_w = _inner(u, u), _inner(w, w)
        if self.normalisation == "global":
            size_u = size_w = size_u + size_w
        return size_u**-0.5, size_w**-0.5

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, n, d2) for inputs (n, d0) or (R, n, d0)."""
        u, w = parameters["u"], parameters["w"]
        scale_u, scale_w = self._sizes(u, w)
        gain = math.sqrt(self.width)
        hidden = torch.tanh((gain * inputs) @ (w * scale_w).mT)
        return (gain * hidden) @ (u * scale_u).mT

    def descend(
        self, parameters: Parameters, batches: Iterable[Batch], weight_decay: float
    ) -> Parameters:
        """The parameters after a step a batch on the squared loss, written out.

        θ ← θ − η (∇L + γ θ), with the batch's η.
        """
        u = stack(parameters["u"].clone(memory_format=torch.contiguous_format))
        w_t = stack(parameters["w"].mT.clone(memory_format=torch.contiguous_format))
        gain = math.sqrt(self.width)
        with divergence_allowed():
            for inputs, targets, rate in batches:
                scale_u, scale_w = self._sizes(u, w_t)
                unit_u, unit_w = u * scale_u, w_t * scale_w
                x = gain * stack(inputs)
                hidden = elementwise(torch.tanh, x @ unit_w)
                slope = hidden @ unit_u.mT
                slope *= gain
                slope -= stack(targets)
                slope *= 2.0 * rate / x.shape[1]
                back = slope @ unit_u
                back *= gain
                back *= 1.0 - hidden * hidden
                step_u = slope.mT @ hidden
                step_u *= gain
                step_w = x.mT @ back
                radial_u, radial_w = _inner(step_u, unit_u), _inner(step_w, unit_w)
                if self.normalisation == "global":
                    radial_u = radial_w = radial_u + radial_w
                step_u -= radial_u * unit_u
                step_w -= radial_w * unit_w
                step_u *= scale_u
                step_w *= scale_w
                if weight_decay:
                    u *= 1.0 - rate * weight_decay
                    w_t *= 1.0 - rate * weight_decay
                u -= step_u
                w_t -= step_w
        return {"w": tensor(w_t.mT), "u": tensor(u)}


def _inner(a: Stack, b: Stack) -> Any:
    """Inner products of the matrices of two stacks, (R, 1, 1)."""
    products: Any = a * b
    return products.sum(axis=(-2, -1), keepdims=True)


def build(options: Mapping[str, Any], setting: Setting) -> ScaleInvariant:
    """The network of `{kind: scale_invariant, normalisation, initialisation}`."""
    ends, start = Ends.of(setting), options["initialisation"]
    return ScaleInvariant(setting.width, ends, options["normalisation"], start)
