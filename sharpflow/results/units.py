"""Quantities with a value for each unit of a network, under consecutive indices."""

import numpy as np

from sharpflow.results.runs import Run


def unit_curves(run: Run, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps (n,) and values (n, units) of a quantity; empty arrays if the run lacks it."""
    indices = run.indices(quantity)
    if not indices:
        return np.empty(0), np.empty((0, 0))
    steps, *values = run.together(*((quantity, index) for index in indices))
    return steps, np.stack(values, axis=1)


def late_means(run: Run, quantity: str, share: float = 0.5) -> np.ndarray:
    """Mean of each unit over the records of the last `share` of the run's steps, (units,)."""
    steps, values = unit_curves(run, quantity)
    if not steps.size:
        return np.empty(0)
    return values[steps >= (1 - share) * steps[-1]].mean(axis=0)


def through_origin(values: np.ndarray, predicted: np.ndarray) -> float:
    """Least-squares slope of values on predicted ones, of a line through 0; NaN if all are 0."""
    square = float(predicted @ predicted)
    return float(values @ predicted) / square if square else float("nan")
