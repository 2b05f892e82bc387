"""RMSprop (Tieleman and Hinton 2012), as `torch.optim.RMSprop` has it."""

from collections.abc import Mapping
from typing import Any

from sharpflow.models.base import Parameters
from sharpflow.optimisers.base import Division, Optimiser, SquaredGradients, State, over, slot


class RMSprop(Optimiser):
    """v⁺ = βv + (1 − β)g², θ⁺ = θ − ηg/(√v⁺ + ε), g = ∇L + γθ.

    In the metric P = √v + ε it is gradient descent: stable up to λ(P^-½ H P^-½) = 2/η (Cohen et
    al. 2022); weight decay is left out of the threshold.
    """

    slots = ("square",)

    def __init__(self, beta: float, epsilon: float, weight_decay: float, clip_norm: float | None):
        super().__init__(weight_decay, clip_norm)
        self.beta = beta
        self.epsilon = epsilon
        self.squared_gradients = SquaredGradients(beta, epsilon)

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        state: State,
        learning_rate: float,
        step: int,
    ) -> tuple[Parameters, State]:
        """Parameters and state after the step."""
        moved, new = {}, {}
        for name, tensor in parameters.items():
            gradient = gradients[name]
            square = (self.beta * state[f"square/{name}"]).addcmul_(
                gradient, gradient, value=1.0 - self.beta
            )
            new[f"square/{name}"] = square
            scale = square.sqrt().add_(self.epsilon)
            moved[name] = tensor.addcdiv(gradient, scale, value=-learning_rate)
        return moved, new

    def threshold(self, learning_rate: float, gradients: Parameters | None) -> float:
        """2/η, of the preconditioned Hessian."""
        return over(2.0, learning_rate)

    def preconditioner(self, state: State, step: int) -> Parameters | None:
        """√v + ε; None before the first step."""
        if step == 0:
            return None
        return {n: v.sqrt().add_(self.epsilon) for n, v in slot(state, "square").items()}

    def division(self, state: State, step: int) -> Division | None:
        """v, ε and β; None before the first step."""
        if step == 0:
            return None
        return Division(slot(state, "square"), self.epsilon, self.beta)


def build(options: Mapping[str, Any], weight_decay: float, clip_norm: float | None) -> RMSprop:
    """The rule of `{kind: rmsprop, beta, epsilon}`."""
    return RMSprop(options["beta"], options["epsilon"], weight_decay, clip_norm)
