"""The convolutional network of li2022.

Source: li2022, appendix: conv3×3(3→32, pad 1)-φ-maxpool2-conv3×3(32→32, pad 1)-φ-maxpool2-linear
(2048→1, no bias), PyTorch's initialisation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sharpflow.errors import ConfigError
from sharpflow.initialisations.base import Weight, draw_weights
from sharpflow.models.activations import ACTIVATIONS
from sharpflow.models.base import Model, Parameters, Setting

KERNEL, POOL = 3, 2


@dataclass(frozen=True)
class ConvolutionalNetwork(Model):
    """Two convolutions of `width` channels and linear output units.

    Runs are taken one after the other; grouped convolutions over all of them are no faster.
    The activation must not decrease anywhere: max-pooling then commutes with it and is done
    first, on a quarter of the numbers. Features of the output layer run over (row, column,
    channel), the order in which channels-last tensors lie in memory.
    """

    width: int
    activation: str
    outputs: int = 1
    layers: list[list[str]] = field(
        default_factory=lambda: [["weight0", "bias0"], ["weight1", "bias1"], ["weight2"]]
    )
    capabilities: frozenset[str] = frozenset({"convolution stack"})

    def data_inputs(self, dataset: Mapping[str, Tensor]) -> Tensor:
        """The images (n, channels, rows, columns), channels-last in memory."""
        return dataset["inputs"].contiguous(memory_format=torch.channels_last)

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, float64.

        Raises:
            ConfigError: the images' sides cannot be halved twice.
        """
        _, channels, rows, columns = dataset["inputs"].shape
        if rows % POOL**2 or columns % POOL**2:
            raise ConfigError(
                f"data: the dataset holds images of {rows} × {columns} pixels; for model.kind = "
                f"'cnn' both sides must be multiples of {POOL**2}."
            )
        wanted = []
        for index, inputs in enumerate((channels, self.width)):
            shape, fan_in = (self.width, inputs, KERNEL, KERNEL), inputs * KERNEL**2
            wanted.append(Weight(f"weight{index}", shape, fan_in, self.width))
            wanted.append(Weight(f"bias{index}", (self.width,), fan_in, self.width, bias=True))
        features = self.width * rows * columns // POOL**4
        wanted.append(Weight("weight2", (features, self.outputs), features, self.outputs))
        return draw_weights({"kind": "default"}, wanted, dataset, generator)

    def convolution_stack(self, parameters: Parameters) -> tuple[list[Tensor], list[Tensor]]:
        """Kernels of the convolutions and the output layer's weights; biases of the former."""
        return (
            [parameters[f"weight{index}"] for index in range(3)],
            [parameters[f"bias{index}"] for index in range(2)],
        )

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, n, k) for images (n, c, h, w) that all runs share, or (R, n, c, h, w)."""
        runs = len(parameters["weight2"])
        outputs = []
        for run in range(runs):
            images = inputs if inputs.ndim == 4 else inputs[run]
            outputs.append(self._one(parameters, images, run))
        return torch.stack(outputs)

    def _one(self, parameters: Parameters, images: Tensor, run: int) -> Tensor:
        function = ACTIVATIONS[self.activation].function
        weights, biases = self.convolution_stack(parameters)
        hidden = images.contiguous(memory_format=torch.channels_last)
        for weight, bias in zip(weights[:2], biases, strict=True):
            kernel = weight[run].contiguous(memory_format=torch.channels_last)
            before = F.conv2d(hidden, kernel, bias[run], padding=1)
            hidden = function(F.max_pool2d(before, POOL))
        return hidden.permute(0, 2, 3, 1).flatten(1) @ weights[2][run]


def build(options: Mapping[str, Any], setting: Setting) -> ConvolutionalNetwork:
    """The network of `{kind: cnn, activation}`."""
    return ConvolutionalNetwork(setting.width, options["activation"], setting.outputs)
