"""What claims on Adam's equilibrium share: means of each unit over the end of a run."""

import numpy as np

from sharpflow.results.runs import Run


def unit_means(run: Run, quantity: str) -> np.ndarray:
    """Mean of every unit's value over the last half of the run, (units,)."""
    means = []
    for index in run.indices(quantity):
        steps, values = run.curve(quantity, index)
        means.append(values[steps >= run.setting("training.steps") / 2].mean())
    return np.array(means)
