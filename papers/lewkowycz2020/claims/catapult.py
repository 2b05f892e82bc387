"""The catapult: above 2/λ₀ the loss grows first, the curvature falls, then the loss converges."""

from collections.abc import Callable

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.curves import finite_prefix
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Undefined

SHARPNESS = "hessian_sharpness"
LEAST_PEAK, MOST_SHARPNESS, MOST_LOSS = 1.5, 0.6, 0.5
AT_REST = Undefined("its loss is 0 at the start")


@claim(
    statement=(
        f"Above 2/λ₀ the loss grows first: it comes to {LEAST_PEAK:g} times its initial value or "
        "more."
    ),
    band=(LEAST_PEAK, INF),
    origin="chosen: a rise that no rate below 2/λ₀ gives",
    method="largest loss over the initial one",
    reads=["loss"],
    cases=["catapult", "far_above"],
    controls=["below"],
)
def loss_grows_first(run: Run) -> float:
    """Largest loss over the initial one."""
    return _over_first(run, np.max)


@claim(
    statement=(
        "The curvature falls while the loss is large: the largest Hessian eigenvalue comes down to "
        f"{MOST_SHARPNESS:g} of its initial value or less."
    ),
    band=(-INF, MOST_SHARPNESS),
    origin=(
        "chosen: at 1.6 × 2/λ₀ a run has to come below 1/1.6 of its initial sharpness to be stable"
    ),
    method="least λ₁ over the initial one",
    reads=["hessian_sharpness"],
    cases=["catapult", "far_above"],
    controls=["below"],
)
def curvature_falls(run: Run) -> float:
    """Least λ₁ over the initial one."""
    (values,) = finite_prefix(run.curve(SHARPNESS)[1])
    return float(values.min() / values[0])


@claim(
    statement=(
        f"Then the loss falls for good: it ends at {MOST_LOSS:g} of its initial value or less."
    ),
    band=(-INF, MOST_LOSS),
    origin="chosen: well below the loss of a network that has learnt nothing",
    method="last loss over the initial one",
    reads=["loss"],
    cases=["catapult", "far_above"],
    controls=["out_of_reach"],
)
def training_converges(run: Run) -> float:
    """Last loss over the initial one."""
    return _over_first(run, lambda values: values[-1])


@claim(
    statement="Below 2/λ₀ the loss never rises above its initial value by more than 2 %.",
    band=(-INF, 1.02),
    origin="derived: on a quadratic the loss falls at every step below 2/λ₀; 2 % for what is none",
    method="largest loss over the initial one",
    reads=["loss"],
    cases=["below"],
    controls=["catapult"],
)
def no_growth_below(run: Run) -> float:
    """Largest loss over the initial one."""
    return _over_first(run, np.max)


def _over_first(run: Run, statistic: Callable[[np.ndarray], float]) -> float:
    values = run.curve("loss")[1]
    return float(statistic(values) / values[0]) if values[0] > 0 else AT_REST
