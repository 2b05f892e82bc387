"""Adam (Kingma and Ba 2015), as `torch.optim.Adam` has it."""

from collections.abc import Mapping
from typing import Any

from sharpflow.models.base import Parameters
from sharpflow.optimisers.base import Division, Optimiser, State, over, slot


class Adam(Optimiser):
    """m⁺ = β₁m + (1 − β₁)g, v⁺ = β₂v + (1 − β₂)g², θ⁺ = θ − η m̂/(√v̂ + ε), g = ∇L + γθ.

    m̂ and v̂ are m⁺/(1 − β₁ᵗ) and v⁺/(1 − β₂ᵗ), or m⁺ and v⁺ without bias correction. In the metric
    P = √v + ε, or (1 − β₁ᵗ)(√(v/(1 − β₂ᵗ)) + ε), it is a heavy ball that averages: stable up to
    λ(P^-½ H P^-½) = (2 + 2β₁)/((1 − β₁)η), which is 38/η at β₁ = 0.9 (Cohen et al. 2022); weight
    decay is left out of the threshold.
    """

    slots = ("mean", "square")

    def __init__(self, options: Mapping[str, Any], weight_decay: float, clip_norm: float | None):
        super().__init__(weight_decay, clip_norm)
        self.betas: tuple[float, float] = options["beta1"], options["beta2"]
        self.epsilon: float = options["epsilon"]
        self.bias_correction: bool = options["bias_correction"]

    def _corrections(self, steps: int) -> tuple[float, float]:
        """1 − β₁ᵗ and 1 − β₂ᵗ after t steps; 1 without bias correction."""
        if not self.bias_correction:
            return 1.0, 1.0
        first, second = self.betas
        return 1.0 - first**steps, 1.0 - second**steps

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        state: State,
        learning_rate: float,
        step: int,
    ) -> tuple[Parameters, State]:
        """Parameters and state after the step."""
        first, second = self.betas
        of_mean, of_square = self._corrections(step + 1)
        moved, new = {}, {}
        for name, tensor in parameters.items():
            gradient = gradients[name]
            mean = state[f"mean/{name}"].lerp(gradient, 1.0 - first)
            square = (second * state[f"square/{name}"]).addcmul_(
                gradient, gradient, value=1.0 - second
            )
            new |= {f"mean/{name}": mean, f"square/{name}": square}
            scale = (square / of_square).sqrt_().add_(self.epsilon)
            moved[name] = tensor.addcdiv(mean, scale, value=-learning_rate / of_mean)
        return moved, new

    def threshold(self, learning_rate: float, gradients: Parameters | None) -> float:
        """(2 + 2β₁)/((1 − β₁)η), of the preconditioned Hessian."""
        beta = self.betas[0]
        return over((2.0 + 2.0 * beta) / (1.0 - beta), learning_rate)

    def preconditioner(self, state: State, step: int) -> Parameters | None:
        """P as above, by parameter; None before the first step."""
        if step == 0:
            return None
        of_mean, of_square = self._corrections(step)
        return {
            name: of_mean * ((square / of_square).sqrt_().add_(self.epsilon))
            for name, square in slot(state, "square").items()
        }

    def division(self, state: State, step: int) -> Division | None:
        """v̂, ε and β₂; None before the first step."""
        if step == 0:
            return None
        correction = self._corrections(step)[1]
        squares = {n: square / correction for n, square in slot(state, "square").items()}
        return Division(squares, self.epsilon, self.betas[1])


def build(options: Mapping[str, Any], weight_decay: float, clip_norm: float | None) -> Adam:
    """The rule of `{kind: adam, beta1, beta2, epsilon, bias_correction}`."""
    return Adam(options, weight_decay, clip_norm)
