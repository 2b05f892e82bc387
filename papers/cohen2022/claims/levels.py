"""Where the curvature in an optimiser's metric settles, over the optimiser's own threshold."""

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.crossings import first_crossing
from sharpflow.results.curves import last_third
from sharpflow.results.edge import LEAST_RECORDS, end_level, reached
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Failed, Undefined

PRECONDITIONED = "preconditioned_sharpness"
RAW = "hessian_sharpness"
METHOD = "mean over the threshold of two-step averages of λ₁(P⁻¹H) over the last third"
NEVER = Failed("it never comes to its threshold")


def level(run: Run) -> float:
    """Level of λ₁(P⁻¹H) over the threshold at the end of a run.

    A run that never came to its threshold fails outright. Undefined: an even stride, fewer than
    twelve records.
    """
    found = end_level(run, PRECONDITIONED)
    crossed = first_crossing(run.relative(PRECONDITIONED)[1], 1.0) is not None
    return found if crossed or not np.isfinite(found) else NEVER


def unpreconditioned(run: Run) -> float:
    """Mean of λ₁(H), without the metric, over the threshold, over the last third of its records."""
    steps, curvature = run.curve(RAW)
    if curvature.size < LEAST_RECORDS:
        return Undefined(f"it has fewer than {LEAST_RECORDS} records")
    thresholds = run.threshold_at(steps, PRECONDITIONED)
    return float(last_third(curvature / thresholds).mean())


def over_plain(run: Run) -> float:
    """Level of λ₁(P⁻¹H) over 2/η, the threshold of gradient descent in the same metric."""
    return end_level(run, PRECONDITIONED) * run.threshold * run.learning_rate / 2


WITHOUT_METRIC = "λ₁(H) over the threshold"
PLAIN = "λ₁(P⁻¹H) over 2/η"


@claim(
    statement="The preconditioned sharpness comes to the optimiser's own stability threshold.",
    band=(1.0, INF),
    origin="stated: it equilibrates at the threshold",
    method="largest λ₁(P⁻¹H) over the threshold; where it starts above, 1 over the smallest",
    reads=[PRECONDITIONED],
    controls=["slow_*"],
)
def own_threshold_reached(run: Run) -> float:
    """Largest value over the threshold; for a run that starts above, the inverse of the least.

    Undefined: under twelve records before divergence.
    """
    return reached(run, PRECONDITIONED, LEAST_RECORDS)


@claim(
    statement=(
        "RMSprop trains at the edge of stability of its metric: the preconditioned sharpness "
        "settles within 5 % of 2/η."
    ),
    band=(0.95, 1.05),
    origin="chosen: a twentieth; the unpreconditioned sharpness is a hundredth of it or less",
    method=METHOD,
    reads=[PRECONDITIONED, RAW],
    cases=["rmsprop*"],
    foils={WITHOUT_METRIC: unpreconditioned},
)
def rmsprop_level(run: Run) -> float:
    """Level over 2/η; see `level` for failures."""
    return level(run)


@claim(
    statement=(
        "Adam trains at the edge of stability of its metric: the preconditioned sharpness settles "
        "between 0.88 and 1.08 of (2 + 2β₁)/((1 − β₁)η)."
    ),
    band=(0.88, 1.08),
    origin=(
        "chosen: its cycles are slow and deep below; 2/η, against which plain steps are stable, is "
        "a nineteenth of the threshold at β₁ = 0.9"
    ),
    method=METHOD,
    reads=[PRECONDITIONED, RAW],
    cases=["adam*"],
    foils={WITHOUT_METRIC: unpreconditioned, PLAIN: over_plain},
)
def adam_level(run: Run) -> float:
    """Level over the threshold at the case's β₁; see `level` for failures."""
    return level(run)


@claim(
    statement=(
        "With momentum the sharpness settles within 10 % of the rule's own threshold, (2 + 2β)/η "
        "or (2 + 2β)/((1 + 2β)η)."
    ),
    band=(0.9, 1.1),
    origin="chosen: a tenth tells the thresholds of β = 0.5 from each other and from 2/η",
    method=METHOD,
    reads=[PRECONDITIONED],
    cases=["nesterov*", "heavy_ball*"],
    foils={PLAIN: over_plain},
)
def momentum_level(run: Run) -> float:
    """Level over the threshold at the case's β; see `level` for failures."""
    return level(run)
