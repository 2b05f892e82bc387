"""How fast SGD goes to the noise equilibrium (Ziyin et al., section 4, figure 8)."""

import math
from collections.abc import Sequence

from sharpflow.claims.base import claim
from sharpflow.results.noise import decay_rate, first, log_log_slope
from sharpflow.results.runs import Run

METHOD = (
    "slope, one a seed, of log rate on log {}; rate of |‖U‖² − ‖W‖²| from 0.9 to 0.3 of its start"
)


@claim(
    statement=(
        "The rate a step at which SGD approaches the noise equilibrium scales as η²: the exponent "
        "is 2 ± 0.1."
    ),
    band=(1.9, 2.1),
    origin="chosen: discrete time tilts the exponent by a few hundredths over the sweep",
    estimand="mean",
    method=METHOD.format("η"),
    reads=["norm_squared"],
    cases=["eta"],
    scope="case",
)
def rate_learning_rate(runs: Sequence[Run]) -> float:
    """Exponent of the decay rate in the learning rate over a seed's runs.

    In units of SDE time, t = ηk, the same exponent is 1.
    """
    return log_log_slope([run.learning_rate for run in runs], [decay_rate(run) for run in runs])


@claim(
    statement=(
        "The rate at which SGD approaches the noise equilibrium scales as 1/S: the exponent is "
        "−1 ± 0.1."
    ),
    band=(-1.1, -0.9),
    origin="chosen: as for η; the discrete-time term lifts the rate at large batches",
    estimand="mean",
    method=METHOD.format("S"),
    reads=["norm_squared"],
    cases=["batch_*"],
    scope="experiment",
)
def rate_batch(runs: Sequence[Run]) -> float:
    """Exponent of the decay rate in the batch size over a seed's runs.

    The noise term is exactly proportional to 1/S and the discrete-time term does not depend on S;
    where it is not negligible it lifts the rate at large batches.
    """
    return log_log_slope(
        [run.setting("training.batch") for run in runs], [decay_rate(run) for run in runs]
    )


@claim(
    statement=(
        "The rate at which SGD approaches the noise equilibrium does not depend on the width: the "
        "exponent is 0 ± 0.05."
    ),
    band=(-0.05, 0.05),
    origin="chosen: at 0.05 the rate would change by a quarter over two decades of width",
    estimand="mean",
    method=METHOD.format("width"),
    reads=["norm_squared"],
    cases=["width"],
    scope="case",
)
def rate_width(runs: Sequence[Run]) -> float:
    """Exponent of the decay rate in the width over a seed's runs.

    Γ of a fitted net knows the data only, so the exponent is 0 up to the scatter of small nets.
    """
    return log_log_slope([run.width for run in runs], [decay_rate(run) for run in runs])


@claim(
    statement=(
        "The rate at which SGD approaches the noise equilibrium grows with the number k of inputs "
        "and outputs: the exponent is 1 ± 0.1."
    ),
    band=(0.9, 1.1),
    origin="chosen: as for η; the prediction 4kη²/S is proportional to k",
    estimand="mean",
    method=METHOD.format("k"),
    reads=["norm_squared"],
    cases=["inputs_*", "batch_100"],
    scope="experiment",
)
def rate_inputs(runs: Sequence[Run]) -> float:
    """Exponent of the decay rate in the dimension of the data over a seed's runs."""
    return log_log_slope(
        [run.setting("data.inputs") for run in runs], [decay_rate(run) for run in runs]
    )


@claim(
    statement=(
        "SGD approaches the noise equilibrium at the predicted rate, 4kη²/S a step for k inputs: "
        "measured over predicted is 1 ± 0.15."
    ),
    band=(0.85, 1.15),
    origin=(
        "chosen: the residual that is still there and the discrete-time term raise the rate by up "
        "to a tenth"
    ),
    estimand="mean",
    support=(0.0, float("inf")),
    method="rate of |‖U‖² − ‖W‖²| between 0.9 and 0.3 of its start, over 4kη²/S · Var(x) Var(ε)",
    reads=["norm_squared", "rate_predicted"],
    cases=["eta", "batch_*", "width", "inputs_*"],
)
def rate_prefactor(run: Run) -> float:
    """Decay rate of the charge over its prediction.

    The prediction 4kη²/S · Var(x) Var(ε) is that near the minimum in continuous time. A residual
    that is still there and the discrete-time term raise the rate by up to a tenth.
    """
    rate = decay_rate(run)
    return rate / first(run, "rate_predicted") if math.isfinite(rate) else rate
