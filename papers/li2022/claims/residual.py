"""The loss spikes along v₁ and falls in the rest (Li et al., section 4)."""

from sharpflow.claims.base import INF, claim
from sharpflow.results.curves import falling_share
from sharpflow.results.edge import NAN, SHARPNESS, WINDOW, from_crossing
from sharpflow.results.residual import spike_coincidence
from sharpflow.results.runs import Run

RISE, TOLERANCE = 0.05, 5


@claim(
    statement=(
        "At the edge the loss is not monotone while ‖R‖² is: from the first crossing on the share "
        "of steps at which ‖R‖² falls exceeds that of the loss by at least 0.1."
    ),
    band=(0.1, INF),
    method="share of falling raw steps of ‖R‖² less that of the loss, from the first crossing on",
    reads=["gauss_newton_sharpness", "rest_norm_squared"],
)
def loss_not_residual(run: Run) -> float:
    """Share of falling steps of ‖R‖² less that of the loss, from the first crossing on.

    Both fall before it; a run that never crosses is judged whole, and fails. Undefined (NaN): a
    diverged run, or fewer than 50 steps.
    """
    steps, sharpness, loss, rest = run.together(SHARPNESS, "loss", "rest_norm_squared")
    part = from_crossing(sharpness / run.threshold_at(steps, SHARPNESS))
    if run.diverged or not steps.size or steps[-1] - steps[part][0] < WINDOW:
        return NAN
    return falling_share(rest[part]) - falling_share(loss[part])


@claim(
    statement=(
        "Spikes of the loss coincide with spikes of (Dᵀv₁)²: the share of them with one within 5 "
        "steps exceeds that under random shifts in time by at least 0.5."
    ),
    band=(0.5, INF),
    method=(
        "share of loss spikes (5 % prominence of two-step averages, from the first crossing on) "
        "with a spike of (Dᵀv₁)² within 5 steps, less the mean over all circular shifts"
    ),
    reads=["gauss_newton_sharpness", "residual_along_v1"],
)
def spikes_coincide(run: Run) -> float:
    """Share of loss spikes with one of (Dᵀv₁)² within 5 steps, less that expected by chance.

    Undefined (NaN): a diverged run, fewer than 50 steps from the first crossing on, or a loss
    without any spike there.
    """
    steps, sharpness, loss, along = run.together(SHARPNESS, "loss", "residual_along_v1")
    part = from_crossing(sharpness / run.threshold_at(steps, SHARPNESS))
    if run.diverged or not steps.size or steps[-1] - steps[part][0] < WINDOW:
        return NAN
    stride = (steps[-1] - steps[0]) / (len(steps) - 1)
    tolerance = max(1, round(TOLERANCE / stride))
    return spike_coincidence(loss[part], along[part] ** 2, RISE, tolerance).excess
