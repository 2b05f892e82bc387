"""The summary table of a run table: mean and interval over seeds of every recorded scalar."""

import numpy as np
import pandas as pd

from sharpflow.results.tables import check_run_table, usable
from sharpflow.statistics.intervals import t_quantile

SUMMARY_KEYS = ("case", "width", "learning_rate", "step", "quantity", "index")


def summarise(run_table: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Mean and t-interval over seeds at every step.

    Values that did not converge and non-finite ones (runs that have diverged by then) are left out,
    and `seeds` says how many are left: past a divergence the mean is that of the survivors. Claims
    do not use this table.

    Args:
        run_table: columns case, width, learning_rate, seed, step, quantity, index, value.
        confidence: nominal coverage of [low, high].

    Returns:
        Columns case, width, learning_rate, step, quantity, index, mean, low, high, seeds, sorted by
        case, width, learning_rate, quantity, index, step. low and high are infinite where one seed
        is left, NaN (as the mean) where none is.
    """
    check_run_table(run_table)
    run_table = usable(run_table)
    order = ["case", "width", "learning_rate", "quantity", "index", "step"]
    codes = np.zeros(len(run_table), dtype=np.int64)
    levels = {}
    for name in order:
        code, levels[name] = pd.factorize(run_table[name], sort=True)
        codes = codes * max(len(levels[name]), 1) + code
    cells, group = np.unique(codes, return_inverse=True)
    value = run_table["value"].to_numpy(dtype=np.float64)
    finite = np.isfinite(value)
    count = np.bincount(group, weights=finite, minlength=cells.size)
    filled = np.where(finite, value, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(group, weights=filled, minlength=cells.size) / count
        deviation = np.where(finite, value - mean[group], 0.0)
        squares = np.bincount(group, weights=deviation**2, minlength=cells.size)
        half = t_quantile(count, confidence) * np.sqrt(squares / (count - 1) / count)
    half = np.where(count > 1, half, np.where(count == 1, np.inf, np.nan))
    columns = {}
    remainder = cells
    for name in reversed(order):
        remainder, code = np.divmod(remainder, max(len(levels[name]), 1))
        columns[name] = levels[name].take(code)
    columns |= {"mean": mean, "low": mean - half, "high": mean + half}
    columns["seeds"] = count.astype(np.int64)
    return pd.DataFrame(columns)[[*SUMMARY_KEYS, "mean", "low", "high", "seeds"]]
