"""Diagonal of a symmetric operator, exact or estimated, with a standard error of each entry."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpflow.curvature.estimators import check_products, unit_products
from sharpflow.curvature.linear_operator import LinearOperator, check_operator
from sharpflow.curvature.sketch import Sketch, TestVectors, blocks, check_block


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

    Memory is (2·`basis_size` + 5)·P numbers for XDiag, with the result, and (`basis_size` + 6)·P
    otherwise, beside the product and what it takes.

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
    check_operator(operator)
    check_products(products, exact_size, basis_size)
    before, size = operator.products, operator.shape[0]
    if size <= max(products, exact_size):
        values = torch.cat([own for own, _ in unit_products(operator)])
        values = values.to(operator.device, operator.dtype)
        return DiagonalEstimate(values, torch.zeros_like(values), operator.products - before, True)
    most = products // 2
    if basis_size is None or basis_size == most:
        whole, samples = _leave_one_out(operator, most, generator)
    else:
        whole, samples = _deflated(operator, products, basis_size, generator)
    mean, scatter = torch.zeros_like(whole), torch.zeros_like(whole)
    count = 0
    for sample in samples:
        count += 1
        _update(mean, scatter, sample, count)
        del sample
    errors = scatter.div_((count - 1) * count).clamp_(min=0).sqrt_()
    return DiagonalEstimate(mean.add_(whole), errors, operator.products - before, False)


def _update(mean: Tensor, scatter: Tensor, sample: Tensor, count: int) -> None:
    """Welford's update of a mean and a sum of squared deviations, in place, of `sample` too."""
    sample -= mean
    mean.add_(sample, alpha=1 / count)
    scatter.addcmul_(sample, sample, value=(count - 1) / count)


def _leave_one_out(
    operator: LinearOperator, count: int, generator: torch.Generator | None
) -> tuple[Tensor, Iterator[Tensor]]:
    """XDiag: diag(Q_i Q_iᵀ A) + ω_i ∘ (1 − Q_i Q_iᵀ) A ω_i for each test vector.

    Returns:
        diag(Q Qᵀ A), (P,), and what each vector adds to it.
    """
    vectors = TestVectors(operator, count, generator, signs=True)
    sketch = Sketch(operator, vectors, count)
    images = torch.empty_like(sketch.rows)
    for start, stop in blocks(operator.shape[0], 0, count):
        images[start:stop] = operator.matvec(sketch.rows[start:stop].T).T
    lost = sketch.omitted()
    left = (lost * sketch.triangle).sum(0)  # (1 − Q_i Q_iᵀ) A ω_i is this times Q s_i

    def added(index: int) -> Tensor:
        s = lost[:, index].to(images)
        term = vectors.columns(index, index + 1)[:, 0]
        term.mul_(float(left[index])).addmv_(images.T, s, alpha=-1.0)
        return term.mul_(sketch.rows.T @ s)

    return _sum_of_products(sketch.rows, images), map(added, range(count))


def _deflated(
    operator: LinearOperator, products: int, count: int, generator: torch.Generator | None
) -> tuple[Tensor, Iterator[Tensor]]:
    """Diag++: diag(Q Qᵀ A) + ω ∘ (1 − Q Qᵀ) A ω for each further test vector, as above."""
    size, total = operator.shape[0], products - count
    vectors = TestVectors(operator, total, generator, signs=True)
    sketch = Sketch(operator, vectors, count)
    whole = torch.zeros(size, dtype=operator.dtype, device=operator.device)
    for start, stop in blocks(size, 0, count):
        rows = sketch.rows[start:stop]
        whole += _sum_of_products(rows, operator.matvec(rows.T).T)

    def added(start: int, stop: int) -> Tensor:
        columns = vectors.columns(start, stop)
        images = operator.matvec(columns)
        if not count:  # else the sketch has been checked
            check_block((columns.T @ images).double(), operator)
        columns *= torch.addmm(images, sketch.rows.T, sketch.rows @ images, alpha=-1.0)
        return columns

    ranges = blocks(size, count, total)
    return whole, (column for start, stop in ranges for column in added(start, stop).T)


def _sum_of_products(first: Tensor, second: Tensor) -> Tensor:
    """Sum over the rows of the products of two (k, P) tensors, one row at a time."""
    result = torch.zeros_like(first[0])
    for a, b in zip(first, second, strict=True):
        result.addcmul_(a, b)
    return result
