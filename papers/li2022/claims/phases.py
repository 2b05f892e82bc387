"""The phases of a cycle, and the network of the proof (Li et al., sections 3 and 5)."""

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.crossings import HYSTERESIS, first_crossing, sharpness_summary
from sharpflow.results.edge import EVEN_STRIDE, SHARPNESS, entries, sees_both_branches
from sharpflow.results.phases import cycles as cycles_of
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Failed, Undefined

SMOOTHING, LEAST_EXITS, LEAST_TURNS = 20, 4, 2
SHUFFLES = 200
STREAM = 20220003
"""Marks the shuffles' random stream, which the seed of the run completes."""
LEAST_AFTER = 20
NEVER = Failed("it never reaches 2/η")


@claim(
    statement=(
        "Cycles: while the sharpness swings about 2/η, leaving phase I goes to II and leaving III "
        "goes to IV more often, by at least 0.15 of these exits, than in shuffles that break the "
        "order of the phases alone."
    ),
    band=(0.15, INF),
    origin=(
        "derived: half of the excess of any periodic curve (0.27 to 0.33), over the 0.10 that one "
        "first-order autoregression in ten shows"
    ),
    method=(
        "share of exits from I and III in order from the first crossing to the last, less the "
        "share in 200 shuffles of blocks of a quarter cycle; running mean of 20 steps, hysteresis "
        "2 % of 2/η"
    ),
    reads=["gauss_newton_sharpness"],
    revised="≥ 0.05 before, over phase-randomised surrogates",
)
def cycles(run: Run) -> float:
    """Share of the free exits in order while the curve swings, less that of shuffles.

    Undefined, as there is nothing to order: a run that never crosses, slides onto the plateau or
    comes to rest (under two crossings upwards, or under four exits from I or III), an even stride.
    """
    steps, ratio = run.relative(SHARPNESS)
    start = first_crossing(ratio, 1.0)
    if not sees_both_branches(run):
        return EVEN_STRIDE
    if start is None:
        return Undefined("it never reaches 2/η")
    found = cycles_of(
        ratio[start:],
        1.0,
        np.random.default_rng([STREAM, run.seed]),
        window=entries(steps, SMOOTHING),
        shuffles=SHUFFLES,
    )
    if found.turns < LEAST_TURNS or found.free_exits < LEAST_EXITS:
        return Undefined(
            f"it comes up to 2/η fewer than {LEAST_TURNS} times, or leaves I and III fewer than "
            f"{LEAST_EXITS} times"
        )
    return found.excess


@claim(
    statement=(
        "The two-layer linear network of the proof sharpens until 2/η and then returns below it: "
        f"after its peak Λ falls under {1 - HYSTERESIS:g} of 2/η."
    ),
    band=(-INF, 1 - HYSTERESIS),
    origin="stated: theorem of section 5; the margin is the dead band of the phases",
    method="lowest two-step average of Λ after the largest one, over 2/η",
    reads=["gauss_newton_sharpness"],
)
def two_layer_returns(run: Run) -> float:
    """Lowest two-step average of Λ after its peak, over 2/η.

    A run that does not come up to 2/η did not sharpen until the threshold: an outright failure, as
    one that diverged and never came back. Undefined: a run that starts at or above 2/η, one
    that ends within 20 steps of its first crossing, an even stride.
    """
    steps, ratio = run.relative(SHARPNESS)
    if not sees_both_branches(run):
        return EVEN_STRIDE
    crossing = first_crossing(ratio, 1.0)
    if crossing is None:
        return NEVER
    if crossing == 0:
        return Undefined("it starts above 2/η")
    if steps[-1] - steps[crossing] < LEAST_AFTER:
        return Undefined(f"it ends within {LEAST_AFTER} steps of its first crossing")
    return sharpness_summary(steps, ratio, 1.0).lowest_after
