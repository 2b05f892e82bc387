"""Dense networks with batch normalisation, residual connections, both or neither.

Beyond li2022: does sharpness reach 2/η in the networks that are used in practice? Normalisation:
Ioffe and Szegedy 2015; residual connections: He et al. 2016.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sharpflow.models.activations import ACTIVATIONS
from sharpflow.models.base import Model, Parameters, Setting
from sharpflow.models.mlp import DenseNetwork

_EPSILON = 1e-5


@dataclass(frozen=True)
class BlockNetwork(Model):
    """`hidden_layers` layers of `width` units without biases, and linear output units.

    A hidden layer is H ← φ(N(H W)), or H ← H + φ(N(H W)) for all but the first of a residual
    network. N is the identity or, with batch normalisation, subtracts the mean over the batch,
    divides by the standard deviation and applies a gain (1 at the start) and an offset (0). Inputs
    and weights are those of `DenseNetwork`.
    """

    width: int
    hidden_layers: int
    activation: str
    batch_normalisation: bool
    residual: bool
    outputs: int = 1
    compressed: bool = True
    layers: list[list[str]] = field(init=False)

    def __post_init__(self):
        layers = [list(names) for names in self._dense.layers]
        if self.batch_normalisation:
            for index in range(self.hidden_layers):
                layers[index] += [f"gain{index}", f"offset{index}"]
        object.__setattr__(self, "layers", layers)

    @property
    def _dense(self) -> DenseNetwork:
        return DenseNetwork(
            self.width,
            self.hidden_layers,
            self.activation,
            outputs=self.outputs,
            compressed=self.compressed,
        )

    def data_inputs(self, dataset: Mapping[str, Tensor]) -> Tensor:
        """The samples' coordinates (n, r), or the samples themselves, flattened, (n, d)."""
        return self._dense.data_inputs(dataset)

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, float64; weights are drawn as those of `DenseNetwork`."""
        parameters = self._dense.initialise(dataset, generator)
        if self.batch_normalisation:
            for index in range(self.hidden_layers):
                parameters[f"gain{index}"] = torch.ones(self.width, dtype=torch.float64)
                parameters[f"offset{index}"] = torch.zeros(self.width, dtype=torch.float64)
        return parameters

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, n, k) for inputs (n, r) or (R, n, r); they depend on the whole batch."""
        function = ACTIVATIONS[self.activation].function
        hidden = inputs
        for index in range(self.hidden_layers):
            before = hidden @ parameters[f"weight{index}"]
            if self.batch_normalisation:
                variance, mean = torch.var_mean(before, dim=-2, correction=0, keepdim=True)
                gain = parameters[f"gain{index}"].unsqueeze(-2)
                offset = parameters[f"offset{index}"].unsqueeze(-2)
                before = (before - mean) * torch.rsqrt(variance + _EPSILON) * gain + offset
            after = function(before)
            hidden = hidden + after if self.residual and index else after
        return hidden @ parameters[f"weight{self.hidden_layers}"]


def build(options: Mapping[str, Any], setting: Setting) -> BlockNetwork:
    """The network of `{kind: block_mlp, …}`."""
    return BlockNetwork(
        setting.width,
        options["hidden_layers"],
        options["activation"],
        options["batch_normalisation"],
        options["residual"],
        setting.outputs,
        setting.compressed,
    )
