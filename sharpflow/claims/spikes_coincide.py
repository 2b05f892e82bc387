"""Claim 5, in time: spikes of the loss are spikes of (Dᵀv₁)² (Li et al., section 4).

Undefined (NaN): a diverged run, fewer than 50 steps from the first crossing on, or a loss without
any spike there.
"""

from sharpflow.claims._edge import NAN, SHARPNESS, WINDOW, from_crossing
from sharpflow.claims.base import Claim, Run
from sharpflow.dynamics import spike_coincidence

RISE, TOLERANCE = 0.05, 5


def statistic(run: Run) -> float:
    """Share of loss spikes with one of (Dᵀv₁)² within 5 steps, less that expected by chance."""
    steps, sharpness, loss, along = run.together(SHARPNESS, "loss", "residual_along_v1")
    part = from_crossing(sharpness, run.threshold)
    if run.diverged or not steps.size or steps[-1] - steps[part][0] < WINDOW:
        return NAN
    stride = (steps[-1] - steps[0]) / (len(steps) - 1)
    tolerance = max(1, round(TOLERANCE / stride))
    return spike_coincidence(loss[part], along[part] ** 2, RISE, tolerance).excess


CLAIM = Claim(
    paper="li2022",
    figure="residual",
    statement=(
        "Spikes of the loss coincide with spikes of (Dᵀv₁)²: the share of them with one within 5 "
        "steps exceeds that under random shifts in time by at least 0.5."
    ),
    statistic=statistic,
    band_low=0.5,
    band_high=float("inf"),
    method=(
        "share of loss spikes (5 % prominence of two-step averages, from the first crossing on) "
        "with a spike of (Dᵀv₁)² within 5 steps, less the mean over all circular shifts"
    ),
)
