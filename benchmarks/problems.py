"""Networks whose curvature is timed, each on a stretch of descent near the edge of stability.

Learning rates are chosen so that the sharpness crosses 2/η within a few hundred steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.specs import part, shard
from sharpflow.data.base import generate
from sharpflow.training import Problem

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU}


class Residual(nn.Module):
    """x + W₂ gelu(W₁ LayerNorm(x))."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Transformer(nn.Module):
    """A pre-norm encoder on 8×8 patches: (n, 3, 32, 32) to (n, 1)."""

    def __init__(self, width: int = 64, depth: int = 2, patch: int = 8):
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(3 * patch * patch, width)
        self.position = nn.Parameter(0.02 * torch.randn((32 // patch) ** 2, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.read = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, self.patch, stride=self.patch).mT
        return self.read(self.encoder(self.embed(patches) + self.position).mean(1))


def cnn() -> nn.Module:
    """The paper's CNN: two 3×3 convolutions of 32 channels with ReLU, and a linear read-out."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2048, 1, bias=False),
    )


def residual_net(width: int = 128, depth: int = 4) -> nn.Module:
    """Residual blocks with LayerNorm between a dense embedding and a dense read-out."""
    blocks = [Residual(width) for _ in range(depth)]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3072, width), *blocks, nn.LayerNorm(width), nn.Linear(width, 1)
    )


@dataclass(frozen=True)
class Setting:
    """A network, its number of samples, 2/η, and the step at which timing starts.

    ``activation`` names a dense net of the workflow; ``make`` builds any other one.
    """

    samples: int
    threshold: float
    start: int
    activation: str | None = None
    make: Callable[[], nn.Module] | None = None


SETTINGS = {
    "dense tanh": Setting(1000, 400.0, 340, activation="tanh"),
    "dense relu": Setting(1000, 200.0, 150, activation="relu"),
    "dense elu": Setting(1000, 400.0, 260, activation="elu"),
    "cnn": Setting(200, 150.0, 40, make=cnn),
    "residual net": Setting(500, 400.0, 55, make=residual_net),
    "transformer": Setting(100, 600.0, 30, make=Transformer),
}


def photos(samples: int) -> dict[str, Tensor]:
    """Standardised 32×32 photographs, their labels, and their compressed coordinates."""
    return generate(part("data", "photos", samples=samples, scaling="standardised"))[0]


def dense_problem(activation: str, learning_rate: float, data: dict[str, Tensor]) -> Problem:
    """Full-batch GD on 3072-200-200-1 as the workflow does it, on compressed inputs."""
    model = part("models", "mlp", hidden_layers=2, activation=activation)
    return Problem(shard(model, 200, learning_rate, steps=10**6), data)


def uncompressed(weights: list[Tensor], activation: str, basis: Tensor) -> nn.Module:
    """The same net as an ``nn.Sequential`` on all 3,072 pixels."""
    modules: list[nn.Module] = []
    for weight in (basis @ weights[0], *weights[1:]):
        layer = nn.Linear(*weight.shape, bias=False)
        layer.weight.data = weight.T.contiguous()
        modules += [layer, ACTIVATIONS[activation]()]
    return nn.Sequential(*modules[:-1])
