"""What is asked of one run under gradient noise: tail averages, a charge and its decay."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sharpflow.results import rates
from sharpflow.results.edge import DIVERGED
from sharpflow.results.runs import Run
from sharpflow.statistics.intervals import intercept, slope
from sharpflow.statistics.verdicts import Failed, Undefined

NAN = float("nan")
MISSING = Undefined("it was not recorded")
IDLE = Undefined("it has not learnt, and what does not move proves nothing")
NO_APPROACH = Failed("its charge keeps over 0.9 of its start")

TAIL = 0.2
"""Share of a run's steps, at its end, over which stationary quantities are averaged."""
W, U = 0, 1
"""Indices of the input and the output layer in `norm_squared`."""


def in_tail(steps: np.ndarray) -> np.ndarray:
    """Which steps belong to the last fifth of a run."""
    return steps >= steps[0] + (1 - TAIL) * (steps[-1] - steps[0])


def tail_mean(run: Run, quantity: str, index: int = 0) -> float:
    """Mean over the last fifth of the run's steps; inf if it diverged, NaN if not recorded."""
    if run.diverged:
        return DIVERGED
    steps, values = run.curve(quantity, index)
    return float(values[in_tail(steps)].mean()) if steps.size else MISSING


def first(run: Run, quantity: str, index: int = 0) -> float:
    """First recorded value, or the constant of a quantity that has only one; NaN without any."""
    values = run.curve(quantity, index)[1]
    return float(values[0]) if values.size else MISSING


def last(run: Run, quantity: str, index: int = 0) -> float:
    """Last recorded value; inf if the run diverged, NaN if it has none."""
    if run.diverged:
        return DIVERGED
    values = run.curve(quantity, index)[1]
    return float(values[-1]) if values.size else MISSING


def end_over_start(run: Run, quantity: str) -> float:
    """Tail average over the first value; inf for a diverged run, which is an outright failure."""
    return DIVERGED if run.diverged else tail_mean(run, quantity) / first(run, quantity)


def norm_ratio(run: Run) -> float:
    """‖U‖²/‖W‖² from their means over the last fifth; inf if it diverged."""
    if run.diverged:
        return DIVERGED
    return tail_mean(run, "norm_squared", U) / tail_mean(run, "norm_squared", W)


def has_learnt(run: Run, share: float = 0.7) -> bool:
    """Whether the loss ended below that share of its start: an idle run proves nothing.

    The noise floor is a third to a half of the initial loss in the settings that use the default.
    """
    loss = run.curve("loss")[1]
    return bool(loss.size and loss[-1] < share * loss[0])


def charge_share(
    inner: np.ndarray, outer: np.ndarray, closed: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """(C − C*)/(C₀ − C*) of the charge C = ‖U‖² − ‖W‖², which starts at 1.

    Args:
        inner: ‖W‖² in time, (n, ...).
        outer: ‖U‖² in time, (n, ...).
        closed: ‖W‖² and ‖U‖² of their equilibrium; equal ones, as for isotropic data and noise, by
            default.
    """
    distance = outer - inner - (closed[1] - closed[0])
    return distance / distance[0] if len(distance) else distance


def charge_decay(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Steps and remaining share of the charge, from its closed form where that was measured."""
    steps, inner, outer = run.together(("norm_squared", W), ("norm_squared", U))
    closed = (0.0, 0.0)
    if "closed_norm_squared" in run.known:
        closed = (first(run, "closed_norm_squared", W), first(run, "closed_norm_squared", U))
    return steps, charge_share(inner, outer, closed)


def decay_rate(run: Run) -> float:
    """Rate a step at which the charge decays between 0.9 and 0.3 of its start.

    inf for a diverged run and for one whose charge keeps over 0.9 of its start, as under gradient
    descent: there is no approach at all. NaN for one that is merely too short, or too coarse.
    """
    if run.diverged:
        return DIVERGED
    steps, share = charge_decay(run)
    if share.size and share[-1] > 0.9:
        return NO_APPROACH
    rate = rates.decay_rate(steps, share)
    return Undefined("its charge has not come down to 0.3") if np.isnan(rate) else rate


def log_log_slope(x: Sequence[float] | pd.Series, values: Sequence[float] | pd.Series) -> float:
    """Exponent of a power law over one seed's sweep: least squares of log value on log x.

    inf if a value is; NaN if one is undefined or not positive, or if x has under three values.
    """
    for value in values:
        if not np.isfinite(value):
            return value
    if len(set(x)) < 3 or not np.all(np.asarray(values) > 0):
        return Undefined("it needs three values, all positive")
    return slope(np.log(x), np.log(values))


def small_step_limit(runs: Sequence[Run], values: Sequence[float]) -> float:
    """Where the line of a value on the learning rate meets η = 0, over one seed's runs.

    A value that is not finite is passed on. Undefined with one learning rate.
    """
    for value in values:
        if not np.isfinite(value):
            return value
    rates = [run.learning_rate for run in runs]
    if len(set(rates)) < 2:
        return Undefined("one learning rate has no limit")
    return intercept(rates, values)


def goodness_of_line(x: np.ndarray, y: np.ndarray) -> float:
    """R², the share of the variance of y that a least-squares line on x explains."""
    return float(np.corrcoef(x, y)[0, 1] ** 2) if np.ptp(y) > 0 else NAN


def total_norm(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Steps and ‖θ‖², the sum of `norm_squared` over the layers."""
    steps, *layers = run.together(*(("norm_squared", i) for i in run.indices("norm_squared")))
    return steps, np.sum(layers, axis=0)
