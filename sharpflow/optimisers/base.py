"""What an update rule is: how its state starts and steps, its stability threshold, its metric."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sharpflow.models.base import Gradient, Parameters
from sharpflow.parts.loading import load_part

Rate = float | Tensor
"""A number for all runs, or one a run, (R,)."""
State = dict[str, Tensor]
"""Tensors of the parameters' shapes by `<slot>/<parameter>`."""


@dataclass(frozen=True)
class Step:
    """What a step gives.

    Attributes:
        parameters, state: after it.
        pass_: losses, gradients and buffers of the pass at the parameters before it.
        threshold: the stability threshold at the parameters before it, a number or (R,).
    """

    parameters: Parameters
    state: State
    pass_: Gradient
    threshold: Rate


@dataclass(frozen=True)
class SquaredGradients:
    """How a rule θ − ηg/(√v + ε) follows squared gradients, v ← βv + (1 − β)g².

    Attributes:
        beta: β.
        epsilon: ε.
    """

    beta: float
    epsilon: float


@dataclass(frozen=True)
class Division:
    """What a rule θ − ηm/(√v̂ + ε) divides its steps by.

    Attributes:
        squares: v̂, the running means of squared gradients, without their bias where the rule
            takes it out; by parameter.
        epsilon: ε.
        beta: the coefficient β₂ of the running means.
    """

    squares: Parameters
    epsilon: float
    beta: float


GradientFunction = Callable[[Parameters], Gradient]


class Optimiser(ABC):
    """An update rule for the trained parameters of R runs at once.

    Args:
        weight_decay: γ; added to the gradient as γθ, unless `decoupled`.
        clip_norm: largest norm of a run's gradient over all parameters; None for any.

    Attributes:
        slots: names of the state's tensors, one a parameter.
        response: how far, over η, all steps together move along one gradient, for a rule whose
            steps are fixed sums of gradients; None for others.
        decoupled: whether weight decay is applied by `update` itself.
        plain: whether a step is θ − η(∇L + γθ) and nothing else.
        rotation_invariant: whether the run is the same in any orthonormal basis.
        threshold_moves: whether the stability threshold depends on the gradient.
        squared_gradients: the running mean that makes its preconditioner, for a rule that is
            nothing else; None for other rules.
    """

    slots: tuple[str, ...] = ()
    response: float | None = None
    decoupled = False
    plain = False
    rotation_invariant = False
    threshold_moves = False
    squared_gradients: SquaredGradients | None = None

    def __init__(self, weight_decay: float = 0.0, clip_norm: float | None = None):
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm

    def initial(self, parameters: Parameters) -> State:
        """The state before the first step: zeros."""
        return {
            f"{slot}/{name}": torch.zeros_like(tensor)
            for slot in self.slots
            for name, tensor in parameters.items()
        }

    @abstractmethod
    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        state: State,
        learning_rate: Rate,
        step: int,
    ) -> tuple[Parameters, State]:
        """Parameters and state after step number `step` (0 is the first).

        Args:
            parameters: trained ones, each (R, …).
            gradients: of the same shapes.
            state: before the step.
            learning_rate: a number; or one a run, (R,), for a rule with that capability.
            step: its number.
        """

    def step(
        self,
        parameters: Parameters,
        state: State,
        gradient: GradientFunction,
        learning_rate: Rate,
        step: int,
    ) -> Step:
        """One step from `parameters`, which stay as they are."""
        found = gradient(parameters)
        moved = self.update(
            parameters, self.conditioned(parameters, found.gradients), state, learning_rate, step
        )
        return Step(*moved, found, self.threshold(learning_rate, found.gradients))

    def conditioned(self, parameters: Parameters, gradients: Parameters) -> Parameters:
        """The gradients as `update` gets them: clipped, then with weight decay."""
        if self.clip_norm is not None:
            scale = (self.clip_norm / (norm(gradients) + 1e-6)).clamp(max=1.0)
            gradients = {name: per_run(scale, g) * g for name, g in gradients.items()}
        if self.weight_decay and not self.decoupled:
            decay = self.weight_decay
            gradients = {n: g.add(parameters[n], alpha=decay) for n, g in gradients.items()}
        return gradients

    @abstractmethod
    def threshold(self, learning_rate: Rate, gradients: Parameters | None) -> Rate:
        """Largest eigenvalue of the loss's (preconditioned) Hessian at which steps are stable.

        Args:
            learning_rate: η of the step.
            gradients: at the parameters, for rules whose threshold depends on them.
        """

    def at_rest(self, parameters: Parameters, state: State, learning_rate: Rate) -> Parameters:
        """Where the trained parameters come to rest if no gradient is added any more.

        A step moves that point by −η · `response` times its gradient, for a rule that has one.

        Args:
            parameters: trained ones, of one run or of several.
            state: of the same step.
            learning_rate: η, a number, or one a run, (R,).
        """
        return parameters

    def preconditioner(self, state: State, step: int) -> Parameters | None:
        """The positive diagonal P in whose metric the rule is gradient descent, by parameter.

        The curvature that compares with the threshold is that of P^-½ H P^-½. Empty where P is the
        identity, None before the first step of a rule that learns it.
        """
        return {}

    def division(self, state: State, step: int) -> Division | None:
        """What the last step was divided by, for a rule with the capability `squared gradients`.

        None for other rules, and before the first step.
        """
        return None


def norm(tensors: Mapping[str, Tensor]) -> Tensor:
    """Norm of each run's tensors taken together, (R,)."""
    squares = [t.square().reshape(len(t), -1).sum(1) for t in tensors.values()]
    return torch.stack(squares).sum(0).sqrt()


def per_run(factors: Tensor, like: Tensor) -> Tensor:
    """Factors (R,) in a shape that multiplies a tensor (R, ...)."""
    return factors.view(-1, *[1] * (like.ndim - 1))


def descended(tensor: Tensor, direction: Tensor, learning_rate: Rate) -> Tensor:
    """θ − ηd of tensors (R, …), η a number or one a run, (R,)."""
    if isinstance(learning_rate, Tensor):
        return tensor - per_run(learning_rate.to(tensor), tensor) * direction
    return tensor.sub(direction, alpha=learning_rate)


def over(number: float, learning_rate: Any) -> Any:
    """number/η, of the type of η; infinite at the end of a schedule that goes to 0."""
    if isinstance(learning_rate, Tensor):
        return number / learning_rate
    return number / learning_rate if learning_rate else float("inf")


def slot(state: State, name: str) -> Parameters:
    """One slot of a state, by parameter."""
    prefix = f"{name}/"
    return {key.removeprefix(prefix): t for key, t in state.items() if key.startswith(prefix)}


def build(
    options: Mapping[str, Any], weight_decay: float = 0.0, clip_norm: float | None = None
) -> Optimiser:
    """The update rule that the `optimiser` part of an experiment describes.

    `options["kind"]` names the part whose `build(options, weight_decay, clip_norm)` makes it.
    """
    return load_part("optimisers", options).build(options, weight_decay, clip_norm)
