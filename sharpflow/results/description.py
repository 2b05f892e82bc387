"""A run in the numbers that can be read off a published curve of Λ, the loss and ‖A‖²."""

from collections.abc import Callable

import numpy as np

from sharpflow.results.crossings import HYSTERESIS, first_crossing, up_crossings
from sharpflow.results.curves import running_mean
from sharpflow.results.edge import SHARPNESS
from sharpflow.results.residual import anomaly_points
from sharpflow.results.runs import Run

END = 100
"""Steps at the end of what is shown that count as its level."""
SMOOTHING = 20
READS = (SHARPNESS, "loss", "output_norm_squared", "rest_norm_squared")


def describe(run: Run, shown: int, loss_at: int) -> dict[str, float]:
    """What a reader takes from the figure of a run that was measured at every step.

    Args:
        run: has the quantities `READS`.
        shown: last step of the figure of Λ.
        loss_at: step at which the loss is read.

    Returns:
        Levels over the stability threshold, steps, counts and shares by name; NaN where a run does
        not have one. Steps past the end of the run are not looked at.
    """
    steps, sharpness, loss, norm, rest = run.together(*READS)
    seen = steps <= shown
    ratio = (sharpness / run.threshold_at(steps, SHARPNESS))[seen]
    crossing = first_crossing(ratio, 1.0)
    after = ratio[crossing:] if crossing is not None else ratio[:0]
    end = ratio[steps[seen] > steps[seen][-1] - END]
    anomalies = anomaly_points(norm[seen], sharpness[seen])
    return {
        "threshold": run.threshold,
        "initial sharpness": float(sharpness[0]),
        "first crossing": float("nan") if crossing is None else float(steps[crossing]),
        "peak": float(ratio.max()),
        "least after the crossing": _or_nan(np.min, after),
        "mean after the crossing": _or_nan(np.mean, after),
        "mean of the last 100 steps": float(end.mean()),
        "spread of the last 100 steps": float(end.std(ddof=1)),
        "crossings upwards": float(up_crossings(running_mean(ratio, SMOOTHING), 1.0, HYSTERESIS)),
        "share of anomalies": float(anomalies.mean()),
        "anomalies before the crossing": float(anomalies[:crossing].sum()),
        "initial output norm": float(norm[0]),
        "last output norm": float(norm[seen][-1]),
        "initial loss": float(loss[0]),
        "loss at the end": float(loss[steps <= loss_at][-1]),
        "share of falls of the rest": _falls(rest[seen]),
        "share of falls of the loss": _falls(loss[seen]),
    }


def _or_nan(statistic: Callable[[np.ndarray], float], values: np.ndarray) -> float:
    return float(statistic(values)) if values.size else float("nan")


def _falls(curve: np.ndarray) -> float:
    return float(np.mean(np.diff(curve) < 0))
