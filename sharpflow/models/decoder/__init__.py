"""Decoder-only transformers.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", without dropout.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sharpflow.models.base import Setting
from sharpflow.models.decoder.block import EMBEDDING_STD, Block
from sharpflow.models.functional import ModuleModel


class Decoder(nn.Module):
    """Embeddings with positions, causal blocks, and linear output units at every position."""

    def __init__(self, setting: Setting, options: Mapping[str, Any]):
        super().__init__()
        width, length = setting.width, setting.input_shape[0]
        assert setting.vocabulary is not None, "the inputs are tokens"
        self.positions = nn.Parameter(EMBEDDING_STD * torch.randn(length, width))
        self.embedding = nn.Embedding(setting.vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD)
        shape = options["heads"], options["expansion"], options["activation"]
        blocks = (Block(width, *shape, causal=True) for _ in range(options["depth"]))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, setting.outputs, bias=False)
        if options["tied"]:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Outputs (n, T, k) for tokens (n, T)."""
        return self.head(self.norm(self.blocks(self.embedding(tokens) + self.positions)))


def build(options: Mapping[str, Any], setting: Setting) -> ModuleModel:
    """The network of `{kind: decoder, depth, heads, expansion, activation, tied}`."""
    return ModuleModel(lambda: Decoder(setting, options), setting)
