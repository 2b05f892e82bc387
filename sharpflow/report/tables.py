"""Tables of numbers that stand on the page beside the figures."""

from collections.abc import Mapping

import pandas as pd

from sharpflow.dynamics import sharpness_summary
from sharpflow.figures.base import ExperimentTable, curves, networks

SHARPNESS = "gauss_newton_sharpness"

SHARPNESS_COLUMNS = {
    "first_crossing": "first crossing (step)",
    "peak": "peak / (2/η)",
    "lowest_after": "lowest after / (2/η)",
    "end_mean": "end mean / (2/η)",
    "end_spread": "end spread / (2/η)",
    "up_crossings": "up-crossings",
}


def sharpness_table(
    tables: Mapping[str, ExperimentTable], quantity: str = SHARPNESS
) -> pd.DataFrame:
    """Sharpness of each network in six numbers, medians over the seeds that have the number.

    Returns
    -------
    DataFrame
        One row a network: experiment, case, width, 2/η, seeds, crossed (how many seeds reached
        2/η), then the six numbers of :func:`sharpflow.dynamics.sharpness_summary`: step of the
        first crossing; peak, lowest value after it, mean and spread over the last third, of
        two-step averages as shares of 2/η; number of up-crossings.
    """
    columns = ["experiment", "case", "width", "2/η", "seeds", "crossed"]
    rows = []
    for network in networks(tables, quantity):
        frame = curves(tables, network, quantity)
        steps = frame.index.to_numpy()
        summaries = pd.DataFrame(
            [
                vars(sharpness_summary(steps, frame[seed].to_numpy(), network.threshold))
                for seed in frame.columns
            ]
        )
        medians = summaries.astype(float).median()
        head = [network.experiment, network.case, network.width, network.threshold]
        counts = [len(frame.columns), int(summaries["first_crossing"].notna().sum())]
        rows.append([*head, *counts, *(medians[name] for name in SHARPNESS_COLUMNS)])
    return pd.DataFrame(rows, columns=[*columns, *SHARPNESS_COLUMNS.values()])
