"""Trace of a symmetric operator: exact for small ones, Hutch++ with its error otherwise."""

import math
from dataclasses import dataclass

import torch

from sharpflow.curvature.linear_operator import LinearOperator

_COLUMNS = 64  # unit vectors multiplied at a time


@dataclass(frozen=True)
class TraceResult:
    """Trace of an operator.

    Attributes:
        value: the trace or its estimate.
        standard_error: of the estimate, from the spread of its random part; 0 where exact.
        matvecs: products used.
        exact: whether nothing was estimated.
    """

    value: float
    standard_error: float
    matvecs: int
    exact: bool


def trace(
    operator: LinearOperator,
    products: int = 96,
    exact_size: int = 512,
    generator: torch.Generator | None = None,
) -> TraceResult:
    """Trace of a symmetric (P, P) operator.

    P ≤ `exact_size` or P ≤ `products`: P products with unit vectors. Otherwise Hutch++
    (Meyer et al. 2021, algorithm 1): a third of `products` finds a subspace whose trace
    another third measures exactly; the last third estimates the rest with random signs.

    Args:
        operator: (P, P), symmetric.
        products: most products with vectors, unless it is exact.
        exact_size: largest P for which it is.
        generator: for the signs; by default one with a fixed seed.

    Returns:
        The trace, and its error.

    Raises:
        ValueError: `products` is below 6; two samples are needed for a standard error.
    """
    if products < 6:
        raise ValueError(f"products is {products}; it must be at least 6.")
    size, first = operator.shape[0], operator.products
    if size <= max(products, exact_size):
        value = 0.0
        for start in range(0, size, _COLUMNS):
            stop = min(start + _COLUMNS, size)
            block = torch.zeros(size, stop - start, dtype=operator.dtype, device=operator.device)
            block[start:stop].fill_diagonal_(1.0)
            value += float(operator.matvec(block)[start:stop].diagonal().double().sum())
        return TraceResult(value, 0.0, operator.products - first, True)
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    third = products // 3
    basis = torch.linalg.qr(operator.matvec(_signs(operator, third, generator))).Q
    value = float((basis * operator.matvec(basis)).sum(dtype=torch.float64))
    count = products - 2 * third
    rest = _signs(operator, count, generator)
    rest = rest - basis @ (basis.T @ rest)
    terms = (rest * operator.matvec(rest)).sum(dim=0, dtype=torch.float64)
    return TraceResult(
        value + float(terms.mean()),
        float(terms.std()) / math.sqrt(count),
        operator.products - first,
        False,
    )


def _signs(operator: LinearOperator, count: int, generator: torch.Generator) -> torch.Tensor:
    shape = (operator.shape[0], count)
    bits = torch.randint(0, 2, shape, generator=generator, device=generator.device)
    return (2 * bits - 1).to(dtype=operator.dtype, device=operator.device)
