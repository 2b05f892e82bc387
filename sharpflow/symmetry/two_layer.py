"""Closed forms of the two-layer linear net ŷ = U W x with ℓ = ‖U W x − y‖² (`ziyin2024`).

Shapes: U (..., d2, d), W (..., d, d0), inputs (..., n, d0), targets (..., n, d2); the leading
dimensions are runs. Γ_U = E[‖x‖² r rᵀ] and Γ_W = E[‖r‖² x xᵀ], with r = U W x − y, are second
moments: 4 (W Γ_W Wᵀ − Uᵀ Γ_U U) is the second moment of the gradient against the matrix symmetry,
which is its covariance at a stationary point of the loss.

Functions that are read along a trajectory let NaN through: a diverged run is data.
"""

import torch
from torch import Tensor

from sharpflow.symmetry._checks import check_covariance, check_factors, check_shape, check_symmetric
from sharpflow.symmetry.noether import NoiseTrace


def residual_gammas(inputs: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
    """(Γ_U, Γ_W) from samples of the inputs and residuals of any net.

    Args:
        inputs: x, (..., n, d0).
        residuals: r = f(x) − y, (..., n, d2).

    Returns:
        Γ_U = mean ‖x‖² r rᵀ, (..., d2, d2), and Γ_W = mean ‖r‖² x xᵀ, (..., d0, d0).

    Raises:
        ValueError: the numbers of samples differ or are zero.
    """
    if inputs.ndim < 2 or residuals.ndim < 2 or inputs.shape[-2] != residuals.shape[-2]:
        raise ValueError(
            "inputs and targets must be (..., n, d0) and (..., n, d2) with one number n of "
            f"samples; got shapes {tuple(inputs.shape)} and {tuple(residuals.shape)}"
        )
    count = inputs.shape[-2]
    if count == 0:
        raise ValueError("inputs must hold at least one sample; they hold none")
    x_squared = inputs.square().sum(-1, keepdim=True)
    r_squared = residuals.square().sum(-1, keepdim=True)
    gamma_u = (residuals * x_squared).mT @ residuals / count
    gamma_w = (inputs * r_squared).mT @ inputs / count
    return (gamma_u + gamma_u.mT) / 2, (gamma_w + gamma_w.mT) / 2


def gammas(u: Tensor, w: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(Γ_U, Γ_W) of the two-layer linear net from samples; see `residual_gammas`.

    Raises:
        ValueError: a shape does not fit.
    """
    check_factors(u, w)
    check_shape("inputs", inputs, inputs.shape[-2] if inputs.ndim > 1 else 0, w.shape[-1])
    check_shape("targets", targets, inputs.shape[-2], u.shape[-2])
    return residual_gammas(inputs, inputs @ w.mT @ u.mT - targets)


def gaussian_gammas(
    u: Tensor, w: Tensor, teacher: Tensor, sigma_x: Tensor, sigma_noise: Tensor
) -> tuple[Tensor, Tensor]:
    """(Γ_U, Γ_W) in closed form for x ~ N(0, Σ_x), y = V x + ε, ε ~ N(0, Σ_ε).

    With D = U W − V, Isserlis' theorem gives
    Γ_U = D (Tr[Σ_x] Σ_x + 2 Σ_x²) Dᵀ + Tr[Σ_x] Σ_ε and
    Γ_W = (Tr[D Σ_x Dᵀ] + Tr[Σ_ε]) Σ_x + 2 Σ_x Dᵀ D Σ_x.

    Args:
        u: U, (..., d2, d).
        w: W, (..., d, d0).
        teacher: V, (d2, d0).
        sigma_x: Σ_x, (d0, d0).
        sigma_noise: Σ_ε, (d2, d2).

    Returns:
        (..., d2, d2) and (..., d0, d0).

    Raises:
        ValueError: a shape does not fit, or a covariance is not symmetric positive semi-definite.
    """
    check_factors(u, w)
    check_shape("teacher", teacher, u.shape[-2], w.shape[-1])
    check_covariance("sigma_x", sigma_x, w.shape[-1])
    check_covariance("sigma_noise", sigma_noise, u.shape[-2])
    excess = u @ w - teacher
    fourth = matrix_traces(sigma_x) * sigma_x + 2 * sigma_x @ sigma_x
    gamma_u = excess @ fourth @ excess.mT + matrix_traces(sigma_x) * sigma_noise
    seen = excess @ sigma_x
    variance = (seen * excess).sum((-2, -1))[..., None, None] + matrix_traces(sigma_noise)
    gamma_w = variance * sigma_x + 2 * seen.mT @ seen
    return gamma_u, gamma_w


def population_loss(
    u: Tensor, w: Tensor, teacher: Tensor, sigma_x: Tensor, sigma_noise: Tensor
) -> Tensor:
    """L = E‖U W x − y‖² = Tr[D Σ_x Dᵀ] + Tr[Σ_ε], D = U W − V; shape (...)."""
    excess = u @ w - teacher
    return ((excess @ sigma_x) * excess).sum((-2, -1)) + matrix_traces(sigma_noise)[..., 0, 0]


def population_gradient(
    u: Tensor, w: Tensor, teacher: Tensor, sigma_x: Tensor
) -> tuple[Tensor, Tensor]:
    """(∂L/∂U, ∂L/∂W) = (2 D Σ_x Wᵀ, 2 Uᵀ D Σ_x), the shapes of U and W."""
    seen = (u @ w - teacher) @ sigma_x
    return 2 * seen @ w.mT, 2 * u.mT @ seen


def weighted_grams(u: Tensor, w: Tensor, gamma_u: Tensor, gamma_w: Tensor) -> tuple[Tensor, Tensor]:
    """(Uᵀ Γ_U U, W Γ_W Wᵀ), each (..., d, d): equal at the noise equilibrium.

    Raises:
        ValueError: a shape does not fit.
    """
    check_factors(u, w)
    check_shape("gamma_u", gamma_u, u.shape[-2], u.shape[-2])
    check_shape("gamma_w", gamma_w, w.shape[-1], w.shape[-1])
    return u.mT @ gamma_u @ u, w @ gamma_w @ w.mT


def noise_imbalance(u: Tensor, w: Tensor, gamma_u: Tensor, gamma_w: Tensor) -> Tensor:
    """Relative imbalance ‖A − B‖/(‖A‖ + ‖B‖) of A = Uᵀ Γ_U U and B = W Γ_W Wᵀ.

    Γ are second moments, so away from a stationary point this is the imbalance of the second
    moment of the gradient and not of its covariance.

    Returns:
        Shape (...), in [0, 1]: 0 at the noise equilibrium, and where both matrices vanish.

    Raises:
        ValueError: a shape does not fit.
    """
    left, right = weighted_grams(u, w, gamma_u, gamma_w)
    size = _norm(left) + _norm(right)
    return _norm(left - right) / torch.where(size == 0, torch.ones_like(size), size)


def alignment(a: Tensor, b: Tensor) -> Tensor:
    """Cosine Tr[Aᵀ B]/(‖A‖ ‖B‖) of two matrices, shape (...); 0 where one of them vanishes.

    Raises:
        ValueError: the matrices differ in shape.
    """
    check_shape("b", b, *a.shape[-2:])
    size = _norm(a) * _norm(b)
    return (a * b).sum((-2, -1)) / torch.where(size == 0, torch.ones_like(size), size)


def two_layer_noise_trace(
    u: Tensor,
    w: Tensor,
    gamma_u: Tensor,
    gamma_w: Tensor,
    gradient: tuple[Tensor, Tensor],
    a: Tensor | None = None,
) -> NoiseTrace:
    """Tr[Σ Q] and ∇Lᵀ Q ∇L of the matrix symmetry U → U e^{λA}, W → e^{−λA} W.

    Args:
        u: U, (..., d2, d).
        w: W, (..., d, d0).
        gamma_u: Γ_U at u and w, a second moment, (..., d2, d2).
        gamma_w: Γ_W at u and w, a second moment, (..., d0, d0).
        gradient: (∂L/∂U, ∂L/∂W), from `population_gradient` or from data.
        a: symmetric (d, d); the identity (rescaling) by default.

    Returns:
        A `NoiseTrace` of shape (...): 4 Tr[A (W Γ_W Wᵀ − Uᵀ Γ_U U)] is the second moment, from
        which the gradient's part is taken away.

    Raises:
        ValueError: a shape does not fit or a is not symmetric.
    """
    gram_u, gram_w = weighted_grams(u, w, gamma_u, gamma_w)
    gradient_u, gradient_w = gradient
    check_shape("gradient[0]", gradient_u, *u.shape[-2:])
    check_shape("gradient[1]", gradient_w, *w.shape[-2:])
    if a is None:
        a = torch.eye(u.shape[-1], dtype=u.dtype, device=u.device)
    check_symmetric("a", a)
    check_shape("a", a, u.shape[-1], u.shape[-1])
    second = 4 * ((gram_w - gram_u) * a).sum((-2, -1))
    drift = ((gradient_u.mT @ gradient_u - gradient_w @ gradient_w.mT) * a).sum((-2, -1))
    return NoiseTrace(second - drift, drift)


def hessian_trace(u: Tensor, w: Tensor, sigma_x: Tensor) -> Tensor:
    """Tr H = 2 (‖U‖² Tr[Σ_x] + d2 Tr[W Σ_x Wᵀ]) of the population loss, shape (...).

    Exact at every U and W; it depends on the data through Σ_x = E[x xᵀ] alone, so with Σ_x a second
    moment of samples it is the trace for the mean loss on them.

    Raises:
        ValueError: a shape does not fit, or sigma_x is not symmetric positive semi-definite.
    """
    check_factors(u, w)
    check_covariance("sigma_x", sigma_x, w.shape[-1])
    outer = u.square().sum((-2, -1)) * matrix_traces(sigma_x)[..., 0, 0]
    inner = ((w @ sigma_x) * w).sum((-2, -1))
    return 2 * (outer + u.shape[-2] * inner)


def matrix_traces(matrix: Tensor) -> Tensor:
    """Traces of matrices (..., d, d), as (..., 1, 1)."""
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]


def _norm(matrix: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrix)
