"""Residual networks for small images.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2, with 1×1
convolutions where a shortcut changes its shape.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from sharpflow.models.activations import ACTIVATIONS
from sharpflow.models.base import Setting
from sharpflow.models.functional import ModuleModel


class Convolution(nn.Sequential):
    """A convolution and its normalisation, or its bias where there is none."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, options: Mapping[str, Any]
    ):
        kind = options["normalisation"]
        plain = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=kind == "none")
        if kind == "none":
            super().__init__(plain)
        elif kind == "batch":
            super().__init__(plain, nn.BatchNorm2d(outputs))
        else:
            super().__init__(plain, nn.GroupNorm(options["groups"], outputs))


class Block(nn.Module):
    """φ(g(φ(f(x))) + s(x)): two 3×3 convolutions f and g, and a shortcut s."""

    def __init__(self, inputs: int, outputs: int, stride: int, options: Mapping[str, Any]):
        super().__init__()
        self.activation = ACTIVATIONS[options["activation"]].function
        self.first = Convolution(inputs, outputs, 3, stride, options)
        self.second = Convolution(outputs, outputs, 3, 1, options)
        self.shortcut = nn.Identity()
        if inputs != outputs:
            self.shortcut = Convolution(inputs, outputs, 1, stride, options)

    def forward(self, images: Tensor) -> Tensor:
        """Features (n, outputs, rows/stride, columns/stride) of (n, inputs, rows, columns)."""
        hidden = self.activation(self.first(images))
        return self.activation(self.second(hidden) + self.shortcut(images))


class ResidualNetwork(nn.Module):
    """A stem, stages of blocks, the mean over the positions, and linear output units."""

    def __init__(self, width: int, channels: int, outputs: int, options: Mapping[str, Any]):
        super().__init__()
        self.activation = ACTIVATIONS[options["activation"]].function
        self.stem = Convolution(channels, width, 3, 1, options)
        blocks, inputs = [], width
        for stage, count in enumerate(options["blocks"]):
            for index in range(count):
                stride = 2 if stage and not index else 1
                blocks.append(Block(inputs, width * 2**stage, stride, options))
                inputs = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Outputs (n, k) for images (n, channels, rows, columns)."""
        return self.head(self.blocks(self.activation(self.stem(images))).mean(dim=(2, 3)))


def build(options: Mapping[str, Any], setting: Setting) -> ModuleModel:
    """The network of `{kind: resnet, blocks, normalisation, groups, activation}`."""
    channels = setting.input_shape[0]
    return ModuleModel(
        lambda: ResidualNetwork(setting.width, channels, setting.outputs, options), setting
    )
