"""The loss of one batch after another."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sharpflow.curvature.batches import batch_size, change_rows, changed
from sharpflow.curvature.graphs import cast
from sharpflow.curvature.linear_operator import LinearOperator
from sharpflow.curvature.model_loss import LossOfModel
from sharpflow.curvature.streamed_loss import Forward, loss_of_pairs


class BatchLoss(LossOfModel):
    """The loss of one batch after another; batch norm takes each one's statistics.

    Args:
        model, only, dtype: as for `LossOfModel`.
        loss: as for `StreamedLoss`.
        forward, data: as for `StreamedLoss`.
    """

    called = "the loss of a batch"

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor],
        forward: Forward | None = None,
        only: str | Sequence[str] | None = None,
        dtype: torch.dtype | None = None,
        data: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(model, only, dtype)
        self._loss = loss
        self._forward, of_pairs = loss_of_pairs(loss, forward)
        self._data = data or of_pairs
        self._first: Any = None

    def start(self, first: Any) -> None:
        """Check the loss on a batch, which is then its one part."""
        self._first = first
        self._check(first)

    def loss_of(self, part: Any) -> Tensor:
        """The loss of a batch at the parameters that the model has."""
        if self._forward is None:
            return self._loss(self.model, part)
        return self._loss(self._forward(self.model, part), self._data(part))

    def rows_of(self, part: Any, rows: Tensor) -> Any:
        """The batch that has some rows of a batch: of every tensor with as many as its first."""
        count = batch_size(part)
        return change_rows(part, count, lambda tensor: tensor[rows.to(tensor.device)])

    def cast(self, batch: Any) -> Any:
        """A batch in the precision of the measurement."""
        return changed(batch, lambda tensor: cast(tensor, self.dtype))

    def batch_norm(self) -> str | None:
        """Name of a batch norm that uses the batch's statistics, if there is one."""
        return self._batch_norm()

    def parts(self) -> Iterator[tuple[Any, float]]:
        """The batch that it was started with."""
        yield self._first, 1.0

    def hessian(self) -> LinearOperator:
        """Hessian of the loss of the batch that it was started with."""
        return self.part_hessian(self._first, self.parameters())
