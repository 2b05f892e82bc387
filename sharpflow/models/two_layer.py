"""Two-layer networks f(x) = U φ(W x) with vector outputs.

Source: ziyin2024, section 5 (matrix factorisation) and figures 2 to 9.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sharpflow.data.gaussian import Population
from sharpflow.errors import ConfigError
from sharpflow.models.activations import ACTIVATIONS
from sharpflow.models.base import Batch, Parameters
from sharpflow.models.initialisation import linear_weight
from sharpflow.models.stacks import divergence_allowed, elementwise, stack, tensor

Initialisation = str | Mapping[str, Any]


def initial_factors(
    scheme: Initialisation, width: int, teacher: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """U (d2, d) and W (d, d0) of one run, float64.

    Args:
        scheme: a scheme of `linear_weight`; `balanced`, at a random point with U W = V and
            Uᵀ U = W Wᵀ; or `{u, w, unit}`, normal with stds u and w times 1/√fan_in (of the
            layer) or 1/√width.
        teacher: V, (d2, d0).

    Raises:
        ConfigError: the width is too small for a balanced start.
    """
    outputs, inputs = teacher.shape
    if scheme == "balanced":
        left, singular, right = torch.linalg.svd(teacher.double(), full_matrices=False)
        if width < len(singular):
            raise ConfigError(
                f"widths: a balanced start of a {outputs} × {inputs} teacher needs a width of at "
                f"least {len(singular)}; got {width}."
            )
        drawn = torch.randn(width, len(singular), dtype=torch.float64, generator=generator)
        frame = torch.linalg.qr(drawn).Q
        root = singular.sqrt()
        return (left * root) @ frame.T, frame @ (root[:, None] * right)
    if isinstance(scheme, str):
        w = linear_weight((width, inputs), inputs, width, scheme, generator)
        return linear_weight((outputs, width), width, outputs, scheme, generator), w
    w = torch.randn(width, inputs, dtype=torch.float64, generator=generator)
    u = torch.randn(outputs, width, dtype=torch.float64, generator=generator)
    fan_in = inputs if scheme["unit"] == "fan_in" else width
    return u * (scheme["u"] / math.sqrt(width)), w * (scheme["w"] / math.sqrt(fan_in))


@dataclass(frozen=True)
class TwoLayer:
    """f(x) = U φ(W x), parameters `w` (R, d, d0) and `u` (R, d2, d)."""

    width: int
    activation: str
    initialisation: Initialisation
    layers: list[list[str]] = field(default_factory=lambda: [["w"], ["u"]])

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, float64."""
        u, w = initial_factors(self.initialisation, self.width, dataset["teacher"], generator)
        return {"w": w, "u": u}

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, n, d2) for inputs (n, d0) or (R, n, d0)."""
        hidden = ACTIVATIONS[self.activation].function(inputs @ parameters["w"].mT)
        return hidden @ parameters["u"].mT

    def descend(
        self, parameters: Parameters, batches: Iterable[Batch], weight_decay: float
    ) -> Parameters:
        """The parameters after a step a batch on the squared loss, written out.

        θ ← θ − η (∇L + γ θ), with the batch's η.
        """
        # W is held as its transpose: every product but one then reads its factors as they lie
        u = stack(parameters["u"].clone(memory_format=torch.contiguous_format))
        w_t = stack(parameters["w"].mT.clone(memory_format=torch.contiguous_format))
        activation = None if self.activation == "linear" else ACTIVATIONS[self.activation]
        with divergence_allowed():
            for inputs, targets, rate in batches:
                x = stack(inputs)
                hidden = before = x @ w_t
                if activation is not None:
                    hidden = elementwise(activation.function, before)
                slope = hidden @ u.mT
                slope -= stack(targets)
                slope *= 2.0 * rate / x.shape[1]
                back = slope @ u
                if activation is not None:
                    back *= elementwise(activation.derivative, before)
                if weight_decay:
                    u *= 1.0 - rate * weight_decay
                    w_t *= 1.0 - rate * weight_decay
                u -= slope.mT @ hidden
                w_t -= x.mT @ back
        return {"w": tensor(w_t.mT), "u": tensor(u)}


@dataclass(frozen=True)
class TwoLayerLinear(TwoLayer):
    """f(x) = U W x, trained in the span of Uᵀ and W where the width is larger than it.

    Gradients stay in the span of the initial Uᵀ and W (at most d0 + d2 dimensions): with B an
    orthonormal basis of it, U B and Bᵀ W train as U and W do, and every product and norm is theirs.
    """

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, float64, of width min(d, d0 + d2)."""
        full = super().initialise(dataset, generator)
        u, w = full["u"], full["w"]
        if self.width <= sum(dataset["teacher"].shape):
            return full
        seen = torch.linalg.qr(torch.cat([u.mT, w], dim=1)).R
        return {"w": seen[:, u.shape[0] :], "u": seen[:, : u.shape[0]].mT.contiguous()}

    def population_loss(self, parameters: Parameters, population: Population) -> Tensor:
        """E‖U W x − y‖² = Tr[D Σx Dᵀ] + Tr Σε with D = U W − V, (R,)."""
        excess = (parameters["u"] @ parameters["w"] - population.teacher) * population.input_std
        return excess.square().sum((-2, -1)) + population.noise_std.square().sum()

    def descend_population(
        self,
        parameters: Parameters,
        population: Population,
        learning_rates: Iterable[float],
        weight_decay: float,
    ) -> Parameters:
        """The parameters after a step a learning rate on `population_loss`, written out."""
        contiguous = torch.contiguous_format
        u, w = (stack(parameters[n].clone(memory_format=contiguous)) for n in ("u", "w"))
        teacher, variance = stack(population.teacher), stack(population.input_std.square())
        with divergence_allowed():
            for rate in learning_rates:
                excess = u @ w
                excess -= teacher
                excess *= 2.0 * rate * variance
                back = u.mT @ excess
                if weight_decay:
                    u *= 1.0 - rate * weight_decay
                u -= excess @ w.mT
                if weight_decay:
                    w *= 1.0 - rate * weight_decay
                w -= back
        return {"w": tensor(w), "u": tensor(u)}


def build(spec: Mapping[str, Any], width: int) -> TwoLayer:
    """The network of `{kind: two_layer, activation, initialisation}`."""
    kind = TwoLayerLinear if spec["activation"] == "linear" else TwoLayer
    return kind(width, spec["activation"], spec["initialisation"])
