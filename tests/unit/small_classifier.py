"""A small classifier and its data, in float64, for tests of curvature."""

import torch
from torch import nn


def draw(*shape, seed=0):
    """Standard normals that depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def samples(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (count, 5), and labels of three classes in turn."""
    return draw(count, 5), torch.arange(count) % 3


def net(*more: nn.Module, activation: type[nn.Module] = nn.GELU) -> nn.Sequential:
    """5-6-3, always the same, with more modules behind its activation."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), activation(), *more, nn.Linear(6, 3)).double()


def cubed(slope_at):
    """x³, with a function of x for its derivative."""

    class Cubed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, slope):
            (x,) = ctx.saved_tensors
            return slope * slope_at(x)

    return Cubed
