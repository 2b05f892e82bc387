"""Two-layer networks f(x) = U φ(W x) with vector outputs.

Source: ziyin2024, section 5 (matrix factorisation) and figures 2 to 9.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sharpflow.data.population import Population
from sharpflow.initialisations.base import Weight, draw_weights
from sharpflow.models.activations import ACTIVATIONS
from sharpflow.models.base import Batch, Model, Parameters, Setting
from sharpflow.models.stacks import divergence_allowed, elementwise, stack, tensor


class Ends(NamedTuple):
    """Numbers of inputs d0 and of outputs d2."""

    inputs: int
    outputs: int

    @classmethod
    def of(cls, setting: Setting) -> "Ends":
        """Those of a network for that data."""
        return cls(math.prod(setting.input_shape), setting.outputs)


def initial_factors(
    initialisation: Mapping[str, Any],
    width: int,
    ends: Ends,
    dataset: Mapping[str, Tensor],
    generator: torch.Generator,
) -> Parameters:
    """W (d, d0) and U (d2, d) of one run, float64, as `w` and `u`."""
    inputs, outputs = ends
    wanted = [Weight("w", (width, inputs), inputs, width)]
    wanted.append(Weight("u", (outputs, width), width, outputs))
    drawn = draw_weights(initialisation, wanted, dataset, generator)
    return {"w": drawn["w"], "u": drawn["u"]}


@dataclass(frozen=True)
class TwoLayer(Model):
    """f(x) = U φ(W x), parameters `w` (R, d, d0) and `u` (R, d2, d)."""

    width: int
    ends: Ends
    activation: str
    initialisation: Mapping[str, Any]
    layers: list[list[str]] = field(default_factory=lambda: [["w"], ["u"]])
    capabilities: frozenset[str] = frozenset({"two layers", "written-out steps"})

    def data_inputs(self, dataset: Mapping[str, Tensor]) -> Tensor:
        """The samples, (n, d0): of pictures, all pixels in a row."""
        return dataset["inputs"].flatten(1)

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, float64."""
        return initial_factors(self.initialisation, self.width, self.ends, dataset, generator)

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

    capabilities: frozenset[str] = frozenset(
        {"two layers", "linear two layers", "written-out steps", "population loss"}
    )

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, float64, of width min(d, d0 + d2)."""
        full = super().initialise(dataset, generator)
        u, w = full["u"], full["w"]
        if self.width <= sum(self.ends):
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


def build(options: Mapping[str, Any], setting: Setting) -> TwoLayer:
    """The network of `{kind: two_layer, activation, initialisation}`."""
    kind = TwoLayerLinear if options["activation"] == "linear" else TwoLayer
    return kind(setting.width, Ends.of(setting), options["activation"], options["initialisation"])
