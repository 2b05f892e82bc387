"""Diagonal of a symmetric operator, exact or estimated, with a standard error of each entry."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpflow.curvature.estimators import check_products, unit_products
from sharpflow.curvature.linear_operator import LinearOperator
from sharpflow.curvature.sketch import Sketch, TestVectors, blocks


@dataclass(frozen=True)
class DiagonalEstimate:
    """Diagonal of an operator.

    Attributes:
        values: (P,), the diagonal or its estimate.
        standard_errors: (P,), of each entry, from the spread of its samples; 0 where exact.
        matvecs: products used.
        exact: whether nothing was estimated.
    """

    values: Tensor
    standard_errors: Tensor
    matvecs: int
    exact: bool


def diagonal(
    operator: LinearOperator,
    products: int = 32,
    exact_size: int = 512,
    generator: torch.Generator | None = None,
    *,
    basis_size: int | None = None,
) -> DiagonalEstimate:
    """Diagonal of a symmetric (P, P) operator.

    P ≤ `exact_size` or P ≤ `products`: P products with unit vectors. Otherwise XDiag (Epperly,
    Tropp and Webber 2024, section 2.4) with random signs. A smaller `basis_size` makes it Diag++
    (Baston and Nakatsukasa 2022), and 0 the estimator of Bekas, Kokiopoulou and Saad (2007).

    Memory is (2·`basis_size` + 6)·P numbers for XDiag and (`basis_size` + 6)·P otherwise, with the
    result, and what a product takes.

    Args:
        operator: (P, P), symmetric.
        products: most products with vectors, unless it is exact; at least 4.
        exact_size: largest P for which it is.
        generator: for the test vectors; by default one with a fixed seed.
        basis_size: dimension of the subspace, at most half of `products`, the default.

    Returns:
        The diagonal, in the operator's dtype, and its errors.

    Raises:
        ValueError: `products` or `basis_size` is outside these bounds.
    """
    check_products(products, basis_size)
    before, size = operator.products, operator.shape[0]
    if size <= max(products, exact_size):
        values = torch.cat([own for own, _ in unit_products(operator)])
        values = values.to(operator.device, operator.dtype)
        return DiagonalEstimate(values, torch.zeros_like(values), operator.products - before, True)
    most = products // 2
    if basis_size is None or basis_size == most:
        samples = _leave_one_out(operator, most, generator)
    else:
        samples = _deflated(operator, products, basis_size, generator)
    mean = torch.zeros(size, dtype=operator.dtype, device=operator.device)
    scatter = torch.zeros_like(mean)
    count = 0
    for count, sample in enumerate(samples, 1):
        change = sample - mean
        mean += change / count
        scatter.addcmul_(change, sample - mean)
    errors = (scatter / ((count - 1) * count)).clamp_(min=0).sqrt_()
    return DiagonalEstimate(mean, errors, operator.products - before, False)


def _leave_one_out(
    operator: LinearOperator, count: int, generator: torch.Generator | None
) -> Iterator[Tensor]:
    """XDiag: diag(Q_i Q_iᵀ A) + ω_i ∘ (1 − Q_i Q_iᵀ) A ω_i for each test vector, (P,)."""
    vectors = TestVectors(operator, count, generator, signs=True)
    sketch = Sketch(operator, vectors, count)
    images = torch.empty_like(sketch.rows)
    for start, stop in blocks(operator.shape[0], 0, count):
        images[start:stop] = operator.matvec(sketch.rows[start:stop].T).T
    whole = _sum_of_products(sketch.rows, images)
    lost = sketch.omitted()
    left = (lost * sketch.triangle).sum(0)  # A ω_i outside the subspace of all others is Q s_i left
    for index in range(count):
        s = lost[:, index].to(images)
        direction = sketch.rows.T @ s
        term = vectors.columns(index, index + 1)[:, 0].mul_(float(left[index]))
        term -= images.T @ s
        yield torch.addcmul(whole, direction, term)


def _deflated(
    operator: LinearOperator, products: int, count: int, generator: torch.Generator | None
) -> Iterator[Tensor]:
    """Diag++: diag(Q Qᵀ A) + ω ∘ (1 − Q Qᵀ) A ω for each further test vector, (P,)."""
    size, total = operator.shape[0], products - count
    vectors = TestVectors(operator, total, generator, signs=True)
    sketch = Sketch(operator, vectors, count)
    whole = torch.zeros(size, dtype=operator.dtype, device=operator.device)
    for start, stop in blocks(size, 0, count):
        rows = sketch.rows[start:stop]
        whole += _sum_of_products(rows, operator.matvec(rows.T).T)
    for start, stop in blocks(size, count, total):
        columns = vectors.columns(start, stop)
        images = sketch.deflate(operator.matvec(columns))
        for column, image in zip(columns.T, images.T, strict=True):
            yield torch.addcmul(whole, column, image)


def _sum_of_products(first: Tensor, second: Tensor) -> Tensor:
    """Sum over the rows of the products of two (k, P) tensors, one row at a time."""
    result = torch.zeros_like(first[0])
    for a, b in zip(first, second, strict=True):
        result.addcmul_(a, b)
    return result
