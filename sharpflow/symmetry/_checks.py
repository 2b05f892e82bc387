"""Argument checks shared by the modules of this package."""

import torch
from torch import Tensor


def check_symmetric(name: str, matrix: Tensor) -> None:
    """Refuse a tensor that is not a finite symmetric matrix (leading dimensions are allowed).

    Raises:
        ValueError: naming the argument, what it was and what is allowed.
    """
    shape = tuple(matrix.shape)
    if matrix.ndim < 2 or shape[-1] != shape[-2]:
        raise ValueError(f"{name} must be a square matrix; got shape {shape}")
    if not matrix.is_floating_point():
        raise ValueError(f"{name} must have a floating-point dtype; got {matrix.dtype}")
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError(f"{name} must be finite; it holds NaN or infinite entries")
    if matrix.numel() == 0:
        return
    asymmetry = float((matrix - matrix.mT).abs().max())
    if asymmetry > _slack(matrix) * float(matrix.abs().max()):
        raise ValueError(f"{name} must be symmetric; its entries differ by {asymmetry:.3g}")


def check_covariance(name: str, matrix: Tensor, size: int | None = None) -> None:
    """Refuse a tensor that is not a symmetric positive semi-definite (size × size) matrix.

    Raises:
        ValueError: naming the argument, what it was and what is allowed.
    """
    check_symmetric(name, matrix)
    if size is not None and matrix.shape[-1] != size:
        raise ValueError(f"{name} must be {size} × {size}; got shape {tuple(matrix.shape)}")
    if matrix.numel() == 0:
        return
    lowest = float(torch.linalg.eigvalsh(matrix).min())
    if lowest < -_slack(matrix) * float(matrix.abs().max()):
        raise ValueError(
            f"{name} must be positive semi-definite; its lowest eigenvalue is {lowest:.3g}"
        )


def check_factors(u: Tensor, w: Tensor) -> None:
    """Refuse factors that do not multiply: u is (..., d2, d) and w is (..., d, d0).

    Raises:
        ValueError: naming both arguments and their shapes.
    """
    if u.ndim < 2 or w.ndim < 2 or u.shape[-1] != w.shape[-2]:
        raise ValueError(
            "u and w must be (..., d2, d) and (..., d, d0) with one width d; "
            f"got shapes {tuple(u.shape)} and {tuple(w.shape)}"
        )


def check_shape(name: str, tensor: Tensor, rows: int, columns: int) -> None:
    """Refuse a tensor whose last two dimensions are not (rows, columns).

    Raises:
        ValueError: naming the argument and both shapes.
    """
    if tensor.ndim < 2 or tuple(tensor.shape[-2:]) != (rows, columns):
        raise ValueError(
            f"{name} must have shape (..., {rows}, {columns}); got {tuple(tensor.shape)}"
        )


def _slack(matrix: Tensor) -> float:
    return 100 * matrix.shape[-1] * torch.finfo(matrix.dtype).eps
