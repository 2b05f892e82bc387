"""Activation functions with the derivatives that closed-form curvature needs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its derivatives, each Tensor -> Tensor of one shape.

    At a kink (ReLU and ELU at 0) the first two derivatives are PyTorch's: ReLU'(0) = 0,
    ELU'(0) = 1. The second derivative of ELU falls from 1 to 0 there: in its third one the fall is
    spread over a Gaussian of standard deviation 0.1, without which sums over many samples would
    have even the wrong sign. ReLU's is what there is away from the kink, and of no use (`smooth`).
    """

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    second_derivative: Callable[[Tensor], Tensor]
    third_derivative: Callable[[Tensor], Tensor]
    derivative_of_value: Callable[[Tensor], Tensor] | None = None
    second_of_value: Callable[[Tensor, Tensor], Tensor] | None = None
    third_of_value: Callable[[Tensor, Tensor], Tensor] | None = None
    smooth: bool = True

    @property
    def bent(self) -> bool:
        """Whether there is a second derivative other than 0."""
        return self.second_derivative is not torch.zeros_like

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

    def twist(self, z: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        """The third derivative, from φ(z) and φ'(z) where that is cheaper."""
        if self.third_of_value is not None:
            return self.third_of_value(value, slope)
        return self.third_derivative(z)


_FALL = 0.1
"""Over how much of z the fall of ELU's second derivative is spread."""


def _tanh_second(z: Tensor) -> Tensor:
    t = torch.tanh(z)
    return -2.0 * t * (1.0 - t * t)


def _swish_derivative(z: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1.0 + z * (1.0 - s))


def _swish_second(z: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1.0 - s) * (2.0 + z * (1.0 - 2.0 * s))


def _swish_third(z: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    slope, turn = s * (1.0 - s), 1.0 - 2.0 * s
    return slope * (turn * (3.0 + z * turn) - 2.0 * z * slope)


def _tanh_third(z: Tensor) -> Tensor:
    t = torch.tanh(z)
    square = t * t
    return (1.0 - square) * (6.0 * square - 2.0)


def _sigmoid_second(z: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1.0 - s) * (1.0 - 2.0 * s)


def _sigmoid_slope(z: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1.0 - s)


def _normal_density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def _gelu_derivative(z: Tensor) -> Tensor:
    return torch.special.ndtr(z) + z * _normal_density(z)


def _gelu_second(z: Tensor) -> Tensor:
    return (2.0 - z * z) * _normal_density(z)


def _gelu_third(z: Tensor) -> Tensor:
    return z * (z * z - 4.0) * _normal_density(z)


def _elu_bend(z: Tensor) -> Tensor:
    return torch.where(z >= 0, torch.zeros_like(z), torch.exp(z.clamp(max=0)))


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda z: z, torch.ones_like, torch.zeros_like, torch.zeros_like),
    "tanh": Activation(
        torch.tanh,
        lambda z: 1.0 - torch.tanh(z) ** 2,
        _tanh_second,
        _tanh_third,
        lambda h: 1.0 - h * h,
        lambda h, slope: -2.0 * h * slope,
        lambda h, slope: 2.0 * slope * (2.0 * h * h - slope),
    ),
    "relu": Activation(
        torch.relu, lambda z: (z > 0).to(z.dtype), torch.zeros_like, torch.zeros_like, smooth=False
    ),
    "elu": Activation(
        F.elu,
        lambda z: torch.where(z >= 0, torch.ones_like(z), torch.exp(z.clamp(max=0))),
        _elu_bend,
        lambda z: _elu_bend(z) - _normal_density(z / _FALL) / _FALL,
        lambda h: (h + 1.0).clamp(max=1.0),
    ),
    "softplus": Activation(F.softplus, torch.sigmoid, _sigmoid_slope, _sigmoid_second),
    "swish": Activation(F.silu, _swish_derivative, _swish_second, _swish_third),
    "gelu": Activation(F.gelu, _gelu_derivative, _gelu_second, _gelu_third),
}
