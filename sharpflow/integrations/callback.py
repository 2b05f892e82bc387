"""What the callbacks of all trainers do alike."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from sharpflow.curvature.measure import SharpnessTracker
from sharpflow.curvature.model_loss import trainable_parameters
from sharpflow.curvature.monitor import Log, SharpnessMonitor, evaluation_mode


def start_monitor(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    batches: Sequence[Any],
    optimisers: Sequence[Optimizer] | None,
    logs: Sequence[Log],
    schedule: Mapping[str, Any],
    options: Mapping[str, Any],
) -> SharpnessMonitor:
    """The monitor of a training.

    Args:
        model: that is trained.
        loss: of the model and a batch.
        batches: that are held.
        optimisers: of the training, of which the one that holds the parameters is taken; None
            leaves the sharpness without a metric and a threshold.
        logs: that take the numbers.
        schedule: the other arguments of `SharpnessMonitor`.
        options: the other arguments of `SharpnessTracker`.

    Raises:
        ValueError: not exactly one optimiser holds the parameters; as for `SharpnessTracker`.
    """
    chosen = None
    if optimisers is not None:
        chosen = optimiser_of(trainable_parameters(model, options.get("only")), optimisers)
    with evaluation_mode(model, schedule["eval_mode"]):
        tracker = SharpnessTracker(model, loss, batches, optimiser=chosen, **options)
    return SharpnessMonitor(tracker, log=logs, **schedule)


def optimiser_of(params: Mapping[str, Tensor], optimisers: Sequence[Optimizer]) -> Optimizer:
    """The optimiser that holds all of some parameters; a wrapped one is taken out.

    Raises:
        ValueError: none or several do.
    """
    wanted = {id(p) for p in params.values()}
    bare = [getattr(each, "optimizer", each) for each in optimisers]
    holders = [
        each
        for each in bare
        if wanted <= {id(p) for group in each.param_groups for p in group["params"]}
    ]
    if len(holders) != 1:
        raise ValueError(
            f"{len(holders)} optimisers hold all the measured parameters, and the sharpness is in "
            "the metric of one: choose the parameters by only, or give effective=False."
        )
    return holders[0]
