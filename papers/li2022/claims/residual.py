"""The loss spikes along v₁ and falls in the rest (Li et al., section 4)."""

from sharpflow.claims.base import INF, claim
from sharpflow.results.crossings import first_crossing
from sharpflow.results.edge import SHARPNESS, WINDOW
from sharpflow.results.residual import falls_while_rises, spike_coincidence
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Undefined

RISE, TOLERANCE = 0.05, 5
LEAST_RISES = 10
TOO_LATE = Undefined(f"fewer than {WINDOW} steps follow a first crossing")


@claim(
    statement=(
        "At the edge the loss is not monotone while ‖R‖² goes on falling: at more than half of "
        "the steps at which the loss rises, ‖R‖² falls."
    ),
    band=(0.5, INF),
    origin="derived: ½ if the two did not know of each other, 0 if they moved together",
    method="share of falls of ‖R‖² among the raw steps of rising loss, from the first crossing on",
    reads=["gauss_newton_sharpness", "rest_norm_squared"],
    revised="≥ 0.1 before, of the share of falls of ‖R‖² less that of the loss",
)
def loss_not_residual(run: Run) -> float:
    """Share of falls of ‖R‖² among the steps at which the loss rises, from the first crossing on.

    Undefined: a run that never crosses, fewer than 50 steps from there on, or fewer than ten rises
    of the loss.
    """
    steps, sharpness, loss, rest = run.together(SHARPNESS, "loss", "rest_norm_squared")
    start = first_crossing(sharpness / run.threshold_at(steps, SHARPNESS), 1.0)
    if start is None or steps[-1] - steps[start] < WINDOW:
        return TOO_LATE
    share, rises = falls_while_rises(rest[start:], loss[start:])
    return (
        Undefined(f"the loss rises fewer than {LEAST_RISES} times")
        if rises < LEAST_RISES
        else share
    )


@claim(
    statement=(
        "Spikes of the loss coincide with spikes of (Dᵀv₁)²: the share of them with one within 5 "
        "steps exceeds that under random shifts in time by at least 0.5."
    ),
    band=(0.5, INF),
    origin="chosen: half of the way from chance to all of them",
    method=(
        "share of loss spikes (5 % prominence of two-step averages, from the first crossing on) "
        "with a spike of (Dᵀv₁)² within 5 steps, less the mean over all circular shifts"
    ),
    reads=["gauss_newton_sharpness", "residual_along_v1"],
)
def spikes_coincide(run: Run) -> float:
    """Share of loss spikes with one of (Dᵀv₁)² within 5 steps, less that expected by chance.

    Undefined: a run that never crosses, fewer than 50 steps from there on, or a loss without any
    spike there.
    """
    steps, sharpness, loss, along = run.together(SHARPNESS, "loss", "residual_along_v1")
    start = first_crossing(sharpness / run.threshold_at(steps, SHARPNESS), 1.0)
    if start is None or steps[-1] - steps[start] < WINDOW:
        return TOO_LATE
    stride = (steps[-1] - steps[0]) / (len(steps) - 1)
    tolerance = max(1, round(TOLERANCE / stride))
    found = spike_coincidence(loss[start:], along[start:] ** 2, RISE, tolerance)
    return found.excess if found.spikes else Undefined("the loss has no spike past the crossing")
