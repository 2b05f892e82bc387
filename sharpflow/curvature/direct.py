"""Largest eigenpairs of a small matrix that is at hand, by LAPACK."""

import math

import torch
from scipy.linalg import eigh

from sharpflow.curvature.eigen import EigenResult, check_pairs, scale_of
from sharpflow.curvature.linear_operator import LinearOperator

LARGEST = 320
"""Rows up to which LAPACK is the quicker way: its work grows with their cube."""


def is_direct(operator: LinearOperator) -> bool:
    """Whether an operator is a matrix at hand, and small enough."""
    return operator.matrix is not None and len(operator.matrix) <= LARGEST


def direct_eigenpairs(operator: LinearOperator, k: int = 1, tol: float = 1e-3) -> EigenResult:
    """The `k` largest eigenpairs of a symmetric matrix, none of which can be missed.

    Args:
        operator: made from a matrix (n, n), of which the lower triangle is read; from another
            device it is copied to the CPU, for LAPACK, and vectors are copied back.
        k: number of pairs, 1 ≤ k ≤ n.
        tol: as for `top_eigenpairs`; LAPACK ends at some rounding units of ‖M‖ whatever it is.

    Returns:
        The pairs, without products: `matvecs` is 0. The next eigenvalue is not looked for.

    Raises:
        ValueError: the operator was made from no matrix, or k is too large.
    """
    size = operator.shape[0]
    if operator.matrix is None:
        raise ValueError("the operator was made from no matrix; take top_eigenpairs.")
    check_pairs(k, size)
    matrix = operator.matrix.cpu()
    found = eigh(matrix.numpy(), subset_by_index=(size - k, size - 1), check_finite=False)
    values, vectors = (torch.from_numpy(array).flip(-1) for array in found)
    residuals = (matrix @ vectors - vectors * values).norm(dim=0).double()
    vectors = vectors.to(operator.device)
    values = values.double()
    norm = float(values.abs().max())
    scale = scale_of(values, norm, matrix.dtype)
    within = residuals <= tol * scale
    return EigenResult(
        values=values,
        vectors=vectors,
        residuals=residuals,
        errors=residuals / scale,
        error_kind="residual",
        matvecs=0,
        converged=bool(within.all()),
        norm=norm,
        refined=vectors,
        pair_converged=within,
        next_value=math.nan,
        asymmetry=0.0,
    )
