"""Recurrent networks of LSTM cells (Hochreiter and Schmidhuber 1997), as `torch.nn.LSTM` has them.

They are written out, because `torch.nn.LSTM` does not go under `torch.func.vmap`, and on a GPU has
no second derivatives.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sharpflow.models.base import Setting
from sharpflow.models.functional import ModuleModel


class Layer(nn.Module):
    """A layer of cells; both maps hold the input, forget, cell and output gates in this order."""

    def __init__(self, width: int):
        super().__init__()
        self.inputs = nn.Linear(width, 4 * width)
        self.recurrent = nn.Linear(width, 4 * width, bias=False)

    def forward(self, sequence: Tensor) -> Tensor:
        """Hidden states (n, T, width) for (n, T, width)."""
        hidden = cell = torch.zeros_like(sequence[:, 0])
        found = []
        for driven in self.inputs(sequence).unbind(1):
            into, kept, new, out = (driven + self.recurrent(hidden)).chunk(4, dim=-1)
            cell = torch.sigmoid(kept) * cell + torch.sigmoid(into) * torch.tanh(new)
            hidden = torch.sigmoid(out) * torch.tanh(cell)
            found.append(hidden)
        return torch.stack(found, dim=1)


def network(setting: Setting, depth: int) -> nn.Sequential:
    """The module, of tokens (n, T) to outputs (n, T, k)."""
    width = setting.width
    assert setting.vocabulary is not None, "the inputs are tokens"
    layers = (Layer(width) for _ in range(depth))
    embedding = nn.Embedding(setting.vocabulary, width)
    return nn.Sequential(embedding, *layers, nn.Linear(width, setting.outputs))


def build(options: Mapping[str, Any], setting: Setting) -> ModuleModel:
    """The network of `{kind: lstm, depth}`."""
    return ModuleModel(lambda: network(setting, options["depth"]), setting)
