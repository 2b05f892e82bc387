"""The loss of one batch after another."""

from collections.abc import Iterator
from typing import Any

from sharpflow.curvature.linear_operator import LinearOperator
from sharpflow.curvature.streamed_loss import LossOfBatches


class BatchLoss(LossOfBatches):
    """The loss of one batch after another; batch norm takes each one's statistics."""

    called = "the loss of a batch"
    _first: Any = None

    def start(self, first: Any) -> None:
        """Check the loss on a batch, which is then its one part."""
        self._first = first
        self._check(first)

    def batch_norm(self) -> str | None:
        """Name of a batch norm that uses the batch's statistics, if there is one."""
        return self._batch_norm()

    def parts(self) -> Iterator[tuple[Any, float]]:
        """The batch that it was started with."""
        yield self._first, 1.0

    def hessian(self) -> LinearOperator:
        """Hessian of the loss of the batch that it was started with."""
        return self.part_hessian(self._first, self.parameters())
