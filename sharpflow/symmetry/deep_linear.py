"""The noise equilibrium of deep linear nets ŷ = W_L ⋯ W_1 x with ℓ = ‖ŷ − y‖², in closed form.

Weights are listed from the input on: W_i is (..., d_i, d_{i−1}), leading dimensions are runs.
Derivation: docs/background/theory.md, section 6.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from sharpflow.arguments import check_count
from sharpflow.symmetry._checks import check_covariance, check_shape
from sharpflow.symmetry.equilibrium import noise_equilibrium
from sharpflow.symmetry.two_layer import matrix_traces


def deep_noise_equilibrium(
    v: Tensor, sigma_x: Tensor, sigma_noise: Tensor, depth: int
) -> tuple[Tensor, ...]:
    """Layers of v = W_L ⋯ W_1 in noise equilibrium at the minimum, where r = −ε.

    With B_i = W_i ⋯ W_1 and A_i = W_L ⋯ W_{i+1} it means, at each hidden layer i,
    Tr[B_{i−1} Σ_x B_{i−1}ᵀ] A_iᵀ Σ_ε A_i = Tr[A_{i+1}ᵀ Σ_ε A_{i+1}] B_i Σ_x B_iᵀ.
    With Σ_ε^{1/2} v Σ_x^{1/2} = L S Rᵀ and ρ^depth = Tr S/(Tr Σ_x Tr Σ_ε)^{1/2} the layers are
    W_1 = ρ (Tr Σ_x/Tr S)^{1/2} S^{1/2} Rᵀ Σ_x^{-1/2}, W_i = ρ I between, and
    W_L = ρ (Tr Σ_ε/Tr S)^{1/2} Σ_ε^{-1/2} L S^{1/2}: every layer multiplies the mean square of what
    comes forward, and of the noise that comes back, by ρ². Any rotation of a hidden layer gives
    another one; W_LᵀW_L and W_1W_1ᵀ are unique up to it, and the norms and the singular values
    of the layers are unique.

    Args:
        v: (d_out, d_in), not zero; its rank is the width of the hidden layers.
        sigma_x: covariance of x, (d_in, d_in).
        sigma_noise: covariance of the label noise ε, (d_out, d_out).
        depth: number of layers, at least 2.

    Returns:
        W_1, …, W_L, of v's dtype.

    Raises:
        ValueError: as `noise_equilibrium`, depth is below 2, or there is no noise, so that every
            point is at rest.
    """
    check_count("depth", depth, 2)
    check_covariance("sigma_x", sigma_x)
    check_covariance("sigma_noise", sigma_noise)
    back, forward = sigma_noise.trace(), sigma_x.trace()
    if not (float(back) > 0 and float(forward) > 0 and bool(v.any())):
        raise ValueError(
            "v, sigma_x and sigma_noise must not vanish: without noise every point is at rest, and "
            "none is the equilibrium"
        )
    try:
        u, w = noise_equilibrium(v, sigma_noise, sigma_x)
    except ValueError as error:
        named = str(error).replace("gamma_u", "sigma_noise").replace("gamma_w", "sigma_x")
        raise ValueError(named) from None
    loud = (sigma_noise @ u * u).sum()
    if not float(loud) > 0:
        raise ValueError(
            "sigma_x and sigma_noise must not both be silent on all that v connects: every point "
            "is then at rest, and none is the equilibrium"
        )
    growth = (loud / (back * forward).sqrt()) ** (1 / depth)
    middle = growth * torch.eye(w.shape[0]).to(v)
    first, last = growth * (forward / loud).sqrt() * w, growth * (back / loud).sqrt() * u
    return (first, *(middle.clone() for _ in range(depth - 2)), last)


def deep_gaussian_gammas(
    weights: Sequence[Tensor], teacher: Tensor, sigma_x: Tensor, sigma_noise: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """(Γ_U, Γ_W) of each pair of neighbouring layers, for x ~ N(0, Σ_x), y = V x + ε.

    For the layers U = W_{i+1} and W = W_i the net is a two-layer one whose inputs are B_{i−1} x and
    whose residuals are A_{i+1}ᵀ r, so Γ_U = E[‖B x‖² Aᵀ r rᵀ A] and Γ_W = E[‖Aᵀ r‖² B x xᵀ Bᵀ],
    which Isserlis' theorem gives. They go into `weighted_grams` and `noise_imbalance` with the two
    layers, and are those of `gaussian_gammas` for two layers.

    Args:
        weights: W_1, …, W_L, each (..., d_i, d_{i−1}), at least two.
        teacher: V, (d_L, d_0).
        sigma_x: Σ_x, (d_0, d_0).
        sigma_noise: Σ_ε, (d_L, d_L).

    Returns:
        One pair of (..., d_{i+1}, d_{i+1}) and (..., d_{i−1}, d_{i−1}) for each hidden layer i.

    Raises:
        ValueError: a shape does not fit, or a covariance is not symmetric positive semi-definite.
    """
    check_count("the number of weights", len(weights), 2)
    for before, after in pairwise(weights):
        check_shape("each of weights after the first", after, after.shape[-2], before.shape[-2])
    check_shape("teacher", teacher, weights[-1].shape[-2], weights[0].shape[-1])
    check_covariance("sigma_x", sigma_x, weights[0].shape[-1])
    check_covariance("sigma_noise", sigma_noise, weights[-1].shape[-2])
    into, out = [torch.eye(weights[0].shape[-1]).to(teacher)], [torch.eye(len(teacher)).to(teacher)]
    for weight in weights:
        into.append(weight @ into[-1])
    for weight in reversed(weights):
        out.append(out[-1] @ weight)
    excess = into[-1] - teacher
    seen = excess @ sigma_x @ excess.mT + sigma_noise
    found = []
    for layer in range(1, len(weights)):
        b, a = into[layer - 1], out[len(weights) - layer - 1]  # before W_i, and after W_{i+1}
        carried = sigma_x @ b.mT @ b @ sigma_x
        gamma_u = matrix_traces(b @ sigma_x @ b.mT) * seen + 2 * excess @ carried @ excess.mT
        weighed = excess.mT @ a @ a.mT @ excess
        gamma_w = matrix_traces(a.mT @ seen @ a) * sigma_x + 2 * sigma_x @ weighed @ sigma_x
        found.append((a.mT @ gamma_u @ a, b @ gamma_w @ b.mT))
    return found
