"""What figures of the edge of stability share: the threshold, and the moments of passing it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflow.figures import base, style
from sharpflow.results import tables as results
from sharpflow.results.crossings import first_crossing, up_crossing_indices
from sharpflow.results.curves import resolves_alternation, two_step_average
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


@dataclass(frozen=True)
class Unit:
    """What the sharpness axes of a figure count in: thresholds, where all networks have one.

    Attributes:
        relative: whether a curvature is drawn over its stability threshold, or as it is.
        symbol: of the thresholds, `2/η`.
    """

    relative: bool
    symbol: str

    def label(self, quantity: str = "Λ") -> str:
        """Name of the axis of a curvature."""
        if not self.relative:
            return quantity
        return f"{quantity}η/2" if self.symbol == "2/η" else f"{quantity} / threshold"

    def curves(
        self,
        tables: results.Tables,
        network: results.Network,
        quantity: str = SHARPNESS,
        index: int = 0,
    ) -> pd.DataFrame:
        """A curvature in this unit: steps as the index, a column a seed."""
        read = results.relative if self.relative else results.curves
        return read(tables, network, quantity, index).replace([np.inf, -np.inf], np.nan)

    def threshold(
        self, tables: results.Tables, network: results.Network, seed: int
    ) -> float | pd.Series:
        """The stability threshold in this unit; NaN where Λ has none to compare with."""
        return 1.0 if self.relative else threshold(tables, network, seed)

    def draw_threshold(
        self, axes: Axes, tables: results.Tables, network: results.Network, seed: int
    ) -> Line2D | None:
        """Draw it; its handle for the legend."""
        words = f"threshold {network.threshold_symbol}"
        return style.draw_threshold(axes, self.threshold(tables, network, seed), words)

    def limit(
        self,
        panels: Sequence[Axes],
        curves: Sequence[pd.DataFrame],
        thresholds: Sequence[float | pd.Series],
    ) -> None:
        """Limits of sharpness axes from zero on, the same for all in units of thresholds.

        An axis that ends below its data says so.
        """
        tops = [style.sharpness_top(*pair) for pair in zip(curves, thresholds, strict=True)]
        for axes, own, top in zip(panels, curves, tops, strict=True):
            end = max(tops) if self.relative else top
            axes.set_ylim(0, end)
            if own.max().max() > end:
                style.note(axes, f"cut at {style.CUT} × {self.symbol}")


def unit(chosen: Sequence[results.Network]) -> Unit:
    """The unit in which the sharpness of networks is drawn side by side."""
    known = all(np.isfinite(n.threshold) and results.comparable(SHARPNESS, n.setup) for n in chosen)
    return Unit(known, base.symbols(chosen))


def draw_sharpness(
    axes: Axes,
    curves: pd.DataFrame,
    strong: int,
    colour: str,
    linestyle: str | tuple = "-",
    label: str | None = None,
    width: float = 0.9,
) -> Line2D:
    """As `style.draw_seeds`, of a curve that alternates with period two at the edge of stability.

    Records that are an odd number of steps apart, but not one, show the two branches in turn, as a
    zigzag of another period than that of training: then lines are means of two neighbouring
    records, and the strong one's records are dots.
    """
    if not means_are_drawn(curves):
        return style.draw_seeds(axes, curves, strong, colour, linestyle, label, width)
    records = curves[strong].dropna()
    axes.plot(records.index, records, ".", color=colour, markersize=2, alpha=0.6, zorder=2)
    means = pd.DataFrame(
        {seed: two_step_average(curves[seed]) for seed in curves.columns},
        index=pd.Index(two_step_average(curves.index)),
    )
    return style.draw_seeds(axes, means, strong, colour, linestyle, label, width)


def means_are_drawn(curves: pd.DataFrame) -> bool:
    """Whether `draw_sharpness` draws means of two neighbouring records of these curves."""
    steps = curves.index.to_numpy()
    return len(steps) > 2 and resolves_alternation(steps) and float(np.median(np.diff(steps))) > 1


def means_sentence(frames: Iterable[pd.DataFrame]) -> str:
    """Say that some lines are means of two records, where they are."""
    found = any(means_are_drawn(frame) for frame in frames)
    return "At strides above one, lines are means of two records (dots)." * found


def draw_branches(
    axes: Axes,
    curves: pd.DataFrame,
    strong: int,
    colour: str,
    label: str | None = None,
) -> Line2D:
    """As `style.draw_seeds`, with a line through the even and one through the odd steps.

    What changes its sign at every step would fill the panel with ink; its two branches do not.
    """
    even = curves.index.to_numpy() % 2 == 0
    if not (even.any() and (~even).any()):
        return style.draw_seeds(axes, curves, strong, colour, label=label, width=0.9)
    style.draw_seeds(axes, curves[~even], strong, colour, width=0.9)
    return style.draw_seeds(axes, curves[even], strong, colour, label=label, width=0.9)


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
