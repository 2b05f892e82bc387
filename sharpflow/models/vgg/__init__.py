"""Plain convolutional networks for small images.

Source: Simonyan and Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", with one dense layer at the end in place of three.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from sharpflow.models.activations import ACTIVATIONS
from sharpflow.models.base import Setting
from sharpflow.models.functional import ModuleModel


class Stage(nn.Module):
    """3×3 convolutions, each with an activation, and 2×2 max-pooling."""

    def __init__(self, inputs: int, outputs: int, count: int, options: Mapping[str, Any]):
        super().__init__()
        self.activation = ACTIVATIONS[options["activation"]].function
        normalised = options["normalisation"] == "batch"
        layers = []
        for index in range(count):
            channels = outputs if index else inputs
            plain = nn.Conv2d(channels, outputs, 3, padding=1, bias=not normalised)
            layers.append(nn.Sequential(plain, nn.BatchNorm2d(outputs)) if normalised else plain)
        self.layers = nn.ModuleList(layers)

    def forward(self, images: Tensor) -> Tensor:
        """Features (n, outputs, rows/2, columns/2) of (n, inputs, rows, columns)."""
        for layer in self.layers:
            images = self.activation(layer(images))
        return nn.functional.max_pool2d(images, 2)


def network(setting: Setting, options: Mapping[str, Any]) -> nn.Sequential:
    """The module, of images (n, channels, rows, columns) to outputs (n, k)."""
    channels, rows, columns = setting.input_shape
    counts = options["convolutions"]
    stages = []
    for index, count in enumerate(counts):
        outputs = setting.width * min(2**index, 8)
        stages.append(Stage(channels, outputs, count, options))
        channels = outputs
    features = channels * (rows >> len(counts)) * (columns >> len(counts))
    return nn.Sequential(*stages, nn.Flatten(), nn.Linear(features, setting.outputs))


def build(options: Mapping[str, Any], setting: Setting) -> ModuleModel:
    """The network of `{kind: vgg, convolutions, normalisation, activation}`."""
    return ModuleModel(lambda: network(setting, options), setting)
