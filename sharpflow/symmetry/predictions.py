"""What the theory of `ziyin2024` predicts for the experiments, in closed form."""

import torch
from torch import Tensor

from sharpflow.arguments import check_count, check_not_negative, check_positive
from sharpflow.symmetry._checks import check_shape
from sharpflow.symmetry.equilibrium import noise_equilibrium, plain_balance, stationary_gammas
from sharpflow.symmetry.two_layer import hessian_trace


def gaussian_equilibrium(
    teacher: Tensor, sigma_x: Tensor, sigma_noise: Tensor, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """(U, W) at which SGD settles for x ~ N(0, Σ_x), y = V x + ε: UW = V, noise in equilibrium.

    Args:
        teacher: V, (d2, d0).
        sigma_x: Σ_x, the covariance of x, (d0, d0).
        sigma_noise: Σ_ε, the covariance of ε, (d2, d2).
        width: d ≥ rank V; rank V by default.

    Raises:
        ValueError: as `noise_equilibrium`; with sigma_noise = 0 there is no noise at the minimum
            and hence no equilibrium to approach.
    """
    if not bool(sigma_noise.any()):
        raise ValueError("sigma_noise must not be zero: without label noise nothing moves a charge")
    return noise_equilibrium(teacher, *stationary_gammas(sigma_x, sigma_noise), width=width)


def equilibrium_hessian_trace(teacher: Tensor, sigma_x: Tensor, sigma_noise: Tensor) -> Tensor:
    """Tr H of the population loss at `gaussian_equilibrium`, a scalar."""
    return hessian_trace(*gaussian_equilibrium(teacher, sigma_x, sigma_noise), sigma_x)


def sharpening_ratio(teacher: Tensor, sigma_x: Tensor, sigma_noise: Tensor) -> Tensor:
    """Tr H at the noise equilibrium over Tr H of the plainly balanced factors of the same V.

    Above 1, SGD that starts from exact balance (Uᵀ U = W Wᵀ) sharpens; below, it flattens. From
    other starts the sign may differ.
    """
    start = hessian_trace(*plain_balance(teacher), sigma_x)
    return equilibrium_hessian_trace(teacher, sigma_x, sigma_noise) / start


def norm_ratio(
    x_std: Tensor,
    noise_std: Tensor | None = None,
    teacher: Tensor | None = None,
    decay_shift: float = 0.0,
) -> Tensor:
    """‖U‖²/‖W‖² at the noise equilibrium of diagonal data (`ziyin2024`, figure 3).

    For teacher diag(m), input stds aᵢ and noise stds eᵢ the factors stay diagonal with
    uᵢ²/wᵢ² = (Tr[Σ_ε] aᵢ² + κ)/(Tr[Σ_x] eᵢ² + κ) and uᵢ wᵢ = mᵢ. With m = e = 1 and κ = 0 the
    ratio is (d2/Tr[Σ_x]) Σaᵢ/Σ(1/aᵢ).

    Args:
        x_std: a, (..., k), positive.
        noise_std: e, (..., k), positive; ones by default.
        teacher: m, (..., k), not all zero; ones by default.
        decay_shift: κ of `weight_decay_shift`.

    Returns:
        Shape (...).

    Raises:
        ValueError: a standard deviation is not positive, or decay_shift is negative.
    """
    noise_std = torch.ones_like(x_std) if noise_std is None else noise_std
    teacher = torch.ones_like(x_std) if teacher is None else teacher
    for name, value in (("x_std", x_std), ("noise_std", noise_std)):
        if not bool((value > 0).all()):
            raise ValueError(f"{name} must be positive everywhere; its minimum is {value.min()}")
    check_not_negative("decay_shift", decay_shift)
    x_variance, noise_variance = x_std.square(), noise_std.square()
    gamma_u = x_variance.sum(-1, keepdim=True) * noise_variance + decay_shift
    gamma_w = noise_variance.sum(-1, keepdim=True) * x_variance + decay_shift
    ratio = (gamma_w / gamma_u).sqrt()
    return (teacher.abs() * ratio).sum(-1) / (teacher.abs() / ratio).sum(-1)


def weight_decay_shift(weight_decay: float, learning_rate: float, batch_size: int) -> float:
    """κ such that weight decay acts as Γ_U + κI and Γ_W + κI in the noise equilibrium.

    For θ ← (1 − ηγ) θ − ηg the charge decays by (1 − ηγ)² a step, so the noise has to balance
    Tr[Σ Q] = S γ (2/η − γ) C and κ = S γ (2/η − γ)/4. Plain balance is the limit of large κ. The
    shrinking of V = U W itself, of order γ, is left out.

    Raises:
        ValueError: weight_decay is negative or ηγ ≥ 2, or another argument is not positive.
    """
    check_positive("learning_rate", learning_rate)
    check_count("batch_size", batch_size)
    if not 0 <= weight_decay < 2 / learning_rate:
        raise ValueError(
            f"weight_decay must be in [0, 2/learning_rate = {2 / learning_rate:g}); "
            f"got {weight_decay!r}"
        )
    return batch_size * weight_decay * (2 / learning_rate - weight_decay) / 4


def convergence_rate(
    inputs: int,
    learning_rate: float,
    batch_size: int,
    x_variance: float = 1.0,
    noise_variance: float = 1.0,
) -> float:
    """Rate a step, 4kη²/S · Var(x) Var(ε), of the decay of Uᵀ U − W Wᵀ (`ziyin2024`, figure 8).

    For k inputs and as many outputs with isotropic data and noise, near the minimum: Γ_U = Γ_W =
    k Var(x) Var(ε) I, so C is multiplied by 1 − rate each step, whatever the width. The drift
    η² ∇Lᵀ Q ∇L of discrete time adds a correction of relative order η.

    Args:
        inputs: k.
        learning_rate: η.
        batch_size: S.
        x_variance: Var(x) of each coordinate.
        noise_variance: Var(ε) of each coordinate.

    Raises:
        ValueError: a number is not positive.
    """
    check_count("inputs", inputs)
    check_count("batch_size", batch_size)
    for name, value in (
        ("learning_rate", learning_rate),
        ("x_variance", x_variance),
        ("noise_variance", noise_variance),
    ):
        check_positive(name, value)
    return 4 * inputs * learning_rate**2 * x_variance * noise_variance / batch_size


def scale_invariant_radius(
    steps: Tensor,
    learning_rate: float,
    unit_noise: float,
    batch_size: int = 1,
    initial_radius: float = 1.0,
) -> Tensor:
    """‖θ‖ after `steps` of SGD on a scale-invariant loss: (r₀⁴ + 2η² Tr[Σ₁] k/S)^¼.

    Scale invariance makes Tr[Σ] = Tr[Σ₁]/‖θ‖², and each step adds η² Tr[Σ]/S to ‖θ‖². Hence
    ‖θ‖² ~ k^½. The drift η²‖∇L‖² is left out: the run starts near the minimum.

    Args:
        steps: numbers of steps k, any shape.
        learning_rate: η.
        unit_noise: Tr[Σ₁], the trace of the gradient covariance at radius one; `toy_unit_noise`
            for the loss of figure 1, which gives (1 + 8η²σ²T)^¼.
        batch_size: S.
        initial_radius: r₀.

    Raises:
        ValueError: a number is not positive.
    """
    check_count("batch_size", batch_size)
    for name, value in (
        ("learning_rate", learning_rate),
        ("unit_noise", unit_noise),
        ("initial_radius", initial_radius),
    ):
        check_positive(name, value)
    growth = 2 * learning_rate**2 * unit_noise / batch_size
    return (initial_radius**4 + growth * torch.as_tensor(steps, dtype=torch.float64)) ** 0.25


def toy_unit_noise(noise_std: float) -> float:
    """Tr[Σ₁] = 4σ² of ℓ = (θ̂·x − y)², x ~ N(0, I₂), y = x₁ + σε, at its minimum θ̂ = (1, 0)."""
    check_positive("noise_std", noise_std)
    return 4 * noise_std**2


def unweighted_gammas(gamma_u: Tensor, gamma_w: Tensor) -> tuple[Tensor, Tensor]:
    """Isotropic Γ of the same traces: the plain balance, to hold the weighted one against.

    Returns:
        (Tr[Γ_U]/d2 · I, Tr[Γ_W]/d0 · I), the shapes of the arguments.
    """
    isotropic = []
    for name, gamma in (("gamma_u", gamma_u), ("gamma_w", gamma_w)):
        size = gamma.shape[-1]
        check_shape(name, gamma, size, size)
        mean = gamma.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        isotropic.append(mean * torch.eye(size, dtype=gamma.dtype, device=gamma.device))
    return isotropic[0], isotropic[1]
