"""What is known of the losses of `torch.nn` and `torch.nn.functional`."""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from sharpflow.curvature.graphs import cast
from sharpflow.curvature.plain_modules import kind_of


def is_of_torch(loss: object) -> bool:
    """Whether a loss is one of `torch.nn`, which reads outputs and targets."""
    inner = loss.func if isinstance(loss, partial) else loss
    return isinstance(inner, _Loss) or getattr(inner, "__module__", "") == F.__name__


def loss_in(loss: Any, dtype: torch.dtype | None) -> Any:
    """A loss of `torch.nn` with the weights that it holds in another precision; others as they are.

    A class that is derived from one of them may hold the model itself, and is not copied.

    Args:
        loss: any function; of `torch.nn.functional` those that `functools.partial` holds.
        dtype: that precision; None for theirs.
    """
    if dtype is None:
        return loss
    if isinstance(loss, partial):
        tensors = {k: v for k, v in loss.keywords.items() if isinstance(v, Tensor)}
        held = {k: cast(v, dtype) for k, v in tensors.items()}
        return partial(loss, **held) if is_of_torch(loss) else loss
    if type(loss).__module__ != _Loss.__module__ or next(loss.parameters(), None) is not None:
        return loss
    return copy.deepcopy(loss).to(dtype)


def separable(loss_fn: Any, targets: Tensor) -> str | None:
    """Reduction of a loss that is known to be a mean or a sum over samples; None for others."""
    kind = kind_of(loss_fn)
    if kind not in (F.mse_loss, F.cross_entropy, nn.MSELoss, nn.CrossEntropyLoss):
        return None
    reduction = getattr(loss_fn, "reduction", "mean")
    weight = getattr(loss_fn, "weight", None)
    classes = kind in (F.cross_entropy, nn.CrossEntropyLoss) and not targets.is_floating_point()
    ignored = getattr(loss_fn, "ignore_index", -100)
    if weight is not None or reduction == "none" or (classes and bool((targets == ignored).any())):
        return None
    return reduction
