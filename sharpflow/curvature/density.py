"""Spectral density of a symmetric operator by stochastic Lanczos quadrature."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sharpflow.arguments import check_count, check_positive
from sharpflow.curvature.linear_operator import (
    LinearOperator,
    check_operator,
    check_skew,
    over_unit,
)
from sharpflow.curvature.sketch import dot


@dataclass(frozen=True)
class SpectralDensity:
    """An estimate of how the eigenvalues of a (P, P) operator are spread.

    Each random vector gives a quadrature rule of its own; means are over the vectors, and standard
    errors from their spread.

    Attributes:
        nodes: (draws, steps), Ritz values, NaN where a rule has fewer.
        weights: (draws, steps), of the nodes; a row adds up to 1.
        size: P.
        matvecs: products used.
    """

    nodes: np.ndarray
    weights: np.ndarray
    size: int
    matvecs: int

    def mean(self, function: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
        """Mean of f(λ) over the eigenvalues (Tr f(H) / P), and its standard error.

        The error is that of the draws. What the nodes miss of f comes on top; it is nothing for a
        polynomial of a degree below twice the number of steps.

        Args:
            function: f, of an array (n,); it is not asked where a rule has no node.
        """
        terms, held = np.zeros(self.nodes.shape), ~np.isnan(self.nodes)
        terms[held] = function(self.nodes[held]) * self.weights[held]
        return _mean(terms.sum(axis=1))

    def share(self, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
        """Share of the eigenvalues in [low, high), and its standard error.

        A node stands for the eigenvalues about it, so ends that lie inside a dense part of the
        spectrum are resolved to the distance of the nodes there.
        """
        return self.mean(lambda nodes: (nodes >= low) & (nodes < high))

    def moment(self, power: int) -> tuple[float, float]:
        """Mean of λ^power over the eigenvalues (Tr H^power / P), and its standard error.

        Exact but for the draws for powers below twice the number of steps.
        """
        return self.mean(lambda nodes: nodes**power)

    def smoothed(self, grid: ArrayLike, width: float) -> tuple[np.ndarray, np.ndarray]:
        """Density convolved with a normal one of a standard deviation, and its standard error.

        Args:
            grid: λ, (m,).
            width: standard deviation, positive, in the units of λ.

        Returns:
            Two arrays (m,), per unit of λ.

        Raises:
            ValueError: the width is not positive, or the grid has not one dimension.
        """
        check_positive("width", width)
        at = np.asarray(grid, dtype=np.float64)
        if at.ndim != 1:
            raise ValueError(f"grid has the shape {at.shape}; it must be (m,).")
        nodes, weights = np.nan_to_num(self.nodes), np.nan_to_num(self.weights)
        bells = np.exp(-(((at[:, None, None] - nodes) / width) ** 2) / 2)
        each = (bells * weights).sum(axis=2) / (width * math.sqrt(2 * math.pi))
        return each.mean(axis=1), _error(each, axis=1)


def spectral_density(
    operator: LinearOperator,
    draws: int = 8,
    steps: int = 40,
    generator: torch.Generator | None = None,
    *,
    reorthogonalise: bool = True,
) -> SpectralDensity:
    """Stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017; Ghorbani et al. 2019).

    Costs `draws` × `steps` products. With full reorthogonalisation memory is (`steps` + 3)·P
    numbers, and what a product takes; without it 5 P for any number of steps. Rounding then gives
    converged eigenvalues several nodes, *ghosts*, that share one weight: shares, moments and the
    density are as good (Chen, Trogdon and Ubaru 2021), but a node more or less means nothing, and
    extreme eigenvalues need some more steps.

    A rule is within π (λ_max − λ_min) / (4 `steps`) of the spectrum that its vector sees, in the
    Wasserstein distance (Jackson's bound, as both have the same 2 `steps` − 1 moments), and nearer
    where eigenvalues lie apart. The standard errors are those of the draws alone.

    Args:
        operator: (P, P), symmetric.
        draws: number of random vectors, at least two for a standard error.
        steps: products with each.
        generator: for the vectors; by default one with a fixed seed.
        reorthogonalise: whether each Lanczos vector is made orthogonal to all before it.

    Returns:
        The rules.

    Raises:
        ValueError: under two draws, or no step, or they are no whole numbers.
    """
    check_operator(operator)
    check_count("draws", draws, 2)
    check_count("steps", steps)
    generator = generator or torch.Generator().manual_seed(0)
    before, longest = operator.products, min(steps, operator.shape[0])
    nodes = np.full((draws, longest), np.nan)
    weights = np.full((draws, longest), np.nan)
    basis = torch.empty(
        longest if reorthogonalise else 2,
        operator.shape[0],
        dtype=operator.dtype,
        device=operator.device,
    )
    for draw in range(draws):
        start = basis[0]
        start.copy_(
            torch.randn(len(start), generator=generator, dtype=start.dtype, device=generator.device)
        )
        start /= torch.linalg.vector_norm(start)
        matrix = _tridiagonal(operator, basis, longest)
        values, vectors = torch.linalg.eigh(matrix)
        nodes[draw, : len(values)] = values.numpy()
        weights[draw, : len(values)] = vectors[0].square().numpy()
    return SpectralDensity(nodes, weights, operator.shape[0], operator.products - before)


def _tridiagonal(operator: LinearOperator, basis: Tensor, steps: int) -> Tensor:
    """Lanczos' matrix, (m, m) with m ≤ steps, float64; smaller where the space is exhausted.

    Args:
        operator: (P, P), symmetric.
        basis: (n, P), room for the last n vectors; the first is the start, of unit length. Those
            that it holds are what the next is made orthogonal to.
        steps: most steps.
    """
    held = len(basis)
    diagonal: list[float] = []
    beside: list[float] = []
    unit = 0.0
    for step in range(steps):
        last = basis[step % held]
        image, unit = over_unit(operator.matvec(last), unit)
        diagonal.append(float(dot(last, image)))
        if step + 1 == steps:
            break
        known = basis[: step + 1]
        along = known @ image
        if held > 2 and step:  # Lanczos' matrix is tridiagonal and symmetric
            above = along[:-1].cpu().tolist()
            above[-1] -= beside[-1]
            largest = max(map(abs, (*diagonal, *beside)))
            check_skew(max(map(abs, above)), largest, operator.noise)
        image = torch.addmv(image, known.T, along, alpha=-1.0)
        image.addmv_(known.T, known @ image, alpha=-1.0)  # for what rounding leaves
        size = float(torch.linalg.vector_norm(image))
        if size <= 10 * torch.finfo(operator.dtype).eps * max(map(abs, (*diagonal, *beside))):
            break
        beside.append(size)
        torch.div(image, size, out=basis[(step + 1) % held])
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    off = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    return (matrix + torch.diag(off, 1) + torch.diag(off, -1)) * (unit or 1.0)


def _mean(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(_error(values, axis=0))


def _error(values: np.ndarray, axis: int) -> np.ndarray:
    return values.std(axis=axis, ddof=1) / math.sqrt(values.shape[axis])
