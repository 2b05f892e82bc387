"""Start vectors for the next state of a trajectory, predicted from the last seven."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sharpflow.arguments import check_count

_ORDER = 3
_RIDGE = 1e-5


class WarmStart:
    """Predicts the eigenvectors of the next state from those of the states before it.

    Changes dᵢ = Vᵢ − Vᵢ₋₁ are taken for linear in the three before them, with the coefficients that
    fit the last `states` best (later ones count more), and the guess is the last vectors plus
    the change that they predict. Any sum of three motions is of this form whose changes are
    multiplied by a factor at every step: the drift and the swing of period two at the edge of
    stability, and a swing that dies out. The guess costs no product, only `states`·P·k numbers of
    memory, and merely starts the solver, whose convergence test is unchanged.

    `EigenResult.refined` is what to feed it: vectors that were only just accurate enough
    make poor predictions.

    Args:
        states: number of them that are kept; with fewer than three the last vectors are the guess.

    Raises:
        ValueError: it is below 1.
    """

    def __init__(self, states: int = 7) -> None:
        check_count("history", states)
        self.states = states
        self.clear()

    def __bool__(self) -> bool:
        return self._last is not None

    def clear(self) -> None:
        """Forget all states."""
        self._last: Tensor | None = None
        self._changes: list[Tensor] = []  # the oldest first
        self._gram = torch.zeros(0, 0, dtype=torch.float64)  # of their inner products

    def update(self, vectors: Tensor) -> None:
        """Take the orthonormal eigenvectors (P, k) found at a state."""
        last = self._last
        if last is not None and last.shape != vectors.shape:
            self.clear()
            last = None
        if last is not None:
            # Signs, and bases of eigenvalues that come close, are free: the nearest are taken.
            left, _, right = torch.linalg.svd(vectors.T @ last)
            vectors = ((left @ right).T @ vectors.T).T  # vectors are rows in memory
            self._add(vectors - last)
        self._last = vectors

    def _add(self, change: Tensor) -> None:
        if self.states < 3:
            return
        kept = min(len(self._changes), self.states - 2)
        self._changes = [*self._changes[len(self._changes) - kept :], change]
        products = [torch.sum(change * other) for other in self._changes]
        gram = torch.zeros(kept + 1, kept + 1, dtype=torch.float64)
        gram[:kept, :kept] = self._gram[len(self._gram) - kept :, len(self._gram) - kept :]
        gram[kept] = gram[:, kept] = torch.stack(products).double().cpu()
        self._gram = gram

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next guess depends on; the tensors are not copied."""
        return {"last": self._last, "changes": list(self._changes), "gram": self._gram}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take over what `state_dict` gave, with the vectors on a device."""
        last = state["last"]
        self._last = None if last is None else last.to(device)
        self._changes = [change.to(device) for change in state["changes"]]
        self._gram = state["gram"].cpu()

    def guess(self) -> Tensor | None:
        """Start vectors (P, k), not quite orthonormal; None before the first state."""
        if self._last is None or len(self._changes) < 2:
            return self._last
        step = _coefficients(self._gram).tolist()
        guess = self._last
        for factor, change in zip(step, reversed(self._changes), strict=False):
            guess = guess.add(change, alpha=factor)
        return guess


def _coefficients(gram: Tensor) -> Tensor:
    """Of the linear prediction of the next change from the last ones, the latest first.

    `gram`: inner products of the changes, (m, m), float64, the oldest first.
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
