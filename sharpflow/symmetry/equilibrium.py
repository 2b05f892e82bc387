"""The noise equilibrium of the two-layer linear net in closed form (`ziyin2024`)."""

import torch
from torch import Tensor

from sharpflow.arguments import check_count
from sharpflow.symmetry._checks import check_covariance, check_shape
from sharpflow.symmetry.two_layer import noise_imbalance


def noise_equilibrium(
    v: Tensor, gamma_u: Tensor, gamma_w: Tensor, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """Factors of v = u w in noise equilibrium: uᵀ Γ_U u = w Γ_W wᵀ.

    With Γ_U^{1/2} v Γ_W^{1/2} = L s Rᵀ (thin SVD, rank r) they are u = v Γ_W^{1/2} R s^{-1/2} and
    w = s^{-1/2} Lᵀ Γ_U^{1/2} v, which for invertible Γ are the Γ_U^{-1/2} L s^{1/2} and
    s^{1/2} Rᵀ Γ_W^{-1/2} of the paper, with no inverse taken. u P and Pᵀ w are one too for every
    P with orthonormal rows; u uᵀ and wᵀ w are unique if both Γ are invertible.

    A singular Γ is handled wherever an equilibrium exists, that is where rank Γ_U v = rank v Γ_W
    = rank Γ_U v Γ_W: a part of v that is noiseless on both sides is split in balance (it is free,
    so u uᵀ is then not unique), and one that is noiseless on one side alone has no equilibrium.

    Args:
        v: (d2, d0), any rank.
        gamma_u: Γ_U, (d2, d2), symmetric positive semi-definite.
        gamma_w: Γ_W, (d0, d0), likewise.
        width: d ≥ rank v; rank v by default. Columns of u and rows of w beyond the rank are zero.

    Returns:
        u (d2, d) and w (d, d0), of v's dtype.

    Raises:
        ValueError: a shape or dtype does not fit, a Γ is not a covariance, width is below rank v,
            no equilibrium exists, or the Γ are too ill-conditioned for the dtype.
    """
    if v.ndim != 2 or not v.is_floating_point() or not bool(torch.isfinite(v).all()):
        raise ValueError(
            f"v must be one finite floating-point matrix; got shape {tuple(v.shape)}, {v.dtype}"
        )
    for name, gamma, size in (("gamma_u", gamma_u, v.shape[0]), ("gamma_w", gamma_w, v.shape[1])):
        check_shape(name, gamma, size, size)
        if gamma.ndim != 2 or gamma.dtype != v.dtype:
            raise ValueError(
                f"{name} must be one matrix of v's dtype {v.dtype}; "
                f"got shape {tuple(gamma.shape)}, {gamma.dtype}"
            )
        check_covariance(name, gamma, size)
    left, singular, right = torch.linalg.svd(v, full_matrices=False)
    rank = _rank(singular, max(v.shape))
    if width is not None:
        check_count("width", width, 0)
        if width < rank:
            raise ValueError(f"width must be at least rank v = {rank}; got {width}")
    v = (left[:, :rank] * singular[:rank]) @ right[:rank]
    u, w = _factors(v, rank, gamma_u, gamma_w)
    extra = (rank if width is None else width) - u.shape[1]
    u, w = torch.nn.functional.pad(u, (0, extra)), torch.nn.functional.pad(w, (0, 0, 0, extra))
    _verify(u, w, v, gamma_u, gamma_w)
    return u, w


def plain_balance(v: Tensor, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Factors of v = u w with uᵀ u = w wᵀ: what isotropic noise, or weight decay, leads to.

    Raises:
        ValueError: as `noise_equilibrium`.
    """
    check_shape("v", v, *v.shape[-2:])
    eyes = (torch.eye(size, dtype=v.dtype, device=v.device) for size in v.shape)
    return noise_equilibrium(v, *eyes, width=width)


def stationary_gammas(sigma_x: Tensor, sigma_noise: Tensor) -> tuple[Tensor, Tensor]:
    """(Γ_U, Γ_W) = (Tr[Σ_x] Σ_ε, Tr[Σ_ε] Σ_x) at the global minimum, where r = −ε.

    Args:
        sigma_x: covariance of x, (d0, d0).
        sigma_noise: covariance of the label noise, (d2, d2).

    Raises:
        ValueError: a covariance is not symmetric positive semi-definite.
    """
    check_covariance("sigma_x", sigma_x)
    check_covariance("sigma_noise", sigma_noise)
    return sigma_x.trace() * sigma_noise, sigma_noise.trace() * sigma_x


def _factors(v: Tensor, rank: int, gamma_u: Tensor, gamma_w: Tensor) -> tuple[Tensor, Tensor]:
    root_u, full_u = _square_root(gamma_u)
    root_w, full_w = _square_root(gamma_w)
    product = root_u @ v @ root_w
    left, singular, right = torch.linalg.svd(product, full_matrices=False)
    noisy = rank if full_u and full_w else _rank(singular, max(v.shape))
    root = singular[:noisy].sqrt()
    u = v @ root_w @ right[:noisy].T / root
    w = (left[:, :noisy].T @ root_u @ v) / root[:, None]
    if noisy == rank:
        return u, w
    rest = v - u @ w
    slack = torch.finfo(v.dtype).eps ** 0.5 * torch.linalg.matrix_norm(v)
    for name, other, moved, scale in (
        ("gamma_w", "gamma_u", root_u @ rest, root_u),
        ("gamma_u", "gamma_w", rest @ root_w, root_w),
    ):
        if torch.linalg.matrix_norm(moved) > slack * torch.linalg.matrix_norm(scale):
            raise ValueError(
                f"{name} must not be singular along a direction of v in which {other} is not: "
                "the noise then pushes one factor only, and no equilibrium exists"
            )
    left, singular, right = torch.linalg.svd(rest, full_matrices=False)
    root = singular[: rank - noisy].sqrt()
    silent_u, silent_w = left[:, : len(root)] * root, root[:, None] * right[: len(root)]
    return torch.cat([u, silent_u], 1), torch.cat([w, silent_w], 0)


def _square_root(gamma: Tensor) -> tuple[Tensor, bool]:
    values, vectors = torch.linalg.eigh((gamma + gamma.T) / 2)
    floor = 10 * len(values) * torch.finfo(gamma.dtype).eps * values.abs().max()
    kept = values > floor
    roots = torch.where(kept, values, torch.zeros_like(values)).sqrt()
    return (vectors * roots) @ vectors.T, bool(kept.all())


def _rank(singular: Tensor, size: int) -> int:
    if singular.numel() == 0:
        return 0
    floor = 10 * size * torch.finfo(singular.dtype).eps * singular.max()
    return int((singular > floor).sum())


def _verify(u: Tensor, w: Tensor, v: Tensor, gamma_u: Tensor, gamma_w: Tensor) -> None:
    tolerance = torch.finfo(v.dtype).eps ** 0.5
    error = float(torch.linalg.matrix_norm(u @ w - v))
    imbalance = float(noise_imbalance(u, w, gamma_u, gamma_w))
    if not (error <= tolerance * float(torch.linalg.matrix_norm(v)) and imbalance <= tolerance):
        raise ValueError(
            f"gamma_u and gamma_w are too ill-conditioned for {v.dtype}: u w misses v by "
            f"{error:.3g} and the imbalance is {imbalance:.3g}"
        )
