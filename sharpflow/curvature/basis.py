"""Rows of equal length that a solver gathers: where and how exactly they are kept is chosen."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK = 2**22  # numbers: small rows lie together, for one product; large ones each for itself


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
        """Keep a row (P,)."""
        place, offset = divmod(self.count, self._height)
        if place == len(self._chunks):
            self._chunks.append(torch.empty(self._height, self.length, **self._kept))
        self._chunks[place][offset] = row
        self.count += 1

    def replace(self, rows: Tensor) -> None:
        """Keep these rows (b, P) and no others."""
        self.count = 0
        for row in rows:
            self.append(row)

    def clear(self) -> None:
        """Keep none."""
        self.count = 0

    def tail(self, start: int) -> Tensor:
        """Rows from `start` on, (b, P); at a boundary of pieces a copy."""
        first, offset = divmod(start, self._height)
        if self.count <= (first + 1) * self._height:
            return self._out(self._chunks[first][offset : offset + self.count - start])
        return torch.cat([piece for _, piece in self._pieces()])[start:]

    def products(self, rows: Tensor) -> Tensor:
        """Inner products with `rows` (b, P): (count, b)."""
        if not self.count:
            return rows.new_zeros(0, len(rows))
        return torch.cat([piece @ rows.T for _, piece in self._pieces()])

    def overlap(self, other: "Rows") -> Tensor:
        """Inner products with the rows of another: (count, other.count), piece by piece."""
        return torch.cat([self.products(piece) for _, piece in other._pieces()], dim=1)

    def project_out(self, row: Tensor) -> None:
        """Take the components along the (orthonormal) rows from `row` (P,), in place."""
        for _, piece in self._pieces():
            row.addmv_(piece.T, piece @ row, alpha=-1.0)

    def combine(self, weights: Tensor, into: Tensor | None = None) -> Tensor:
        """`weights` (j, count) times the rows, (j, P); added to `into` where it is given."""
        weights = weights.to(dtype=self.dtype, device=self.device)
        for start, piece in self._pieces():
            part = weights[:, start : start + len(piece)]
            into = part @ piece if into is None else into.addmm_(part, piece)
        assert into is not None
        return into

    def _pieces(self) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, self.count, self._height):
            held = min(self._height, self.count - start)
            yield start, self._out(self._chunks[start // self._height][:held])

    def _out(self, rows: Tensor) -> Tensor:
        return rows if self._plain else rows.to(dtype=self.dtype, device=self.device)
