"""Where the spread of a crossed design comes from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sharpflow.statistics.intervals import unit_of

_ROUNDING = 4 * np.finfo(np.float64).eps
"""Spread of values that are all the same, over them."""


@dataclass(frozen=True)
class VarianceShares:
    """Shares of the variance of a single value; they add up to 1, or are NaN where nothing varies.

    Attributes:
        rows, columns: what the rows and the columns of the design explain.
        rest: what neither does, interaction included.
    """

    rows: float
    columns: float
    rest: float


def variance_shares(values: ArrayLike) -> VarianceShares:
    """Variance components of a two-way crossed design with one value a cell.

    Random effects, from the mean squares of the analysis of variance: a component that comes out
    negative is 0.

    Args:
        values: shape (rows, columns), rows being draws of the data, say, and columns starts.

    Raises:
        ValueError: under two rows or columns, or a value that is not finite.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2 or not np.all(np.isfinite(table)):
        raise ValueError(f"values has shape {table.shape}; it must be finite, two by two or more.")
    rows, columns = table.shape
    largest = np.abs(table).max()
    if np.ptp(table) <= _ROUNDING * largest:
        return VarianceShares(np.nan, np.nan, np.nan)
    table = table / unit_of(table)
    by_row, by_column = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_row[:, None] - by_column[None, :] + table.mean()
    noise = float((rest**2).sum() / ((rows - 1) * (columns - 1)))
    components = np.array(
        [
            max(float(by_row.var(ddof=1)) - noise / columns, 0.0),
            max(float(by_column.var(ddof=1)) - noise / rows, 0.0),
            noise,
        ]
    )
    total = components.sum()
    shares = components / total if total > 0 else np.full(3, np.nan)
    return VarianceShares(*map(float, shares))
