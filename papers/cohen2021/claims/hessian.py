"""The Hessian's largest eigenvalue λ₁ under gradient descent (Cohen et al. 2021)."""

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.crossings import first_crossing
from sharpflow.results.curves import last_third, running_mean, two_step_average
from sharpflow.results.edge import BAND_HIGH, BAND_LOW, end_level
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Failed, Undefined

SHARPNESS = "hessian_sharpness"
READS = [SHARPNESS]
SLOW = ["slow_*"]
FITTED = ["dense_cross_entropy"]
WINDOW = 20
"""Steps over which the loss is averaged for its course over long times."""
LEAST_STEPS = 50
NEVER = Undefined("λ₁ never reaches 2/η")


@claim(
    statement="λ₁ rises from below 2/η until it reaches it.",
    band=(1.0, INF),
    origin="stated: progressive sharpening goes on until 2/η",
    method="largest λ₁ over 2/η, of a run that starts below it",
    reads=READS,
    controls=SLOW,
)
def hessian_reaches_edge(run: Run) -> float:
    """Largest λ₁ over 2/η, on raw records; undefined for a run that starts at 2/η or above."""
    ratio = run.relative(SHARPNESS)[1]
    finite = ratio[np.isfinite(ratio)]
    if not finite.size or finite[0] >= 1:
        return Undefined("it does not start below 2/η")
    return float(finite.max())


@claim(
    statement=(
        "With the squared error λ₁ stays at 2/η: its mean over the last third of the run is within "
        "10 % of it."
    ),
    band=(BAND_LOW, BAND_HIGH),
    origin="chosen: a tenth tells the threshold from those of learning rates 20 % apart",
    method="mean over 2/η of two-step averages of λ₁ over the last third",
    reads=READS,
    cases=["dense", "cnn", "resnet_*", "vit"],
    controls=["slow_dense", "slow_resnet"],
)
def hessian_at_edge(run: Run) -> float:
    """Mean of λ₁ over 2/η over the last third of the records."""
    return end_level(run, SHARPNESS)


@claim(
    statement=(
        "With cross-entropy, while samples are not fitted, λ₁ stays near 2/η: its mean over the "
        "last third is 0.9 to 1.4 of it."
    ),
    band=(BAND_LOW, 1.4),
    origin=(
        "chosen: swings are larger than with the squared error, and several eigenvalues take part; "
        "on seeds that are not judged the transformer's levels were 1.2 to 1.3"
    ),
    method="mean over 2/η of two-step averages of λ₁ over the last third",
    reads=READS,
    cases=["cnn_cross_entropy", "text_cross_entropy"],
    controls=["slow_text_cross_entropy"],
)
def hessian_near_edge(run: Run) -> float:
    """Mean of λ₁ over 2/η over the last third of the records."""
    return end_level(run, SHARPNESS)


@claim(
    statement=(
        "From the first crossing of 2/η on, the loss rises at a tenth of the steps or more, and "
        "falls in the long run."
    ),
    band=(0.1, 1.0),
    origin="chosen: below the threshold it rises at no step, where the paper says 'non-monotone'",
    method=(
        "share of the steps past the crossing (of a run that never crosses: the last third) at "
        f"which the loss rises, of runs whose mean over the last {WINDOW} steps is below the first"
    ),
    reads=[SHARPNESS, "loss"],
    controls=SLOW,
)
def loss_not_monotone(run: Run) -> float:
    """Share of steps past the crossing at which the loss rises.

    A run whose loss, on running means, ends no lower than it was at the crossing fails outright.
    Undefined: fewer than fifty steps follow it.
    """
    times, loss = run.curve("loss")
    steps, ratio = run.relative(SHARPNESS)
    crossing = first_crossing(ratio, 1.0)
    start = last_third(times)[0] if crossing is None else steps[crossing]
    after = loss[times >= start]
    if after.size < LEAST_STEPS:
        return Undefined(f"fewer than {LEAST_STEPS} steps follow the crossing")
    means = running_mean(after, WINDOW)
    if means[-1] >= means[0]:
        return Failed("the loss does not fall in the long run")
    return float(np.mean(np.diff(after) > 0))


@claim(
    statement=(
        "With cross-entropy and labels that are all fitted λ₁ comes to 2/η and falls again: it "
        "ends at half of it or less."
    ),
    band=(0.0, 0.5),
    origin="chosen: with the squared error on the same samples it ends at 2/η",
    method="last two-step average of λ₁ over 2/η, of a run that has reached it",
    reads=READS,
    cases=FITTED,
    controls=["dense_clean"],
)
def cross_entropy_falls(run: Run) -> float:
    """Last two-step average of λ₁ over 2/η; undefined for a run that never reaches it."""
    ratio = run.relative(SHARPNESS)[1]
    return NEVER if first_crossing(ratio, 1.0) is None else float(two_step_average(ratio)[-1])
