"""Intervals over seeds, verdicts against a band, summary tables."""

from sharpflow.statistics.intervals import (
    Interval,
    Verdict,
    slope,
    slope_interval,
    t_interval,
    verdict,
)
from sharpflow.statistics.summaries import RUN_COLUMNS, check_run_table, summarise

__all__ = [
    "RUN_COLUMNS",
    "Interval",
    "Verdict",
    "check_run_table",
    "slope",
    "slope_interval",
    "summarise",
    "t_interval",
    "verdict",
]
