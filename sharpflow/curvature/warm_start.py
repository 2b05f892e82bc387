"""Start vectors for the next state of a trajectory, extrapolated from the last three."""

import torch
from torch import Tensor


class WarmStart:
    """Predicts the eigenvectors of the next state from those of the states before it.

    V_{t+1} ≈ V_t + a (V_t − V_{t−1}), with the a that would have predicted V_t best, within
    [−1, 1]. Vectors that move steadily give a near 1; at the edge of stability they swing with
    period two, a is near −1 and the prediction is V_{t−1}. The guess costs no product and only
    starts the solver, whose convergence test is unchanged.
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
        self._blocks = [*self._blocks[-2:], vectors]

    def guess(self) -> Tensor | None:
        """Start vectors (P, k), not quite orthonormal; None before the first state."""
        if not self._blocks:
            return None
        if len(self._blocks) < 3:
            return self._blocks[-1]
        last, middle, first = self._blocks[::-1]
        turn, before = last - middle, middle - first
        moved = float(before.square().sum())
        ratio = float((turn * before).sum()) / moved if moved > 0 else 0.0
        return torch.add(last, turn, alpha=max(-1.0, min(1.0, ratio)))
