"""Start vectors for the next state of a trajectory, predicted from the last six."""

from itertools import pairwise

import torch
from torch import Tensor

_STATES = 6
_ORDER = 2
_RIDGE = 1e-5


class WarmStart:
    """Predicts the eigenvectors of the next state from those of the states before it.

    Changes dᵢ = Vᵢ − Vᵢ₋₁ are taken for linear in the two before them, dᵢ ≈ a dᵢ₋₁ + b dᵢ₋₂, with
    the a and b that fit the last six states best (later ones count more), and the guess is the
    last vectors plus the change that they predict. A steady motion, the swing of period two at the
    edge of stability, and one that dies out are of this form. The guess costs no product, only
    6·P·k numbers of memory, and merely starts the solver, whose convergence test is unchanged.

    :attr:`EigenResult.refined` is what to feed it: vectors that were only just accurate enough
    make poor predictions.
    """

    def __init__(self) -> None:
        self._blocks: list[Tensor] = []

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def clear(self) -> None:
        """Forget all states."""
        self._blocks = []

    def update(self, vectors: Tensor) -> None:
        """Take the orthonormal eigenvectors (P, k) found at a state."""
        if self._blocks and self._blocks[-1].shape != vectors.shape:
            self.clear()
        if self._blocks:
            # Signs, and bases of eigenvalues that come close, are free: the nearest are taken.
            left, _, right = torch.linalg.svd(vectors.T @ self._blocks[-1])
            vectors = vectors @ (left @ right)
        self._blocks = [*self._blocks[1 - _STATES :], vectors]

    def guess(self) -> Tensor | None:
        """Start vectors (P, k), not quite orthonormal; None before the first state."""
        if not self._blocks:
            return None
        last = self._blocks[-1]
        if len(self._blocks) < 3:
            return last
        changes = torch.stack([b - a for a, b in pairwise(self._blocks)]).flatten(1)
        step = _coefficients((changes @ changes.T).double().cpu()).to(changes)
        return last + (step @ changes[-len(step) :].flip(0)).view_as(last)


def _coefficients(gram: Tensor) -> Tensor:
    """Of the linear prediction of the next change from the last ones, the latest first.

    ``gram``: inner products of the changes, (m, m), float64, the oldest first.
    """
    count = len(gram)
    order = min(_ORDER, count // 2)
    normal = torch.zeros(order, order, dtype=gram.dtype)
    right = torch.zeros(order, dtype=gram.dtype)
    for target in range(order, count):
        before = [target - 1 - lag for lag in range(order)]
        weight = 0.5 ** (count - 1 - target)
        normal += weight * gram[before][:, before]
        right += weight * gram[before, target]
    size = normal.diagonal().mean()
    if not size > 0:
        return torch.zeros(order, dtype=gram.dtype)
    ridge = _RIDGE * size * torch.eye(order, dtype=gram.dtype)
    return torch.linalg.solve(normal + ridge, right)
