"""Trace and Frobenius norm of a symmetric operator, exact or estimated, with standard errors."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpflow.arguments import check_count, is_count
from sharpflow.curvature.linear_operator import LinearOperator, check_operator, check_symmetric
from sharpflow.curvature.sketch import Sketch, TestVectors, blocks, check_block, dot

_COLUMNS = 64  # unit vectors multiplied at a time


@dataclass(frozen=True)
class Estimate:
    """A number that belongs to an operator, exact or estimated from random vectors.

    Attributes:
        value: the number.
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
    products: int = 32,
    exact_size: int = 512,
    generator: torch.Generator | None = None,
    *,
    basis_size: int | None = None,
) -> Estimate:
    """Trace of a symmetric (P, P) operator.

    P ≤ `exact_size` or P ≤ `products`: P products with unit vectors. Otherwise XTrace with
    normalised test vectors (Epperly, Tropp and Webber 2024, sections 2.1 and 2.3): half of the
    products find a subspace, the others measure the trace within, and each test vector estimates
    what lies outside the subspace of all others. A smaller `basis_size` makes it Hutch++ (Meyer et
    al. 2021): twice that many products for the subspace, the rest for random vectors outside it.
    0 is Hutchinson's estimator.

    Memory is (`basis_size` + 2)·P numbers beside the product and what it takes.

    The standard error is that of a mean of as many samples as there are test vectors. XTrace's are
    not independent: it comes out right, or up to a third too small, where eigenvalues decay
    gradually, and several times too small for an operator whose rank is just above `basis_size`.

    Args:
        operator: (P, P), symmetric.
        products: most products with vectors, unless it is exact; at least 4.
        exact_size: largest P for which it is.
        generator: for the test vectors; by default one with a fixed seed.
        basis_size: dimension of the subspace, at most half of `products`, the default.

    Returns:
        The trace, and its error.

    Raises:
        ValueError: `products` or `basis_size` is outside these bounds; two samples are needed for
            a standard error.
    """
    check_operator(operator)
    check_products(products, exact_size, basis_size)
    before = operator.products
    if operator.shape[0] <= max(products, exact_size):
        value = sum(float(own.sum()) for own, _ in unit_products(operator))
        return Estimate(value, 0.0, operator.products - before, True)
    most = products // 2
    if basis_size is None or basis_size == most:
        terms = _leave_one_out(operator, most, generator)
    else:
        terms = deflated_moments(operator, products, basis_size, generator)[0]
    return Estimate(*mean_and_error(terms), operator.products - before, False)


def frobenius_norm(
    operator: LinearOperator,
    products: int = 32,
    exact_size: int = 512,
    generator: torch.Generator | None = None,
    *,
    basis_size: int | None = None,
) -> Estimate:
    """Frobenius norm of a symmetric (P, P) operator, the root of the sum of λ².

    Small operators as in `trace`. Otherwise Hutch++ (Meyer et al. 2021) for Tr H²: ‖H Q‖² of a
    subspace Q is exact, and the rest is the mean of |H v|² over random vectors v outside it. A
    root of an unbiased estimate, it is low by about error²/(2 value).

    Memory is (`basis_size` + 2)·P numbers beside the product and what it takes.

    Args:
        operator: (P, P), symmetric.
        products: most products with vectors, unless it is exact; at least 4.
        exact_size: largest P for which it is.
        generator: for the random vectors; by default one with a fixed seed.
        basis_size: dimension of the subspace, for which twice that many products go; by default a
            third of `products`, and at most what leaves two of them.

    Returns:
        The norm, and its error.

    Raises:
        ValueError: as for `trace`.
    """
    check_operator(operator)
    before = operator.products
    _, squares, exact = moments(operator, products, exact_size, generator, basis_size)
    square, error = mean_and_error(squares)
    value = math.sqrt(square)
    error = error / (2 * value) if value else 0.0
    return Estimate(value, error, operator.products - before, exact)


def moments(
    operator: LinearOperator,
    products: int,
    exact_size: int,
    generator: torch.Generator | None,
    basis_size: int | None,
) -> tuple[Tensor, Tensor, bool]:
    """Samples of Tr H and of Tr H², (n,) float64 each, and whether they are one exact number."""
    check_operator(operator)
    check_products(products, exact_size, basis_size)
    if operator.shape[0] <= max(products, exact_size):
        both = torch.zeros(2, dtype=torch.float64)
        for own, columns in unit_products(operator):
            both += torch.stack([own.sum(), _dots(columns, columns).sum()])
        return both[:1], both[1:], True
    most = (products - 2) // 2
    size = min(products // 3, most) if basis_size is None else basis_size
    if size > most:
        raise ValueError(
            f"basis_size is {size}; of {products} products it may have {most}, to leave two."
        )
    return *deflated_moments(operator, products, size, generator), False


def deflated_moments(
    operator: LinearOperator, products: int, count: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Hutch++ for Tr A and Tr A²: a sample of each for every vector outside the subspace."""
    size, total = operator.shape[0], products - count
    vectors = TestVectors(operator, total, generator)
    sketch = Sketch(operator, vectors, count)

    def multiplied(columns: Tensor) -> Tensor:
        """Scalar products of columns and images, and of images with themselves, (2, b)."""
        images = operator.matvec(columns)
        if not count:  # else the sketch has been checked
            check_block((columns.T @ images).double(), operator)
        return torch.stack([_dots(columns, images), _dots(images, images)])

    def outside(start: int, stop: int) -> Tensor:
        columns = vectors.columns(start, stop)
        if count:
            sketch.deflate(columns)
            columns *= math.sqrt(size - count) / torch.linalg.vector_norm(columns, dim=0)
        return multiplied(columns)

    inside = torch.zeros(2, 1, dtype=torch.float64)
    for start, stop in blocks(size, 0, count):
        inside += multiplied(sketch.rows[start:stop].T).sum(1, keepdim=True)
    terms = [outside(start, stop) for start, stop in blocks(size, count, total)]
    traces, squares = inside + torch.cat(terms, dim=1)
    return traces, squares


def _leave_one_out(
    operator: LinearOperator, count: int, generator: torch.Generator | None
) -> Tensor:
    """XTrace: an estimate from each test vector, whose subspace is that of all others.

    As A is symmetric, Qᵀ A Ω = R: neither Ω nor A Q has to be held.
    """
    size = operator.shape[0]
    vectors = TestVectors(operator, count, generator)
    sketch = Sketch(operator, vectors, count)
    within = torch.empty(count, count, dtype=torch.float64)  # Qᵀ A Q
    for start, stop in blocks(size, 0, count):
        within[:, start:stop] = sketch.project(operator.matvec(sketch.rows[start:stop].T))
    s, r, overlap = sketch.omitted(), sketch.triangle, sketch.overlap
    kept = overlap - s * (s * overlap).sum(0)  # of ω_i in the subspace of all others
    outside = ((overlap - 2 * kept) * r + kept * (within @ kept)).sum(0)
    outside *= (size - count + 1) / (size - kept.square().sum(0))  # to the right length
    return within.trace() - (s * (within @ s)).sum(0) + outside


def check_products(products: int, exact_size: int, basis_size: int | None) -> None:
    """Raise ValueError unless the numbers of products and of basis vectors are possible."""
    check_count("products", products, 4)
    check_count("exact_size", exact_size, 0)
    if basis_size is not None and not (is_count(basis_size, 0) and basis_size <= products // 2):
        raise ValueError(
            f"basis_size is {basis_size!r}; it must be a whole number between 0 and half of "
            f"products, {products // 2}."
        )


def unit_products(operator: LinearOperator) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of the diagonal, float64 on the CPU, with their columns (P, b)."""
    size, largest = operator.shape[0], 0.0
    for start in range(0, size, _COLUMNS):
        stop = min(start + _COLUMNS, size)
        block = torch.zeros(size, stop - start, dtype=operator.dtype, device=operator.device)
        block[start:stop].fill_diagonal_(1.0)
        columns = operator.matvec(block)
        largest = max(largest, float(columns.abs().max()))
        check_symmetric(columns[start:stop], largest, operator.noise)
        yield columns[start:stop].diagonal().double().cpu(), columns


def mean_and_error(samples: Tensor) -> tuple[float, float]:
    """Mean of samples (n,) and its standard error; 0 for the one sample that is exact."""
    count = len(samples)
    return float(samples.mean()), float(samples.std()) / math.sqrt(count) if count > 1 else 0.0


def _dots(first: Tensor, second: Tensor) -> Tensor:
    """Scalar products of the columns, (b,) float64 on the CPU."""
    pairs = zip(first.T, second.T, strict=True)
    return torch.stack([dot(a, b) for a, b in pairs]).cpu()
