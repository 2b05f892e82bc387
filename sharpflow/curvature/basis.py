"""Rows of equal length that a solver gathers: where and how exactly they are kept is chosen."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK = 2**22  # numbers: small rows lie together, for one product; large ones each for itself
_STRIPE = 2**16  # columns that are turned at a time


@dataclass(frozen=True)
class Storage:
    """Where a solver keeps its basis.

    Attributes:
        device: of the rows; by default the operator's. On the CPU they cost no memory of a GPU.
        dtype: of the rows; by default the operator's. In bfloat16 they take half of float32's
            memory, and residuals below some 3e-3 ‖H‖ are out of reach: enough for an eigenvalue to
            1 % (`accuracy`), not for a `tol` of 1e-3.
    """

    device: torch.device | str | None = None
    dtype: torch.dtype | None = None


class Rows:
    """A growing (count, P) matrix, in pieces, so that growing copies nothing.

    Args:
        length: P.
        dtype: of what goes in and out.
        device: likewise.
        storage: how the rows are kept.

    Attributes:
        count: rows held.
    """

    def __init__(
        self, length: int, dtype: torch.dtype, device: torch.device, storage: Storage
    ) -> None:
        self.length, self.dtype, self.device = length, dtype, device
        self.count = 0
        self._kept = {
            "dtype": storage.dtype or dtype,
            "device": torch.device(storage.device or device),
        }
        self._plain = self._kept == {"dtype": dtype, "device": device}
        self._height = max(1, min(8, _CHUNK // length))
        self._chunks: list[Tensor] = []

    def append(self, row: Tensor) -> None:
        """Keep a row (P,), which is the caller's no longer: a long one is kept as it is."""
        place, offset = divmod(self.count, self._height)
        self.count += 1
        if self._plain and self._height == 1:
            self._chunks[place:] = [row[None]]
            return
        if place == len(self._chunks):
            self._chunks.append(torch.empty(self._height, self.length, **self._kept))
        self._chunks[place][offset] = row

    def turn(self, weights: Tensor) -> None:
        """Replace the rows by `weights` (j, count) times them, j ≤ count, in place."""
        weights = weights.to(dtype=self.dtype, device=self.device)
        pieces = [piece for _, piece in self._pieces(raw=True)]
        for start in range(0, self.length, _STRIPE):
            columns = slice(start, start + _STRIPE)
            stripe = self._out(torch.cat([piece[:, columns] for piece in pieces]))
            for row, new in enumerate(weights @ stripe):
                self._chunks[row // self._height][row % self._height, columns] = new
        self.count = len(weights)
        del self._chunks[-(-self.count // self._height) :]

    def clear(self) -> None:
        """Keep none."""
        self.count = 0
        self._chunks.clear()

    def tail(self, start: int) -> Tensor:
        """Rows from `start` on, (b, P); at a boundary of pieces a copy."""
        first, offset = divmod(start, self._height)
        if self.count <= (first + 1) * self._height:
            return self._out(self._chunks[first][offset : offset + self.count - start])
        return torch.cat([piece for _, piece in self._pieces()])[start:]

    def project_out(self, row: Tensor) -> Tensor:
        """Take the components along the (orthonormal) rows from `row` (P,), in place.

        Returns:
            The components, (count,), float64 on the CPU.
        """
        found = [row.new_zeros(0)]
        for _, piece in self._pieces():
            found.append(piece @ row)
            row.addmv_(piece.T, found[-1], alpha=-1.0)
        return torch.cat(found).double().cpu()

    def combine(self, weights: Tensor, into: Tensor | None = None) -> Tensor:
        """`weights` (j, count) times the rows, (j, P); added to `into` where it is given."""
        weights = weights.to(dtype=self.dtype, device=self.device)
        for start, piece in self._pieces():
            part = weights[:, start : start + len(piece)]
            into = part @ piece if into is None else into.addmm_(part, piece)
        assert into is not None
        return into

    def _pieces(self, raw: bool = False) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, self.count, self._height):
            held = min(self._height, self.count - start)
            piece = self._chunks[start // self._height][:held]
            yield start, piece if raw else self._out(piece)

    def _out(self, rows: Tensor) -> Tensor:
        return rows if self._plain else rows.to(dtype=self.dtype, device=self.device)
