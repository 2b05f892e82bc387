"""The loss of each sample alone, and whether the loss of a batch is made of it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sharpflow.curvature.batches import batch_size, change_rows, tensors_of
from sharpflow.curvature.graphs import graph_mode
from sharpflow.curvature.linear_operator import check_finite
from sharpflow.curvature.model_loss import ModelLoss
from sharpflow.curvature.streamed_loss import StreamedLoss

OutputLoss = Callable[[Any, Any], Tensor]
"""loss(outputs, data), a scalar."""
_Compared = tuple[Tensor, Tensor, Tensor]
"""A loss, its gradient in the outputs, and the size that rounding of it is measured by."""
_SLACK = 1e-4


def sample_losses(loss: OutputLoss, outputs: Tensor, data: Any) -> Tensor:
    """Losses (n,) of a batch's samples, each that of a batch of one.

    Args:
        loss: loss(outputs, data) of a batch.
        outputs: (n, …).
        data: what the loss reads beside them; its tensors with n rows are taken row by row.
    """
    count = len(outputs)
    rows = [tensor for tensor in tensors_of(data) if tensor.ndim and len(tensor) == count]

    def alone(output: Tensor, *own: Tensor) -> Tensor:
        left = iter(own)
        return loss(output[None], change_rows(data, count, lambda _: next(left)[None])).reshape(())

    try:
        return torch.vmap(alone)(outputs, *rows)
    except (RuntimeError, ValueError, TypeError):  # what vmap has no rule for is done in a loop
        return torch.stack([alone(outputs[i], *(t[i] for t in rows)) for i in range(count)])


def check_samples(source: ModelLoss | StreamedLoss, loss: OutputLoss) -> None:
    """Check that the loss of every part is the mean of its samples' losses, or their sum.

    Compared are values and gradients in the outputs, at parameters that were moved: where a loss
    is zero or a layer of zeros hides what it does, everything agrees. The sum is taken where the
    data are one batch.

    Raises:
        ValueError: it is neither, a part has no row a sample, a row of the outputs depends on
            other rows, or an output or a loss is not finite.
    """
    with torch.no_grad():
        moved = source.moved()
    for place, (part, _) in enumerate(source.shares()):
        with torch.no_grad():
            outputs = source.inside(moved, partial(source.outputs_of, part))
        data = source.data_of(part)
        count = batch_size(data)
        if not isinstance(outputs, Tensor) or outputs.shape[:1] != (count,):
            raise ValueError(
                "curvature from single samples needs outputs that are a tensor with a row a sample."
            )
        with source.naming(part):
            check_finite(outputs, "the network's output")
        if place == 0:
            _refuse_mixing(source, moved, part, outputs)
        whole, mean, total = source.inside(moved, partial(_compared, loss, outputs, data))
        with source.naming(part):
            check_finite(whole[0], "the loss")
        allowed = [mean] if isinstance(source, StreamedLoss) else [mean, total]
        if not any(_agree(whole, each) for each in allowed):
            raise ValueError(
                "curvature from single samples needs a loss that is the mean over samples of the "
                "loss of one: its value and its gradient are others (class weights, ignored "
                "targets and statistics over the batch do that)."
            )


def _compared(loss: OutputLoss, outputs: Tensor, data: Any) -> list[_Compared]:
    """The loss of the whole, and the mean and the sum of those of the samples."""
    with graph_mode():
        leaf = outputs.detach().clone().requires_grad_()
        each = sample_losses(loss, leaf, data)
        size = each.detach().abs()
        kinds = [(loss(leaf, data), size), (each.mean(), size.mean()), (each.sum(), size.sum())]
        return [
            (
                value.detach(),
                torch.autograd.grad(value, leaf, retain_graph=True, materialize_grads=True)[0],
                scale,
            )
            for value, scale in kinds
        ]


def _agree(whole: _Compared, own: _Compared) -> bool:
    values = (whole[0] - own[0]).abs().max() <= _SLACK * own[2]
    slopes = (whole[1] - own[1]).abs().max() <= _SLACK * whole[1].abs().max()
    return bool(values) and bool(slopes)


def _refuse_mixing(
    source: ModelLoss | StreamedLoss, moved: dict[str, Tensor], part: Any, outputs: Tensor
) -> None:
    """Check that no row of the outputs depends on another one.

    Any two rows differ in a binary digit of their places, so that the rows that have it and those
    that do not, each by themselves, show what one does to the other.

    Raises:
        ValueError: one does.
    """
    places = torch.arange(len(outputs))
    slack = _SLACK * float(outputs.abs().max())
    for digit in range((len(outputs) - 1).bit_length()):
        has = (places >> digit) % 2 == 1
        for rows in (places[has], places[~has]):
            with torch.no_grad():
                few = source.rows_of(part, rows)
                alone = source.inside(moved, partial(source.outputs_of, few))
            expected = outputs[rows.to(outputs.device)]
            if alone.shape != expected.shape or not torch.allclose(
                alone, expected, rtol=0, atol=slack
            ):
                raise ValueError(
                    "a row of the outputs depends on other rows, so that single samples have no "
                    "loss of their own; where batch norm uses the batch's statistics, call "
                    "model.eval()."
                )
