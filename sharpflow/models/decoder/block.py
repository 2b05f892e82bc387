"""The transformer's block (Vaswani et al. 2017), normalised before attention and dense layers."""

import math

import torch
from torch import Tensor, nn

from sharpflow.models.activations import ACTIVATIONS

EMBEDDING_STD = 0.02
"""Standard deviation of initial embeddings and positions (Radford et al. 2019)."""


class Attention(nn.Module):
    """Attention of several heads, in plain products: its derivatives of every order exist."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.split = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, T, width) for (n, T, width)."""
        length, size = tokens.shape[1], tokens.shape[2] // self.heads
        parts = self.split(tokens).unflatten(-1, (3, self.heads, size)).movedim(-3, 0)
        query, key, value = parts.transpose(2, 3).unbind(0)
        scores = query @ key.mT / math.sqrt(size)
        if self.causal:
            later = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        mixed = torch.softmax(scores, dim=-1) @ value
        return self.merge(mixed.transpose(1, 2).flatten(2))


class Elementwise(nn.Module):
    """An activation function by its name."""

    def __init__(self, activation: str):
        super().__init__()
        self.activation = activation

    def forward(self, inputs: Tensor) -> Tensor:
        """Its value, of the shape of the inputs."""
        return ACTIVATIONS[self.activation].function(inputs)


class Block(nn.Module):
    """x ← x + attention(norm(x)), x ← x + dense(norm(x))."""

    def __init__(self, width: int, heads: int, expansion: int, activation: str, causal: bool):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal)
        self.dense_norm = nn.LayerNorm(width)
        self.dense = nn.Sequential(
            nn.Linear(width, expansion * width),
            Elementwise(activation),
            nn.Linear(expansion * width, width),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, T, width) for (n, T, width)."""
        tokens = tokens + self.attention(self.attention_norm(tokens))
        return tokens + self.dense(self.dense_norm(tokens))
