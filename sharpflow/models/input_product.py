"""Products with a network's inputs that skip the zeros of compressed ones."""

import itertools

import numpy as np
import torch
from torch import Tensor

_SMALLEST = 256
_ROWS, _FEWEST, _MOST = 100, 4, 10  # of a block; blocks


class InputProduct:
    """Products with X and Xᵀ, X (n, d) or (R, n, d).

    R is the number of runs, each of which has its own samples then. Samples in more dimensions than
    there are of them are stored as a lower triangular X (their coordinates in the basis of a QR
    decomposition). Of such an X the zeros to the right of blocks of some hundred rows are skipped,
    which leaves 0.625 of the work at 400 samples and 0.55 at 1,000.

    Attributes:
        matrix: X.
        kept: share of the multiplications that is left.
    """

    def __init__(self, matrix: Tensor):
        self.matrix = matrix
        self._blocks = _staircase(matrix)
        rows = [(rows.stop - rows.start) * width for rows, width in self._blocks]
        self.kept = sum(rows) / matrix.numel() if rows else 1.0

    def times(self, right: Tensor) -> Tensor:
        """X times (d, m) or (b, d, m)."""
        x = self.matrix
        if not self._blocks:
            return x @ right
        lead = np.broadcast_shapes(x.shape[:-2], right.shape[:-2])  # torch's imports sympy
        result = right.new_empty(*lead, x.shape[-2], right.shape[-1])
        for rows, width in self._blocks:
            block, reached = x[..., rows, :width], right[..., :width, :]
            torch.matmul(block, reached, out=result[..., rows, :])
        return result

    def transposed_times(self, right: Tensor, out: Tensor | None = None) -> Tensor:
        """Xᵀ times (n, m) or (b, n, m), written to ``out`` (..., d, m) where it is given."""
        x = self.matrix
        if out is None and not self._blocks:
            return x.mT @ right
        if out is None:
            lead = np.broadcast_shapes(x.shape[:-2], right.shape[:-2])
            out = right.new_empty(*lead, x.shape[-1], right.shape[-1])
        if not self._blocks:
            return torch.matmul(x.mT, right, out=out)
        previous = 0
        for rows, width in self._blocks:
            columns = slice(previous, width)
            part, below = x[..., rows.start :, columns].mT, right[..., rows.start :, :]
            torch.matmul(part, below, out=out[..., columns, :])
            previous = width
        out[..., previous:, :] = 0.0
        return out


def _staircase(inputs: Tensor) -> list[tuple[slice, int]]:
    """Row blocks of lower triangular inputs with the columns they reach.

    Empty where the inputs are not lower triangular, are too small to gain, or are not on the CPU.
    """
    n, d = inputs.shape[-2:]
    if min(n, d) < _SMALLEST or inputs.device.type != "cpu":
        return []
    if bool(inputs[..., 0, 1:].any()) or bool(torch.triu(inputs, 1).any()):
        return []
    count = min(max(n // _ROWS, _FEWEST), _MOST)
    edges = [n * i // count for i in range(count + 1)]
    return [(slice(lower, upper), min(upper, d)) for lower, upper in itertools.pairwise(edges)]
