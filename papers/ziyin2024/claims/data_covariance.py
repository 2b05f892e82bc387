"""The data's covariance sets the norms' ratio, and sharpens or flattens (Ziyin et al., fig. 3)."""

import math
from collections.abc import Sequence

from sharpflow.claims.base import INF, claim
from sharpflow.results.noise import (
    MISSING,
    TAIL,
    end_over_start,
    first,
    norm_ratio,
    small_step_limit,
)
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Undefined

POSITIVE = (0.0, INF)

LEAST = 0.02
"""Smallest predicted |log ratio| that has a direction."""


@claim(
    statement=(
        "With isotropic label noise the covariance of the data sets the ratio ‖U‖²/‖W‖² at which "
        "SGD settles: measured over predicted is 1 ± 0.05."
    ),
    band=(0.95, 1.05),
    origin=(
        "derived: the closed form is first order in η, and ηλ_max is 0.04; plain balance is 3 to "
        "130 % off over the sweep"
    ),
    method="ratio of the means of ‖U‖² and ‖W‖² over the last fifth, over the closed form",
    reads=["norm_squared", "norm_ratio_predicted"],
    estimand="mean",
    support=POSITIVE,
    cases=["sgd_phi_*", "sgd_decay_phi_*"],
)
def data_norm_ratio(run: Run) -> float:
    """Final ‖U‖²/‖W‖² over the prediction.

    That the layers balance on isotropic data, and only there, is what the prediction says for the
    cases φ = 1 and φ ≠ 1.
    """
    return norm_ratio(run) / first(run, "norm_ratio_predicted")


@claim(
    statement=(
        "From a balanced start SGD changes Tr H in the predicted direction, up where the noise is "
        "larger where the signal is larger and else down, and by the logarithm that the Noether "
        "flow gives in the same time: in the limit of small η the two agree to 10 %."
    ),
    band=(0.9, 1.1),
    origin="derived: the flow is the limit of small η; a tenth is left to the extrapolation",
    method=(
        "log(Tr H / start) over that of the integrated Noether flow, means over the last fifth of "
        "the η²t that all learning rates reach; intercept at η = 0 of a line over them, one a seed"
    ),
    reads=["hessian_trace", "hessian_trace_flow"],
    estimand="mean",
    scope="case",
    cases=["sgd_k_0", "sgd_k_0_*", "sgd_k_1_*", "sgd_k_2"],
    revised="0.5 to 1.3 before, at one learning rate, over the closed form and not the flow",
)
def sharpening_direction(runs: Sequence[Run]) -> float:
    """Logarithmic change of Tr H over its prediction, extrapolated to η = 0.

    0 is gradient descent's, a negative value the wrong direction. The flow is integrated along the
    run, since the quietest directions need more steps than it has. Noise in proportion to the
    signal (k = 1), where no change is predicted, is `sharpening_absent`. Undefined: one
    learning rate alone, or no change predicted.
    """
    rates = [run.learning_rate for run in runs]
    curves = [run.together("hessian_trace", "hessian_trace_flow") for run in runs]
    if not all(steps.size for steps, _, _ in curves):
        return MISSING
    reach = min(rate**2 * steps[-1] for rate, (steps, _, _) in zip(rates, curves, strict=True))
    shares = []
    for rate, (steps, trace, flow) in zip(rates, curves, strict=True):
        late = (rate**2 * steps <= reach) & (rate**2 * steps >= (1 - TAIL) * reach)
        predicted = math.log(flow[late].mean() / flow[0])
        if abs(predicted) < LEAST:
            return Undefined("no change is predicted")
        shares.append(math.log(trace[late].mean() / trace[0]) / predicted)
    return small_step_limit(runs, shares)


@claim(
    statement=(
        "From a balanced start with noise in proportion to the signal SGD leaves Tr H within 5 % "
        "of where it was."
    ),
    band=(0.95, 1.05),
    origin="chosen: half of the smallest change that the ends of the sweep are predicted to show",
    method="Tr H, mean of the last fifth over its start",
    reads=["hessian_trace"],
    estimand="mean",
    support=POSITIVE,
    cases=["sgd_k_1"],
)
def sharpening_absent(run: Run) -> float:
    """Tr H, mean of the last fifth over its start.

    With noise std in proportion to input std the plain balance is the noise equilibrium, and the
    closed form predicts no change; terms of order η lower Tr H by 1 to 2 %.
    """
    return end_over_start(run, "hessian_trace")
