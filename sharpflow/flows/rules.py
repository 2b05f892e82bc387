"""Update rules in continuous time: a preconditioner, and how what it is made of moves.

A step is w⁺ = w − P(ν)⁻¹ ∇L(w), with the learning rate in P. Source: Cohen, Damian, Talwalkar,
Kolter and Lee 2024, "Understanding Optimization in Deep Learning with Central Flows".
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpflow.arguments import as_number
from sharpflow.errors import FlowError


class Rule(ABC):
    """A rule w⁺ = w − P(ν)⁻¹ ∇L(w) with ν following squared gradients; ν may be empty.

    ν has the shape that `square` gives, and dν/dt = c(t) (E[∇L ∘ ∇L] − ν), where ∘ is `square`.

    Attributes:
        learning_rate: η.
    """

    learning_rate: float

    @abstractmethod
    def square(self, first: Tensor, second: Tensor) -> Tensor:
        """The part of first ∘ second that ν follows, over the last dimension (…, p)."""

    @abstractmethod
    def begin(self, gradient: Tensor) -> Tensor:
        """ν after the first step's gradient, (p,)."""

    @abstractmethod
    def metric(self, average: Tensor) -> Tensor:
        """P(ν), a number or (p,)."""

    @abstractmethod
    def slope(self, average: Tensor) -> Tensor:
        """dP/dν, entry by entry, of ν's shape."""

    @abstractmethod
    def pace(self, time: float) -> float:
        """C at a time in steps."""


@dataclass(frozen=True)
class GradientDescent(Rule):
    """Gradient descent, w⁺ = w − η ∇L(w): P = 1/η.

    Args:
        learning_rate: η.

    Raises:
        FlowError: η is not positive.
    """

    learning_rate: float

    def __post_init__(self) -> None:
        check_positive("flow: the learning rate", self.learning_rate)
        object.__setattr__(self, "learning_rate", as_number(self.learning_rate))

    def square(self, first: Tensor, second: Tensor) -> Tensor:
        """Nothing, (…, 0)."""
        return first[..., :0] * second[..., :0]

    def begin(self, gradient: Tensor) -> Tensor:
        """Nothing, (0,)."""
        return gradient.double()[:0]

    def metric(self, average: Tensor) -> Tensor:
        """1/η."""
        return torch.tensor(1.0 / self.learning_rate, dtype=average.dtype, device=average.device)

    def slope(self, average: Tensor) -> Tensor:
        """Nothing, (0,)."""
        return torch.zeros_like(average)

    def pace(self, time: float) -> float:
        """0."""
        return 0.0


@dataclass(frozen=True)
class RMSprop(Rule):
    """RMSprop, ν⁺ = β ν + (1 − β) ∇L², w⁺ = w − η ∇L/(√ν⁺ + ε): P = (√ν + ε)/η.

    With bias correction ν stands for ν/(1 − βᵗ) after t steps. Since the step uses ν⁺, which has
    its own gradient in it, dν/dt is (1 − β)/β (∇L² − ν), as in the source.

    Args:
        learning_rate: η.
        beta: β.
        epsilon: ε.
        bias_correction: whether ν is divided by 1 − βᵗ.
        scalar: whether one number is kept, the mean of ‖∇L‖² (scalar RMSprop), and not one a
            parameter.

    Raises:
        FlowError: η is not positive, β not between 0 and 1, or ε negative.
    """

    learning_rate: float
    beta: float = 0.99
    epsilon: float = 0.0
    bias_correction: bool = False
    scalar: bool = False

    def __post_init__(self) -> None:
        check_positive("flow: the learning rate", self.learning_rate)
        if not 0 < as_number(self.beta) < 1:
            raise FlowError(
                f"flow of RMSprop: beta is {self.beta!r}; the flow needs a running mean of squared "
                "gradients, so beta must lie between 0 and 1."
            )
        if not 0 <= as_number(self.epsilon) < math.inf:
            raise FlowError(
                f"flow of RMSprop: epsilon is {self.epsilon!r}; it must be a number from 0 on."
            )
        for name in ("learning_rate", "beta", "epsilon"):
            object.__setattr__(self, name, as_number(getattr(self, name)))

    def square(self, first: Tensor, second: Tensor) -> Tensor:
        """The products, (…, p); for scalar RMSprop their sum, (…, 1)."""
        product = first * second
        return product.sum(-1, keepdim=True) if self.scalar else product

    def begin(self, gradient: Tensor) -> Tensor:
        """(1 − β) ∇L², or ∇L² with bias correction."""
        square = self.square(gradient.double(), gradient.double())
        return square if self.bias_correction else (1 - self.beta) * square

    def metric(self, average: Tensor) -> Tensor:
        """(√ν + ε)/η, (p,) or (1,)."""
        return (average.clamp(min=0).sqrt() + self.epsilon) / self.learning_rate

    def slope(self, average: Tensor) -> Tensor:
        """1/(2 η √ν)."""
        tiny = torch.finfo(average.dtype).tiny
        return 0.5 / (self.learning_rate * average.clamp(min=tiny).sqrt())

    def pace(self, time: float) -> float:
        """(1 − β)/β, over 1 − β^(t + 1) with bias correction."""
        pace = (1 - self.beta) / self.beta
        return pace / (1 - self.beta ** (time + 1)) if self.bias_correction else pace


def check_positive(what: str, value: float) -> None:
    """Raise FlowError for what is no positive, finite number."""
    if not 0 < as_number(value) < math.inf:
        raise FlowError(f"{what} is {value!r}; it must be positive.")
