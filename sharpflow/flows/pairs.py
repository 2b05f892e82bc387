"""Symmetric k×k matrices as the k(k + 1)/2 numbers on and above their diagonal, row by row."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@lru_cache
def pairs(count: int) -> tuple[tuple[int, int], ...]:
    """(i, j) with i ≤ j, in the order of the numbers."""
    return tuple((i, j) for i in range(count) for j in range(i, count))


@lru_cache
def _places(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(count)


def multiplicities(count: int) -> np.ndarray:
    """How often each number stands in the matrix: 1 on the diagonal, else 2."""
    return np.array([1.0 if i == j else 2.0 for i, j in pairs(count)])


def packed(matrix: np.ndarray) -> np.ndarray:
    """The numbers of a symmetric matrix (k, k)."""
    return matrix[_places(len(matrix))]


def unpacked(numbers: np.ndarray, count: int) -> np.ndarray:
    """The symmetric matrix (k, k) of its numbers."""
    matrix = np.empty((count, count))
    matrix[_places(count)] = numbers
    matrix.T[_places(count)] = numbers
    return matrix


def pairwise_rows(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors (p, k) of each pair, as rows: the first and the second of it."""
    first, second = zip(*pairs(vectors.shape[1]), strict=True) if vectors.shape[1] else ((), ())
    rows = vectors.T
    order = [torch.tensor(index, dtype=torch.long, device=rows.device) for index in (first, second)]
    return rows[order[0]], rows[order[1]]
