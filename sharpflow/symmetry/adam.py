"""The noise equilibrium of Adam: how gradient noise moves a rescaling symmetry in Adam's metric.

Adam divides by D = √v̂ + ε, v̂ its running mean of squared gradients. At fixed D the charge
C_D = Σ_outer Dθ² − Σ_inner Dθ² of a unit changes by η² (R_outer − R_inner) a step, R = Σ E[ĝ²]/D,
whatever β₁: where ε is small, what balances is Σ√E[ĝ²], and not ΣE[ĝ²] as under SGD. Derived in
docs/background/adam_equilibrium.md.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpflow.arguments import check_count, check_not_negative, check_positive
from sharpflow.symmetry.generators import Params
from sharpflow.symmetry.shared_units import Symmetry


@dataclass(frozen=True)
class AdamSums:
    """What moves each unit of a symmetry under Adam; every tensor is (..., units).

    Attributes:
        outer: R of the parameters that read the unit, Σ E[ĝ²]/D.
        inner: R of those that make it.
        charge: C_D, Σ Dθ² of the outer ones less that of the inner ones.
        plain_charge: the same without D.
        plain_size: Σ θ² of both.
        noise: R of both.
        size: Σ Dθ² of both.
        adaptive_noise: Σ E[ĝ²] √v̂/D² of both: R, where ε is small, and 0 where it is large.
        adaptive_size: Σ √v̂ θ² of both.

    Of a symmetry of degree k outer ones count k times, and k² times in the last four.
    """

    outer: Tensor
    inner: Tensor
    charge: Tensor
    plain_charge: Tensor
    plain_size: Tensor
    noise: Tensor
    size: Tensor
    adaptive_noise: Tensor
    adaptive_size: Tensor

    @property
    def imbalance(self) -> Tensor:
        """(R_outer − R_inner)/(R_outer + R_inner), in [−1, 1]; NaN for a unit without noise."""
        return (self.outer - self.inner) / (self.outer + self.inner)


def adam_squares(squares: Params, beta2: float, step: int) -> dict[str, Tensor]:
    """v̂: the running means v of squared gradients after `step` steps, without their bias to 0.

    Args:
        squares: v by parameter.
        beta2: β₂.
        step: number of steps taken.

    Raises:
        ValueError: β₂ is not in [0, 1), or no step has been taken.
    """
    _check_beta(beta2)
    check_count("step", step)  # v is 0 before the first
    return {name: square / (1.0 - beta2**step) for name, square in squares.items()}


def adam_sums(
    symmetry: Symmetry,
    params: Params,
    squares: Params,
    epsilon: float = 0.0,
    noise: Params | None = None,
) -> AdamSums:
    """The sums of a symmetry's units in Adam's metric D = √v̂ + ε.

    Of a rotation, Adam keeps the rescaling of each unit alone, and so do the sums.

    Args:
        symmetry: whose units.
        params: θ by parameter, (..., *shape).
        squares: v̂ by parameter, of the same shapes, as `adam_squares` gives it.
        epsilon: ε.
        noise: E[ĝ²] of batch gradients by parameter; v̂ by default, which is its running mean.

    Raises:
        ValueError: ε is negative, or a square is.
    """
    check_not_negative("epsilon", epsilon)
    roots = {name: _root(name, squares[name]) for name in symmetry.parameters}
    metric = {name: root + epsilon for name, root in roots.items()}
    power = squares if noise is None else noise
    share = {name: _over(power[name], metric[name]) for name in roots}
    weight = {name: metric[name] * params[name].square() for name in roots}
    adaptive = {name: _over(share[name] * roots[name], metric[name]) for name in roots}
    adaptive_weight = {name: roots[name] * params[name].square() for name in roots}
    plain = {name: params[name].square() for name in roots}

    def both(values: Params) -> Tensor:
        of_outer, of_inner = symmetry.sums(values)
        return symmetry.degree * of_outer + of_inner

    outer, inner = symmetry.sums(share)
    heavy, light = symmetry.sums(weight)
    above, below = symmetry.sums(plain)
    return AdamSums(
        outer,
        inner,
        heavy - light,
        above - below,
        above + below,
        both(share),
        both(weight),
        both(adaptive),
        both(adaptive_weight),
    )


def adam_charge_step(sums: AdamSums, learning_rate: float, weight_decay: float = 0.0) -> Tensor:
    """E[Δθ²] of a step, outer less inner and weighed by D: the step of C_D while v̂ stands.

    η² (R_outer − R_inner) − ηγ(2 − ηγ) C_D, with the decoupled decay γ of AdamW. Where v̂ follows
    the weights, C_D itself moves half as much without decay, for D falls as θ rises.

    Raises:
        ValueError: η is not positive, or γ is negative.
    """
    _check_rates(learning_rate, weight_decay)
    kept = learning_rate * weight_decay
    return learning_rate**2 * (sums.outer - sums.inner) - kept * (2.0 - kept) * sums.charge


def adam_equilibrium_charge(
    sums: AdamSums, learning_rate: float, weight_decay: float, decoupled: bool = True
) -> Tensor:
    """The charge at which weight decay and noise balance: η (R_outer − R_inner)/(2γ).

    Of C_D under AdamW (then 2γ is γ(2 − ηγ)); of the plain charge where the decay is added to the
    gradient, for then Adam divides it by D as well.

    Args:
        sums: of the state, averaged over time.
        learning_rate: η.
        weight_decay: γ > 0.
        decoupled: whether the decay is AdamW's.

    Raises:
        ValueError: η or γ is not positive.
    """
    check_positive("learning_rate", learning_rate)
    check_positive("weight_decay", weight_decay)
    pull = weight_decay * (2.0 - learning_rate * weight_decay if decoupled else 2.0)
    return learning_rate / pull * (sums.outer - sums.inner)


def adam_relaxation_steps(
    sums: AdamSums, learning_rate: float, beta2: float, weight_decay: float = 0.0
) -> Tensor:
    """Steps in which a small displacement λ along the orbit falls by e, near the equilibrium.

    λ′ = −2aλ + bμ and μ′ = (1 − β₂)(λ − μ), with μ the displacement that v̂ remembers,
    a = η² (R_outer + R_inner)/(2N) + ηγ and b = η² Σ(E[ĝ²]√v̂/D²)/(2N) + ηγ Σ√v̂θ²/N, N = Σ Dθ².
    Small ε and no decay give 2N/(η²R) where that is far more than 1/(1 − β₂), whatever the batch
    size and β₁.

    Raises:
        ValueError: η is not positive, γ is negative, or β₂ is not in [0, 1).
    """
    _check_rates(learning_rate, weight_decay)
    _check_beta(beta2)
    pull = learning_rate * weight_decay
    half = learning_rate**2 / (2.0 * sums.size)
    direct = half * sums.noise + pull
    remembered = half * sums.adaptive_noise + pull * sums.adaptive_size / sums.size
    memory = 1.0 - beta2
    trace, determinant = 2.0 * direct + memory, memory * (2.0 * direct - remembered)
    gap = (trace.square() - 4.0 * determinant).clamp(min=0.0).sqrt()
    return (trace + gap) / (2.0 * determinant)


def _root(name: str, square: Tensor) -> Tensor:
    if bool((square < 0).any()):
        raise ValueError(f"squares must not be negative; those of {name} are")
    return square.sqrt()


def _over(power: Tensor, metric: Tensor) -> Tensor:
    """power/metric, and 0 where there has never been a gradient."""
    return torch.where(metric > 0, power / metric, torch.zeros_like(power))


def _check_beta(beta2: float) -> None:
    if not 0 <= beta2 < 1:
        raise ValueError(f"beta2 must be in [0, 1); got {beta2!r}")


def _check_rates(learning_rate: float, weight_decay: float) -> None:
    check_positive("learning_rate", learning_rate)
    check_not_negative("weight_decay", weight_decay)
