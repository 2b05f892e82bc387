"""The dominant subspace of a symmetric operator, and random vectors made anew when needed."""

from collections.abc import Iterator

import torch
from torch import Tensor

from sharpflow.curvature.linear_operator import LinearOperator, check_symmetric

_BLOCK_NUMBERS = 1 << 22  # most numbers of a block of vectors, unless it is one vector
_PIECE = 1 << 18


def blocks(size: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Ranges that make up `start` … `stop`: as many vectors (size,) as cost little memory."""
    step = max(1, _BLOCK_NUMBERS // size)
    for begin in range(start, stop, step):
        yield begin, min(begin + step, stop)


def dot(first: Tensor, second: Tensor) -> Tensor:
    """Scalar product of two vectors (P,), summed in float64 without a copy of them in it."""
    pieces = zip(first.split(_PIECE), second.split(_PIECE), strict=True)
    return torch.stack([torch.dot(a.double(), b.double()) for a, b in pieces]).sum()


def check_block(square: Tensor, operator: LinearOperator) -> None:
    """Raise ValueError where Vᵀ A V, (k, k), of some vectors and their images is not symmetric."""
    if len(square) > 1:
        check_symmetric(square, float(square.abs().max()), operator.noise)


class TestVectors:
    """Independent random vectors with E[ω ωᵀ] = 1, drawn again at each call: none is held.

    Args:
        operator: whose size, dtype and device they have.
        count: how many there are.
        generator: for their seeds; by default one with a fixed seed.
        signs: entries ±1; otherwise uniform on the sphere of radius √P.
    """

    __test__ = False  # not a test of pytest's

    def __init__(
        self,
        operator: LinearOperator,
        count: int,
        generator: torch.Generator | None,
        signs: bool = False,
    ) -> None:
        generator = generator or torch.Generator().manual_seed(0)
        self._like = {"dtype": operator.dtype, "device": operator.device}
        self._size, self._device, self._signs = operator.shape[0], generator.device, signs
        drawn = torch.randint(2**62, (count,), generator=generator, device=generator.device)
        self._seeds: list[int] = drawn.tolist()

    def columns(self, start: int, stop: int) -> Tensor:
        """Vectors `start` … `stop`, (P, b)."""
        rows = torch.empty(stop - start, self._size, **self._like)
        for row, seed in zip(rows, self._seeds[start:stop], strict=True):
            source = torch.Generator(self._device).manual_seed(seed)
            options = {"generator": source, "device": self._device}
            if self._signs:
                row.copy_(torch.randint(2, (self._size,), dtype=torch.uint8, **options))
                row.mul_(2).sub_(1)
            else:
                row.copy_(torch.randn(self._size, dtype=row.dtype, **options))
                row *= self._size**0.5 / torch.linalg.vector_norm(row)
        return rows.T


class Sketch:
    """Orthonormal basis Q of the range of A Ω: k products, which it takes the place of.

    Args:
        operator: A, (P, P), symmetric.
        vectors: Ω, of which the first k are used.
        count: k ≤ P.

    Attributes:
        rows: Qᵀ, (k, P).
        triangle: R with A Ω = Q R, (k, k), upper triangular, float64. A product that is a
            combination of those before it has a zero on the diagonal, and a random direction in Q.
        overlap: Qᵀ Ω, (k, k), float64.

    Raises:
        ValueError: Ωᵀ A Ω is not symmetric.
    """

    def __init__(self, operator: LinearOperator, vectors: TestVectors, count: int) -> None:
        size = operator.shape[0]
        self.rows = torch.empty(count, size, dtype=operator.dtype, device=operator.device)
        self.triangle = torch.zeros(count, count, dtype=torch.float64)
        for start, stop in blocks(size, 0, count):
            self.rows[start:stop] = operator.matvec(vectors.columns(start, stop)).T
            for index in range(start, stop):
                self._orthonormalise(index)
        self.overlap = torch.empty(count, count, dtype=torch.float64)
        for start, stop in blocks(size, 0, count):
            self.overlap[:, start:stop] = self.project(vectors.columns(start, stop))
        check_block(self.overlap.T @ self.triangle, operator)

    def project(self, columns: Tensor) -> Tensor:
        """Qᵀ times columns (P, b): (k, b) in float64."""
        return (self.rows @ columns).double().cpu()

    def deflate(self, columns: Tensor) -> Tensor:
        """(1 − Q Qᵀ) times columns (P, b), in their place."""
        return columns.addmm_(self.rows.T, self.rows @ columns, alpha=-1.0)

    def omitted(self) -> Tensor:
        """Unit columns s_i (k, k), orthogonal to all columns of R but the i-th.

        They are R⁻ᵀ e_i, normalised: Q s_i is the direction that Q loses without test vector i. R
        may be singular, so its singular values are bounded from below by rounding.
        """
        left, values, right = torch.linalg.svd(self.triangle)
        floor = float(values.max()) * torch.finfo(values.dtype).eps or 1.0
        inverse = (left / values.clamp(min=floor)) @ right
        return inverse / torch.linalg.vector_norm(inverse, dim=0)

    def _orthonormalise(self, index: int) -> None:
        new, found = self.rows[index], self.triangle[:index, index]
        length = self._remove(index, found)
        if length <= 10 * torch.finfo(new.dtype).eps * float(found.norm()) or length == 0.0:
            source = torch.Generator().manual_seed(index)
            new.copy_(torch.randn(len(new), generator=source, dtype=new.dtype))
            length = self._remove(index, torch.zeros_like(found))
        else:
            self.triangle[index, index] = length
        new /= length

    def _remove(self, index: int, found: Tensor) -> float:
        """Take the rows before it out of a row; adds their shares to `found`; its new length."""
        known, new = self.rows[:index], self.rows[index]
        length = float(torch.linalg.vector_norm(new))
        for _ in range(4 if index else 0):
            before, shares = length, known @ new
            new.addmv_(known.T, shares, alpha=-1.0)
            found += shares.double().cpu()
            length = float(torch.linalg.vector_norm(new))
            if length > before / 2:  # little was removed, so what is left is clean
                break
        return length
