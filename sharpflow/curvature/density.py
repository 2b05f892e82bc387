"""Spectral density of a symmetric operator by stochastic Lanczos quadrature."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sharpflow.curvature.linear_operator import LinearOperator


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

    def share(self, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
        """Share of the eigenvalues in [low, high), and its standard error.

        A node stands for the eigenvalues about it, so ends that lie inside a dense part of the
        spectrum are resolved to the distance of the nodes there.
        """
        inside = (self.nodes >= low) & (self.nodes < high)
        return _mean(np.where(inside, self.weights, 0.0).sum(axis=1))

    def moment(self, power: int) -> tuple[float, float]:
        """Mean of λ^power over the eigenvalues (Tr H^power / P), and its standard error.

        Exact but for the draws for powers below twice the number of steps.
        """
        terms = np.nan_to_num(self.nodes) ** power * np.nan_to_num(self.weights)
        return _mean(terms.sum(axis=1))

    def smoothed(self, grid: ArrayLike, width: float) -> tuple[np.ndarray, np.ndarray]:
        """Density convolved with a normal one of a standard deviation, and its standard error.

        Args:
            grid: λ, (m,).
            width: standard deviation, positive, in the units of λ.

        Returns:
            Two arrays (m,), per unit of λ.

        Raises:
            ValueError: the width is not positive.
        """
        if not width > 0:
            raise ValueError(f"width is {width}; it must be positive.")
        at = np.asarray(grid, dtype=np.float64)
        nodes, weights = np.nan_to_num(self.nodes), np.nan_to_num(self.weights)
        bells = np.exp(-(((at[:, None, None] - nodes) / width) ** 2) / 2)
        each = (bells * weights).sum(axis=2) / (width * math.sqrt(2 * math.pi))
        return each.mean(axis=1), _error(each, axis=1)


def spectral_density(
    operator: LinearOperator,
    draws: int = 8,
    steps: int = 40,
    generator: torch.Generator | None = None,
) -> SpectralDensity:
    """Stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017; Ghorbani et al. 2019).

    Lanczos from random vectors, with full reorthogonalisation: `draws` × `steps` products, and
    `steps` vectors of memory.

    Args:
        operator: (P, P), symmetric.
        draws: number of random vectors, at least two for a standard error.
        steps: products with each.
        generator: for the vectors; by default one with a fixed seed.

    Returns:
        The rules.

    Raises:
        ValueError: under two draws, or no step.
    """
    if draws < 2 or steps < 1:
        raise ValueError(f"draws is {draws} and steps {steps}; at least 2 and 1 are needed.")
    generator = generator or torch.Generator().manual_seed(0)
    before, longest = operator.products, min(steps, operator.shape[0])
    nodes = np.full((draws, longest), np.nan)
    weights = np.full((draws, longest), np.nan)
    for draw in range(draws):
        start = torch.randn(operator.shape[0], generator=generator, dtype=torch.float64)
        values, vectors = torch.linalg.eigh(_tridiagonal(operator, start, longest))
        nodes[draw, : len(values)] = values.numpy()
        weights[draw, : len(values)] = vectors[0].square().numpy()
    return SpectralDensity(nodes, weights, operator.shape[0], operator.products - before)


def _tridiagonal(operator: LinearOperator, start: Tensor, steps: int) -> Tensor:
    """Lanczos' matrix, (m, m) with m ≤ steps, float64; smaller where the space is exhausted."""
    like = {"dtype": operator.dtype, "device": operator.device}
    basis = torch.empty(steps, operator.shape[0], **like)
    basis[0] = (start / start.norm()).to(**like)
    diagonal: list[float] = []
    beside: list[float] = []
    for step in range(steps):
        image = operator.matvec(basis[step])
        diagonal.append(float(torch.dot(basis[step].double(), image.double())))
        for _ in range(2):  # once more, for what rounding leaves
            known = basis[: step + 1]
            image = image - known.T @ (known @ image)
        size = float(image.double().norm())
        scale = max(map(abs, (*diagonal, *beside)), default=0.0)
        if step + 1 == steps or size <= 10 * torch.finfo(operator.dtype).eps * scale:
            break
        beside.append(size)
        basis[step + 1] = image / size
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    off = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    return matrix + torch.diag(off, 1) + torch.diag(off, -1)


def _mean(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(_error(values, axis=0))


def _error(values: np.ndarray, axis: int) -> np.ndarray:
    return values.std(axis=axis, ddof=1) / math.sqrt(values.shape[axis])
