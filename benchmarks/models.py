"""Nets as people train them, in plain PyTorch: each with its data, loss and learning rate.

All are float32, have 20,000 to 200,000 parameters, and are the same in every run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.problems import photos

Data = tuple[Tensor, Tensor]
Activation = Callable[[Tensor], Tensor]
LossFunction = Callable[[Tensor, Tensor], Tensor]


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with group norm beside a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.first = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.GroupNorm(4, outside) for _ in range(2))
        same = stride == 1 and inside == outside
        self.shortcut = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.activation(self.norms[0](self.first(x)))
        return self.activation(self.norms[1](self.second(inner)) + self.shortcut(x))


def residual_net(activation: Activation) -> nn.Module:
    """A ResNet of three stages on 16×16 images."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        ResidualBlock(16, 16, 1, activation),
        ResidualBlock(16, 32, 2, activation),
        ResidualBlock(32, 64, 2, activation),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 2),
    )


def cnn() -> nn.Module:
    """Convolutions with ReLU and max pooling, and two dense layers."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 2),
    )


class Block(nn.Module):
    """A pre-norm transformer block on PyTorch's own fused attention."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.mixed(self.before(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = (part.transpose(1, 2) for part in parts.unbind(2))
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        x = x + self.joined(seen.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.between(x))))


class Decoder(nn.Module):
    """GPT-like: tokens (n, t) to logits (n, tokens, t); the embedding is the read-out too."""

    def __init__(self, tokens: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.position = nn.Embedding(length, width)
        for table in (self.embed, self.position):
            nn.init.normal_(table.weight, std=0.05)
        self.blocks = nn.Sequential(*(Block(width, heads, causal=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.read = nn.Linear(width, tokens, bias=False)
        self.read.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = self.blocks(self.embed(tokens) + self.position(places))
        return self.read(self.norm(hidden)).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Transformer on 4×4 patches of 16×16 images."""

    def __init__(self, width: int = 48, depth: int = 3, heads: int = 4, patch: int = 4) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn((16 // patch) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, heads, causal=False) for _ in range(depth)))
        self.norm, self.read = nn.LayerNorm(width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.embed(x).flatten(2).transpose(1, 2) + self.position
        return self.read(self.norm(self.blocks(patches)).mean(1))


class RowReader(nn.Module):
    """An LSTM that reads an image row by row."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.cell = nn.LSTM(48, width, batch_first=True)
        self.read = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.transpose(1, 2).flatten(2)
        return self.read(self.cell(rows)[0][:, -1])


@cache
def images(samples: int = 200) -> Data:
    """Photographs (n, 3, 16, 16) of two classes, (n,)."""
    data = photos(samples)
    small = F.avg_pool2d(data["inputs"], 2)
    return small / small.std(), (data["targets"].squeeze(1) > 0).long()


@cache
def text(samples: int = 16, length: int = 32, tokens: int = 64) -> Data:
    """Sequences (n, t) of a Markov chain, whose rows are Zipf's law in an order of their own.

    The targets are the tokens that follow.
    """
    stream = torch.Generator().manual_seed(0)
    law = 1 / torch.arange(1, tokens + 1) ** 1.5
    order = torch.stack([torch.randperm(tokens, generator=stream) for _ in range(tokens)])
    drawn = [torch.randint(tokens, (samples,), generator=stream)]
    for _ in range(length):
        rank = torch.multinomial(law, samples, replacement=True, generator=stream)
        drawn.append(order[drawn[-1], rank])
    read = torch.stack(drawn, dim=1)
    return read[:, :-1].contiguous(), read[:, 1:].contiguous()


@dataclass(frozen=True)
class Net:
    """A net to be measured along full-batch gradient descent.

    Attributes:
        make: builds it.
        data: inputs and targets.
        learning_rate: of gradient descent, at which the sharpness reaches 2/η in some hundred
            steps.
        loss_fn: of outputs and targets.
    """

    make: Callable[[], nn.Module]
    data: Callable[[], Data]
    learning_rate: float
    loss_fn: LossFunction = F.cross_entropy

    def build(self) -> nn.Module:
        """The net as it is before training."""
        torch.manual_seed(0)
        return self.make()


NETS = {
    "residual net": Net(partial(residual_net, F.silu), images, 0.05),
    "residual net, ReLU": Net(partial(residual_net, F.relu), images, 0.05),
    "cnn": Net(cnn, images, 0.13),
    "decoder": Net(lambda: Decoder(64, 32, 64, 2, 4), text, 0.2),
    "vit": Net(VisionTransformer, images, 0.02),
    "lstm": Net(RowReader, images, 0.3),
}


def descend(model: nn.Module, net: Net, steps: int = 1) -> float:
    """Steps of full-batch gradient descent; returns the last loss before a step."""
    inputs, targets = net.data()
    params = list(model.parameters())
    value = float("nan")
    for _ in range(steps):
        loss = net.loss_fn(model(inputs), targets)
        slopes = torch.autograd.grad(loss, params)
        with torch.no_grad():
            for parameter, slope in zip(params, slopes, strict=True):
                parameter.sub_(slope, alpha=net.learning_rate)
        value = float(loss.detach())
    return value
