"""The summary table of a run table: mean and interval over seeds of every recorded scalar."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from sharpflow.results.tables import PROCESS, check_run_table, usable
from sharpflow.statistics.intervals import t_quantile

SUMMARY_KEYS = ("case", "width", "learning_rate", "step", "quantity", "index")


_ORDER = ("case", "width", "learning_rate", "quantity", "index", "step")


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
        case, width, learning_rate, quantity, index, step; where the table has a column `process`,
        that comes first in both. low and high are infinite where one seed
        is left, NaN (as the mean) where none is.
    """
    return summarise_pieces(lambda: [run_table], confidence)


def summarise_pieces(
    pieces: Callable[[], Iterable[pd.DataFrame]], confidence: float = 0.95
) -> pd.DataFrame:
    """The summary of a run table that comes in pieces, each holding the whole of its runs.

    Args:
        pieces: gives the pieces from the beginning; called four times. One piece and the cells of
            the summary are in memory at once, so that it does not grow with the number of seeds.
        confidence: as for `summarise`.

    Returns:
        As `summarise`, to the bit, of the pieces one below another.
    """
    levels: list[pd.Index] = []
    order, keys = _ORDER, SUMMARY_KEYS
    for piece in pieces():
        check_run_table(piece)
        if PROCESS in piece:
            order, keys = (PROCESS, *_ORDER), (PROCESS, *SUMMARY_KEYS)
        found = [pd.Index(usable(piece)[name].unique()) for name in order]
        levels = [a.union(b) for a, b in zip(levels or found, found, strict=True)]
    levels = [level.sort_values() for level in levels]
    cells = np.empty(0, dtype=np.int64)
    for piece in pieces():
        cells = np.union1d(cells, _codes(usable(piece), order, levels))
    count, total, squares = np.zeros((3, cells.size))
    for group, value in _grouped(pieces(), order, levels, cells):
        np.add.at(count, group, 1)
        np.add.at(total, group, value)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        for group, value in _grouped(pieces(), order, levels, cells):
            np.add.at(squares, group, (value - mean[group]) ** 2)
        half = t_quantile(count, confidence) * np.sqrt(squares / (count - 1) / count)
    half = np.where(count > 1, half, np.where(count == 1, np.inf, np.nan))
    columns = {}
    remainder = cells
    for name, level in zip(reversed(order), reversed(levels), strict=True):
        remainder, code = np.divmod(remainder, max(len(level), 1))
        columns[name] = level.take(code)
    columns |= {"mean": mean, "low": mean - half, "high": mean + half}
    columns["seeds"] = count.astype(np.int64)
    return pd.DataFrame(columns)[[*keys, "mean", "low", "high", "seeds"]]


def _codes(rows: pd.DataFrame, order: Sequence[str], levels: list[pd.Index]) -> np.ndarray:
    """One number a row, in an order of the columns."""
    codes = np.zeros(len(rows), dtype=np.int64)
    for name, level in zip(order, levels, strict=True):
        codes = codes * max(len(level), 1) + level.get_indexer(pd.Index(rows[name]))
    return codes


def _grouped(
    pieces: Iterable[pd.DataFrame], order: Sequence[str], levels: list[pd.Index], cells: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each piece the finite values, and the cell that each is of."""
    for piece in pieces:
        rows = usable(piece)
        value = rows["value"].to_numpy(dtype=np.float64)
        finite = np.isfinite(value)
        yield np.searchsorted(cells, _codes(rows, order, levels)[finite]), value[finite]
