"""What figures of the edge of stability share: the moments at which the sharpness passes it."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflow.dynamics import first_crossing, up_crossing_indices
from sharpflow.figures import base, style

SHARPNESS = "gauss_newton_sharpness"


def sharpness_curve(tables: base.Tables, network: base.Network, seed: int) -> pd.Series:
    """Λ of one run by step, without its gaps; empty if it was not measured."""
    frame = base.curves(tables, network, SHARPNESS)
    return frame.get(seed, pd.Series(dtype=float)).dropna()


def crossing_step(tables: base.Tables, network: base.Network, seed: int) -> int | None:
    """Step at which a run's Λ first reaches the threshold; None if it never does."""
    sharpness = sharpness_curve(tables, network, seed)
    index = first_crossing(sharpness, network.threshold)
    return None if index is None else int(sharpness.index[index])


def later_crossings(tables: base.Tables, network: base.Network, seed: int) -> list[int]:
    """Steps of a run's further up-crossings, on two-step averages, after its first crossing."""
    sharpness = sharpness_curve(tables, network, seed)
    first = crossing_step(tables, network, seed)
    steps = sharpness.index[up_crossing_indices(sharpness, network.threshold)]
    if first is None:
        return []
    # The first passage of the averages is that of the first crossing, unless Λ started above.
    again = steps if first == sharpness.index[0] else steps[1:]
    return [int(step) for step in again]


def draw_crossings(
    panels: tuple[Axes, ...], tables: base.Tables, network: base.Network, seed: int
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
