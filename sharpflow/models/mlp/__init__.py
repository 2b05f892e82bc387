"""Dense networks of any depth.

Source: li2022, section 3 and appendix (width 200, no biases, PyTorch's initialisation).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sharpflow.initialisations.base import Weight, draw_weights
from sharpflow.losses.base import Loss
from sharpflow.models.activations import ACTIVATIONS
from sharpflow.models.base import STATELESS, Gradient, Model, Parameters, Pass, Setting
from sharpflow.models.dense_pass import DensePass, dense_pass
from sharpflow.models.input_product import InputProduct

PLAIN: Mapping[str, Any] = {"kind": "default"}
CAPABILITIES = frozenset({"dense stack", "kept pass"})


@dataclass(frozen=True)
class DenseNetwork(Model):
    """`hidden_layers` layers of `width` units and linear output units.

    Weights are (in, out), so that a layer is H ← φ(H W + b). Compressed inputs are the coordinates
    of the samples in an orthonormal basis of their span; `unseen` is the norm of what the first
    layer's weights have outside that span, where the loss has no gradient.
    """

    width: int
    hidden_layers: int
    activation: str
    bias: bool = False
    initialisation: Mapping[str, Any] = field(default_factory=lambda: PLAIN)
    outputs: int = 1
    compressed: bool = True
    layers: list[list[str]] = field(init=False)
    capabilities: frozenset[str] = field(init=False, default=CAPABILITIES)
    _kept: list[Any] = field(init=False, repr=False, compare=False, default_factory=list)

    def __post_init__(self):
        layers = [
            [f"weight{index}", *([f"bias{index}"] if self.bias else [])]
            for index in range(self.hidden_layers + 1)
        ]
        if self.compressed:
            layers[0].append("unseen")
        object.__setattr__(self, "layers", layers)

    def data_inputs(self, dataset: Mapping[str, Tensor]) -> Tensor:
        """The samples' coordinates (n, r), or the samples themselves, flattened, (n, d)."""
        return dataset["coordinates"] if self.compressed else dataset["inputs"].flatten(1)

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, float64; the draw is that of the uncompressed network."""
        known = "inputs" in dataset
        inputs = dataset["inputs"][0].numel() if known else dataset["teacher"].shape[1]
        sizes = [inputs, *[self.width] * self.hidden_layers, self.outputs]
        wanted = []
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            wanted.append(Weight(f"weight{index}", (fan_in, fan_out), fan_in, fan_out))
            if self.bias:
                wanted.append(Weight(f"bias{index}", (fan_out,), fan_in, fan_out, bias=True))
        parameters = draw_weights(self.initialisation, wanted, dataset, generator)
        if not self.compressed:
            return parameters
        weight = parameters["weight0"]
        seen = dataset["basis"].double().T @ weight
        rest = (weight.square().sum() - seen.square().sum()).clamp(min=0.0)
        return parameters | {"weight0": seen, "unseen": rest.sqrt().reshape(1)}

    def dense_stack(self, parameters: Parameters) -> tuple[list[Tensor], list[Tensor] | None]:
        """Weights and biases, input to output."""
        count = self.hidden_layers + 1
        weights = [parameters[f"weight{index}"] for index in range(count)]
        biases = [parameters[f"bias{index}"] for index in range(count)] if self.bias else None
        return weights, biases

    def _pass(self, parameters: Parameters, inputs: InputProduct, whole: bool) -> DensePass:
        activations = [ACTIVATIONS[self.activation]] * self.hidden_layers
        return dense_pass(*self.dense_stack(parameters), activations, inputs, whole)

    def _taken(self, parameters: Parameters, inputs: InputProduct) -> DensePass | None:
        """The pass that `keep_pass` took of just these tensors, if it did."""
        if not self._kept or self._kept[1] is not inputs:
            return None
        known, _, taken = self._kept
        return taken if all(parameters.get(n) is t for n, t in known.items()) else None

    def keep_pass(self, parameters: Parameters, inputs: InputProduct) -> DensePass:
        """The pass of all runs, kept for the step from the same parameters that may follow.

        Args:
            parameters: by name, each with a leading dimension of R runs; nobody may change them in
                place.
            inputs: of all samples, the same object at every call.

        Returns:
            The pass, with preactivations.
        """
        taken = self._taken(parameters, inputs) or self._pass(parameters, inputs, True)
        self._kept[:] = parameters, inputs, taken
        return taken

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, n, k) for inputs (n, r) or (R, n, r)."""
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
        self,
        parameters: Parameters,
        inputs: InputProduct,
        targets: Tensor,
        loss: Loss,
        moment: Pass = STATELESS,
    ) -> Gradient:
        """Loss of each run, (R,), and its gradient, written out.

        Args:
            parameters: by name, each with a leading dimension of R runs.
            inputs: products with inputs (n, r) or (R, n, r).
            targets: (n, k) or (R, n, k).
            loss: gives the loss of each run, and its slope in the outputs.
            moment: the network has no buffers and draws nothing, so that it is not used.
        """
        weights, biases = self.dense_stack(parameters)
        taken = self._taken(parameters, inputs) or self._pass(parameters, inputs, False)
        before, features, slopes = taken.last, taken.features, taken.slopes
        losses = loss(before, targets)
        error = loss.slope(before, targets) / targets.shape[-2]
        gradients = {}
        if self.compressed:
            gradients["unseen"] = torch.zeros_like(parameters["unseen"])
        for index in range(self.hidden_layers, -1, -1):
            if biases is not None:
                gradients[f"bias{index}"] = error.sum(dim=-2)
            if index == 0:
                gradients["weight0"] = inputs.transposed_times(error)
                break
            gradients[f"weight{index}"] = features[index - 1].mT @ error
            error = (error @ weights[index].mT).mul_(slopes[index - 1])
        return Gradient(losses, {name: gradients[name] for name in parameters})


def build(options: Mapping[str, Any], setting: Setting) -> DenseNetwork:
    """The network of `{kind: mlp, hidden_layers, activation, bias, initialisation}`."""
    return DenseNetwork(
        setting.width,
        options["hidden_layers"],
        options["activation"],
        options["bias"],
        options["initialisation"],
        setting.outputs,
        setting.compressed,
    )
