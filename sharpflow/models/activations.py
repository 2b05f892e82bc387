"""Activation functions with the derivatives that closed-form curvature needs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its first two derivatives, each Tensor -> Tensor of one shape.

    At a kink (ReLU and ELU at 0) the derivatives are PyTorch's: ReLU'(0) = 0, ELU'(0) = 1.
    """

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    second_derivative: Callable[[Tensor], Tensor]
    derivative_of_value: Callable[[Tensor], Tensor] | None = None
    second_of_value: Callable[[Tensor, Tensor], Tensor] | None = None

    def value_and_derivative(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """φ(z) and φ'(z), the latter from the former where that is cheaper."""
        value = self.function(z)
        if self.derivative_of_value is not None:
            return value, self.derivative_of_value(value)
        return value, self.derivative(z)

    def bend(self, z: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        """φ''(z), from φ(z) and φ'(z) where that is cheaper."""
        if self.second_of_value is not None:
            return self.second_of_value(value, slope)
        return self.second_derivative(z)


def _tanh_second(z: Tensor) -> Tensor:
    t = torch.tanh(z)
    return -2.0 * t * (1.0 - t * t)


def _swish_derivative(z: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1.0 + z * (1.0 - s))


def _swish_second(z: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1.0 - s) * (2.0 + z * (1.0 - 2.0 * s))


def _sigmoid_slope(z: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1.0 - s)


def _normal_density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def _gelu_derivative(z: Tensor) -> Tensor:
    return torch.special.ndtr(z) + z * _normal_density(z)


def _gelu_second(z: Tensor) -> Tensor:
    return (2.0 - z * z) * _normal_density(z)


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda z: z, torch.ones_like, torch.zeros_like),
    "tanh": Activation(
        torch.tanh,
        lambda z: 1.0 - torch.tanh(z) ** 2,
        _tanh_second,
        lambda h: 1.0 - h * h,
        lambda h, slope: -2.0 * h * slope,
    ),
    "relu": Activation(torch.relu, lambda z: (z > 0).to(z.dtype), torch.zeros_like),
    "elu": Activation(
        F.elu,
        lambda z: torch.where(z >= 0, torch.ones_like(z), torch.exp(z.clamp(max=0))),
        lambda z: torch.where(z >= 0, torch.zeros_like(z), torch.exp(z.clamp(max=0))),
    ),
    "softplus": Activation(F.softplus, torch.sigmoid, _sigmoid_slope),
    "swish": Activation(F.silu, _swish_derivative, _swish_second),
    "gelu": Activation(F.gelu, _gelu_derivative, _gelu_second),
}
