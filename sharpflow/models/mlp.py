"""Dense networks of any depth.

Source: li2022, section 3 and appendix (width 200, no biases, PyTorch's initialisation).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sharpflow.models.activations import ACTIVATIONS
from sharpflow.models.base import Parameters
from sharpflow.models.initialisation import linear_weight
from sharpflow.models.input_product import InputProduct
from sharpflow.models.losses import Loss


@dataclass(frozen=True)
class DenseNetwork:
    """`hidden_layers` layers of `width` units and one linear output unit.

    Weights are (in, out), so that a layer is H ← φ(H W + b). Inputs are the coordinates of the
    samples in an orthonormal basis of their span; `unseen` is the norm of what the first layer's
    weights have outside that span, where the loss has no gradient.
    """

    width: int
    hidden_layers: int
    activation: str
    bias: bool = False
    initialisation: str = "default"
    layers: list[list[str]] = field(init=False)

    def __post_init__(self):
        layers = []
        for index in range(self.hidden_layers + 1):
            names = [f"weight{index}"] + ([f"bias{index}"] if self.bias else [])
            layers.append(names + (["unseen"] if index == 0 else []))
        object.__setattr__(self, "layers", layers)

    def data_inputs(self, dataset: Mapping[str, Tensor]) -> Tensor:
        """The samples' coordinates, (n, r)."""
        return dataset["coordinates"]

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, float64; the draw is that of the uncompressed network."""
        basis = dataset["basis"].double()
        sizes = [basis.shape[0], *[self.width] * self.hidden_layers, 1]
        parameters: Parameters = {}
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            weight = linear_weight(
                (fan_in, fan_out), fan_in, fan_out, self.initialisation, generator
            )
            if index == 0:
                seen = basis.T @ weight
                rest = (weight.square().sum() - seen.square().sum()).clamp(min=0.0)
                parameters["weight0"], unseen = seen, rest.sqrt().reshape(1)
            else:
                parameters[f"weight{index}"] = weight
            if self.bias:
                bias = linear_weight((fan_out,), fan_in, fan_out, "default", generator)
                parameters[f"bias{index}"] = bias
        return parameters | {"unseen": unseen}

    def dense_stack(self, parameters: Parameters) -> tuple[list[Tensor], list[Tensor] | None]:
        """Weights and biases, input to output."""
        count = self.hidden_layers + 1
        weights = [parameters[f"weight{index}"] for index in range(count)]
        biases = [parameters[f"bias{index}"] for index in range(count)] if self.bias else None
        return weights, biases

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, n, 1) for coordinates (n, r) or (R, n, r)."""
        function = ACTIVATIONS[self.activation].function
        weights, biases = self.dense_stack(parameters)
        hidden = inputs
        for index, weight in enumerate(weights):
            hidden = hidden @ weight
            if biases is not None:
                hidden = hidden + biases[index].unsqueeze(-2)
            if index < self.hidden_layers:
                hidden = function(hidden)
        return hidden

    def loss_and_gradient(
        self, parameters: Parameters, inputs: InputProduct, targets: Tensor, loss: Loss
    ) -> tuple[Tensor, Parameters]:
        """Loss of each run, (R,), and its gradient, written out.

        Args:
            inputs: of coordinates (n, r) or (R, n, r).
            targets: (n, 1) or (R, n, 1).
        """
        activation = ACTIVATIONS[self.activation]
        weights, biases = self.dense_stack(parameters)
        features: list[Tensor] = []
        slopes: list[Tensor] = []
        for index, weight in enumerate(weights):
            before = features[-1] @ weight if index else inputs.times(weight)
            if biases is not None:
                before = before + biases[index].unsqueeze(-2)
            if index < self.hidden_layers:
                value, slope = activation.value_and_derivative(before)
                features.append(value)
                slopes.append(slope)
        losses = loss(before, targets)
        error = loss.slope(before, targets) / targets.shape[-2]
        gradients = {"unseen": torch.zeros_like(parameters["unseen"])}
        for index in range(self.hidden_layers, -1, -1):
            if biases is not None:
                gradients[f"bias{index}"] = error.sum(dim=-2)
            if index == 0:
                gradients["weight0"] = inputs.transposed_times(error)
                break
            gradients[f"weight{index}"] = features[index - 1].mT @ error
            error = (error @ weights[index].mT).mul_(slopes[index - 1])
        return losses, {name: gradients[name] for name in parameters}


def build(spec: Mapping[str, Any], width: int) -> DenseNetwork:
    """The network of `{kind: mlp, hidden_layers, activation, bias, initialisation}`."""
    return DenseNetwork(
        width, spec["hidden_layers"], spec["activation"], spec["bias"], spec["initialisation"]
    )
