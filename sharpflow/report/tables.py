"""Tables of numbers that stand on the page beside the figures."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sharpflow.results.crossings import sharpness_summary
from sharpflow.results.residual import anomaly_points
from sharpflow.results.tables import CONVERGED, ExperimentTable, curves, networks, relative

SHARPNESS = "gauss_newton_sharpness"
NORM = "output_norm_squared"
_NO_BREAK = "\N{NO-BREAK SPACE}"

SHARPNESS_QUANTITIES = (SHARPNESS, f"{SHARPNESS}{CONVERGED}", NORM, "stability_threshold")
"""What `sharpness_table` reads of a run table."""
SHARPNESS_COLUMNS = {
    "first_crossing": ("first crossing", 0),
    "peak": ("peak", 2),
    "lowest_after": ("lowest after", 2),
    "end_mean": ("end mean", 2),
    "end_spread": ("end spread", 3),
    "up_crossings": ("up-crossings", 0),
    "anomalies": ("anomaly points, %", 0),
    "norm_start": ("‖A‖² start", 2),
    "norm_end": ("‖A‖² end", 2),
}
"""Heading and decimals of each number."""

SHARPNESS_NOTE = (
    "Medians over the seeds, with the lowest and highest in brackets. Peak, lowest value after it, "
    "mean and spread at the end (the last third of the steps) are of two-step averages, as shares "
    "of the stability threshold. First crossing: a step, over the seeds that reached the threshold "
    "(crossed). Up-crossings: passages of the averages from below 0.98 to above 1.02 of "
    "the threshold. Anomaly points: share of records after which ‖A‖² and the sharpness moved in "
    "opposite directions, raw. A run that diverged counts until it did."
)
"""What the numbers of `sharpness_table` mean."""


def sharpness_table(
    tables: Mapping[str, ExperimentTable], quantity: str = SHARPNESS
) -> pd.DataFrame:
    """Each network's sharpness and ‖A‖² in nine numbers, as text, over its seeds.

    A number is the median over the seeds that have it, with the lowest and highest in brackets;
    a dash if no seed has it.

    Returns:
        One row a network: network (experiment, case and, where it is not the only one, width),
        threshold, crossed (seeds that reached the threshold, of how many), then the six numbers of
        `sharpflow.results.crossings.sharpness_summary` (step of the first crossing; peak, lowest
        value after it, mean and spread over the last third, of two-step averages as shares of the
        threshold; number of up-crossings), the percentage of anomaly points, and ‖A‖² at the start
        and at the end.
    """
    rows = []
    for network in networks(tables, quantity):
        numbers = sharpness_numbers(tables, network, quantity)
        widths = {n.width for n in networks({network.experiment: tables[network.experiment]})}
        name = f"{network.experiment}: {network.case}"
        if len(widths) > 1:
            name += f", width {network.width}"
        crossed = int(numbers["first_crossing"].notna().sum())
        rows.append(
            [
                name,
                float(network.threshold),
                f"{crossed} of {len(numbers)}",
                *(
                    _over_seeds(numbers[key], places)
                    for key, (_, places) in SHARPNESS_COLUMNS.items()
                ),
            ]
        )
    heads = ["network", "threshold", "crossed", *(head for head, _ in SHARPNESS_COLUMNS.values())]
    return pd.DataFrame(rows, columns=heads)


def sharpness_numbers(
    tables: Mapping[str, ExperimentTable], network, quantity: str = SHARPNESS
) -> pd.DataFrame:
    """The nine numbers of one network, a row a seed (index), NaN for what cannot be had."""
    frame, shares = (read(tables, network, quantity) for read in (curves, relative))
    norms = curves(tables, network, NORM)
    rows = {}
    for seed in frame.columns:
        curve, share = frame[seed].dropna(), shares[seed].dropna()
        summary = sharpness_summary(share.index, share, 1.0)
        own = norms.get(seed, pd.Series(dtype=float))
        both = pd.concat([own, curve], axis=1, join="inner").to_numpy().T
        points = anomaly_points(*both) if both.shape[1] else np.empty(0)
        kept = own.dropna()
        rows[seed] = vars(summary) | {
            "anomalies": 100 * float(points.mean()) if points.size else np.nan,
            "norm_start": float(kept.iloc[0]) if len(kept) else np.nan,
            "norm_end": float(kept.iloc[-1]) if len(kept) else np.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").astype(float)


def _over_seeds(values: pd.Series, places: int) -> str:
    known = values.dropna()
    if known.empty:
        return "–"
    low, middle, high = (f"{known.quantile(share):,.{places}f}" for share in (0, 0.5, 1))
    return middle if low == high else f"{middle} [{low},{_NO_BREAK}{high}]"
