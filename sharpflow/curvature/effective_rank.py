"""How many directions an operator has: stable rank, participation ratio, effective dimension."""

import math

import numpy as np
import torch

from sharpflow.arguments import check_count, check_positive
from sharpflow.curvature.density import spectral_density
from sharpflow.curvature.estimators import Estimate, check_products, frobenius_norm, moments
from sharpflow.curvature.linear_operator import LinearOperator, check_operator
from sharpflow.curvature.spectrum_ends import spectral_norm

_ZERO = "the operator is zero; the ratio of its norms is not defined."


def stable_rank(
    operator: LinearOperator,
    products: int = 32,
    exact_size: int = 512,
    generator: torch.Generator | None = None,
    *,
    basis_size: int | None = None,
    tol: float = 1e-3,
) -> Estimate:
    """Stable rank ‖H‖_F² / ‖H‖₂² (Rudelson and Vershynin 2007), between 1 and the rank.

    Args:
        operator: (P, P), symmetric, not zero.
        products: for the Frobenius norm; the spectral norm takes its own.
        exact_size: largest P for which both norms are those of the dense matrix.
        generator: for the random vectors; by default one with a fixed seed.
        basis_size: as for `frobenius_norm`.
        tol: as for `spectral_norm`.

    Returns:
        The rank. Its error has that of the Frobenius norm, and the spectral norm's residual, which
        is a bound of what that is off.

    Raises:
        ValueError: the operator is zero, the spectral norm has not converged to `tol`, and as for
            `frobenius_norm`.
    """
    check_operator(operator)
    check_products(products, exact_size, basis_size)
    before = operator.products
    if operator.shape[0] <= exact_size:
        values = _eigenvalues(operator)
        largest = float(values.abs().max())
        if largest == 0.0:
            raise ValueError(_ZERO)
        value = float((values / largest).square().sum())
        return Estimate(value, 0.0, operator.products - before, True)
    frobenius = frobenius_norm(operator, products, exact_size, generator, basis_size=basis_size)
    if frobenius.value == 0.0:
        raise ValueError(_ZERO)
    found = spectral_norm(operator, tol, generator)
    if not found.converged:
        raise ValueError(f"the spectral norm has not converged to tol={tol:g}; give a larger tol.")
    value = (frobenius.value / found.value) ** 2
    relative = math.hypot(frobenius.standard_error / frobenius.value, found.residual / found.value)
    return Estimate(value, 2 * value * relative, operator.products - before, False)


def participation_ratio(
    operator: LinearOperator,
    products: int = 32,
    exact_size: int = 512,
    generator: torch.Generator | None = None,
    *,
    basis_size: int | None = None,
) -> Estimate:
    """Participation ratio (Tr H)² / Tr H² (Gao et al. 2017), P where all eigenvalues are equal.

    It counts the large eigenvalues of a positive semi-definite operator; where signs differ they
    cancel in the trace. Both traces are estimated from the same vectors, and the error is that of
    their ratio to first order, with their covariance.

    Args:
        operator: (P, P), symmetric, not zero.
        products: as for `frobenius_norm`.
        exact_size: as for `frobenius_norm`.
        generator: as for `frobenius_norm`.
        basis_size: as for `frobenius_norm`.

    Returns:
        The ratio, and its error.

    Raises:
        ValueError: the operator is zero, and as for `frobenius_norm`.
    """
    check_operator(operator)
    before = operator.products
    traces, squares, exact = moments(operator, products, exact_size, generator, basis_size)
    first, second = float(traces.mean()), float(squares.mean())
    if second == 0.0:
        raise ValueError(_ZERO)
    value, error = first**2 / second, 0.0
    if not exact:
        slopes = 2 * first / second * traces - value / second * squares
        error = float(slopes.std()) / math.sqrt(len(slopes))
    return Estimate(value, error, operator.products - before, exact)


def effective_dimension(
    operator: LinearOperator,
    ridge: float,
    draws: int = 8,
    steps: int = 40,
    exact_size: int = 512,
    generator: torch.Generator | None = None,
    *,
    reorthogonalise: bool = True,
) -> Estimate:
    """Effective dimension, the sum of λ/(λ + ridge), of a positive semi-definite operator.

    It counts the eigenvalues that are not small beside the ridge: a Gauss-Newton matrix's, say
    (MacKay 1992's well-determined parameters). By stochastic Lanczos quadrature
    (`spectral_density`), whose cost and memory it has. Its error is that of the draws; what
    the nodes miss is about a per cent for a ridge down to ‖H‖/`steps`².

    Args:
        operator: (P, P), symmetric, without negative eigenvalues.
        ridge: positive.
        draws: number of random vectors.
        steps: products with each.
        exact_size: largest P for which the eigenvalues of the dense matrix are taken.
        generator: for the vectors; by default one with a fixed seed.
        reorthogonalise: as for `spectral_density`.

    Returns:
        The dimension, and its error.

    Raises:
        ValueError: the ridge is not positive, an eigenvalue is seen to be negative, and as for
            `spectral_density`.
    """
    check_operator(operator)
    check_positive("ridge", ridge)
    check_count("exact_size", exact_size, 0)
    before, size = operator.products, operator.shape[0]
    rounding = 1e3 * torch.finfo(operator.dtype).eps

    def function(values: np.ndarray) -> np.ndarray:
        low, high = values.min(), np.abs(values).max()
        if low < -rounding * high:
            raise ValueError(
                f"the operator has a negative eigenvalue, at most {low:.3g}; the effective "
                "dimension is that of a positive semi-definite one, as gauss_newton_operator."
            )
        return np.maximum(values, 0.0) / (np.maximum(values, 0.0) + ridge)

    if size <= exact_size:
        value = float(function(_eigenvalues(operator).numpy()).sum())
        return Estimate(value, 0.0, operator.products - before, True)
    density = spectral_density(operator, draws, steps, generator, reorthogonalise=reorthogonalise)
    mean, error = density.mean(function)
    return Estimate(size * mean, size * error, operator.products - before, False)


def _eigenvalues(operator: LinearOperator) -> torch.Tensor:
    return torch.linalg.eigvalsh(operator.to_dense().double()).cpu()
