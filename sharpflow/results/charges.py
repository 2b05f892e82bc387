"""What is asked of the charges of a run's units: what holds them, and what moves them."""

import numpy as np

from sharpflow.results.rates import accumulated
from sharpflow.results.runs import Run
from sharpflow.results.units import late_means, through_origin, unit_curves

EARLY = 0.1
"""Share of the run's steps, at its start, that is left out: noise changes too fast there."""
SIDES = ("outer", "inner")


def batch(run: Run) -> int:
    """S of the run, or, for gradient descent, of the batches that it is compared with."""
    return run.batch or run.setting("measurements.symmetry_noise.batch")


def still(run: Run, mean_gradient: bool = True) -> np.ndarray:
    """Charges at which noise and decay cancel, from means over the last half, (units,).

    Args:
        run: with weight decay γ, whose step multiplies charges by (1 − ηγ)².
        mean_gradient: whether the mean gradient's part counts beside that of the noise.
    """
    outer, inner = (late_means(run, f"symmetry_noise_{side}") for side in ("outer", "inner"))
    found = (outer - inner) / batch(run)
    if mean_gradient:
        outer, inner = (late_means(run, f"symmetry_gradient_{side}") for side in ("outer", "inner"))
        found = found + outer - inner
    rate, decay = run.learning_rate, run.setting("training.weight_decay")
    return rate**2 * found / (1 - (1 - rate * decay) ** 2)


def of_another_unit(run: Run) -> float:
    """Slope of charges on the prediction for the next unit."""
    return through_origin(late_means(run, "symmetry_charge"), np.roll(still(run), 1))


def later(steps: np.ndarray) -> np.ndarray:
    """Which steps are not among the first."""
    return steps >= EARLY * steps[-1]


def change(run: Run, quantity: str) -> np.ndarray:
    """What each unit's quantity changes by after the first tenth of the run, (units,)."""
    steps, values = unit_curves(run, quantity)
    values = values[later(steps)]
    return values[-1] - values[0]


def sum_of_rates(run: Run, quantity: str) -> np.ndarray:
    """What each unit's quantity, a rate a step, adds up to after the first tenth, (units,)."""
    steps, values = unit_curves(run, quantity)
    kept = later(steps)
    return accumulated(steps[kept], values[kept]).sum(axis=0)


def mean_gradient_only(run: Run) -> float:
    """Share of the change that the mean gradient alone gives: slope of its part on the change."""
    outer, inner = (sum_of_rates(run, f"symmetry_gradient_{side}") for side in SIDES)
    return through_origin(run.learning_rate**2 * (outer - inner), change(run, "symmetry_charge"))
