"""What figures of the edge of stability share: the threshold, and the moments of passing it."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflow.figures import base, style
from sharpflow.results import tables as results
from sharpflow.results.crossings import first_crossing, up_crossing_indices
from sharpflow.results.edge import SHARPNESS


def threshold(tables: results.Tables, network: results.Network, seed: int) -> float | pd.Series:
    """What a run's Λ compares with: one number, or its curve by step where it moves.

    NaN where the optimiser's threshold is that of another curvature.
    """
    if not results.comparable(SHARPNESS, network.setup):
        return float("nan")
    recorded = results.curves(tables, network, "stability_threshold").get(seed)
    if recorded is None or recorded.nunique() < 2:
        return network.threshold
    return recorded.dropna()


def cut_sentence(tables: results.Tables, quantity: str) -> str:
    """Say that an axis of sharpness is cut at four times the threshold, where it is."""
    chosen = results.networks(tables, quantity)
    cut = base.symbols([n for n in chosen if _is_cut(tables, n, quantity)])
    return f"The axis of the sharpness is cut at {style.CUT} times {cut}." if cut else ""


def _is_cut(tables: results.Tables, network: results.Network, quantity: str) -> bool:
    curves = results.curves(tables, network, quantity)
    bound = threshold(tables, network, results.strong_seed(tables, network, quantity))
    return bool(curves.max().max() > style.CUT * np.max(bound))


def ratio_curve(tables: results.Tables, network: results.Network, seed: int) -> pd.Series:
    """Λ of one run over its threshold, by step, without gaps; empty if it was not measured."""
    frame = results.relative(tables, network, SHARPNESS)
    return frame.get(seed, pd.Series(dtype=float)).dropna()


def crossing_step(tables: results.Tables, network: results.Network, seed: int) -> int | None:
    """Step at which a run's Λ first reaches the threshold; None if it never does."""
    ratio = ratio_curve(tables, network, seed)
    index = first_crossing(ratio, 1.0)
    return None if index is None else int(ratio.index[index])


def later_crossings(tables: results.Tables, network: results.Network, seed: int) -> list[int]:
    """Steps of a run's further up-crossings, on two-step averages, after its first crossing."""
    ratio = ratio_curve(tables, network, seed)
    first = crossing_step(tables, network, seed)
    steps = ratio.index[up_crossing_indices(ratio, 1.0)]
    if first is None:
        return []
    # The first passage of the averages is that of the first crossing, unless Λ started above.
    again = steps if first == ratio.index[0] else steps[1:]
    return [int(step) for step in again]


def draw_crossings(
    panels: tuple[Axes, ...], tables: results.Tables, network: results.Network, seed: int
) -> list[Line2D | None]:
    """Mark the crossings of a run in each panel; handles for the legend."""
    first = crossing_step(tables, network, seed)
    later = later_crossings(tables, network, seed)
    handles: list[Line2D | None] = []
    for axes in panels:
        handles.append(style.draw_moment(axes, first, "Λ first reaches the threshold"))
        handles += [
            axes.axvline(
                step, color=style.GREY, linestyle="-", linewidth=0.4, label="and again, on averages"
            )
            for step in later
        ]
    return handles


def draw_zero(axes: Axes) -> None:
    """A thin line at zero, for a quantity of either sign."""
    axes.axhline(0.0, color=style.GREY, linewidth=0.5, zorder=1)


def symmetric_limits(axes: Axes, curves: pd.DataFrame) -> None:
    """Limits at ± the largest magnitude of what was drawn."""
    largest = np.nanmax(np.abs(curves.to_numpy(float))) if curves.size else np.nan
    if np.isfinite(largest) and largest > 0:
        axes.set_ylim(-1.08 * largest, 1.08 * largest)
