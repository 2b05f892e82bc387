"""Small vision transformers.

Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", without dropout.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sharpflow.models.base import Setting
from sharpflow.models.decoder.block import EMBEDDING_STD, Block
from sharpflow.models.functional import ModuleModel


class VisionTransformer(nn.Module):
    """Embedded patches with positions, blocks, and linear output units on their mean or a token."""

    def __init__(self, setting: Setting, options: Mapping[str, Any]):
        super().__init__()
        width, self.patch = setting.width, options["patch"]
        channels, rows, columns = setting.input_shape
        patches, area = rows * columns // self.patch**2, self.patch**2
        self.pooling = options["pooling"]
        if self.pooling == "token":
            self.token = nn.Parameter(torch.zeros(1, 1, width))
            patches += 1
        self.positions = nn.Parameter(EMBEDDING_STD * torch.randn(patches, width))
        self.embedding = nn.Linear(channels * area, width)
        shape = options["heads"], options["expansion"], options["activation"]
        blocks = (Block(width, *shape, causal=False) for _ in range(options["depth"]))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, setting.outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Outputs (n, k) for images (n, channels, rows, columns)."""
        side = self.patch
        grid = images.unflatten(3, (-1, side)).unflatten(2, (-1, side))
        hidden = self.embedding(grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2))
        if self.pooling == "token":
            hidden = torch.cat([self.token.expand(len(hidden), 1, -1), hidden], dim=1)
        hidden = self.norm(self.blocks(hidden + self.positions))
        return self.head(hidden[:, 0] if self.pooling == "token" else hidden.mean(dim=1))


def build(options: Mapping[str, Any], setting: Setting) -> ModuleModel:
    """The network of `{kind: vit, patch, depth, heads, expansion, activation, pooling}`."""
    return ModuleModel(lambda: VisionTransformer(setting, options), setting)
