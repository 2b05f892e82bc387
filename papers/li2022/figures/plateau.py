"""The plateau of the sharpness against 2/η over a sweep of learning rates, widths and seeds."""

from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sharpflow.figures import base, ensemble, style
from sharpflow.figures.edge import SHARPNESS
from sharpflow.results import tables as results
from sharpflow.results.crossings import first_crossing
from sharpflow.results.edge import BAND_HIGH, BAND_LOW, WINDOW, plateau_level
from sharpflow.results.runs import Run, runs_by_network
from sharpflow.statistics.intervals import t_interval

TITLE = "Sharpness plateau against the stability threshold"
READS = ("gauss_newton_sharpness",)

NONE = "no run has a plateau"
"""Stands in a panel without points."""
IDENTITY = {"color": style.BLACK, "linestyle": (0, (5, 2.5)), "linewidth": 0.9}
GREY: dict[str, Any] = {"color": style.GREY, "alpha": 0.18, "linewidth": 0, "zorder": 0}


@style.house
def draw(tables: results.Tables) -> Figure:
    """Plateau over its threshold; a panel a case, and a marker a width, side by side."""
    points = plateaus(tables)
    symbols = base.symbols(results.networks(tables, *READS))
    confidence = base.confidence(tables)
    grouped = points.groupby(["experiment", "case"], sort=False)
    panels = cast("list[tuple[tuple[str, str], pd.DataFrame]]", list(grouped))
    figure, stacks = style.panel_grid(
        len(panels), heights=(5.2,), columns=2, width=5.6 if len(panels) == 1 else 4.2
    )
    widths = sorted(points["width"].unique())
    some = points["ratio"].notna().any()
    for ((experiment, case), chosen), (axes,) in zip(panels, stacks, strict=True):
        thresholds = np.sort(chosen["threshold"].unique())
        if some:
            axes.axhline(1.0, **IDENTITY)
            axes.axhspan(BAND_LOW, BAND_HIGH, **GREY)
        spacing = 0.8 / len(widths)
        for place, width in enumerate(widths):
            own = chosen[chosen["width"] == width]
            shift = spacing * (place - (len(widths) - 1) / 2)
            _draw_width(axes, own, thresholds, confidence, shift, spacing, place)
        axes.set_xticks(range(len(thresholds)), [base.number(float(t)) for t in thresholds])
        axes.set(xlim=(-0.55, len(thresholds) - 0.45), xlabel=f"stability threshold {symbols}")
        axes.set_title(_case_label(tables, experiment, case, points))
        if chosen["ratio"].isna().all():
            style.note(axes, NONE)
        axes.set_ylim(_limits(chosen, confidence))
    style.common_limits([axes for (axes,) in stacks])
    style.label_rows(stacks, "plateau of Λ / threshold")
    if some:
        style.legend_below(figure, _legend(points, widths, symbols))
    return figure


def plateaus(tables: results.Tables) -> pd.DataFrame:
    """The plateau of every run, as the claims find it.

    Returns:
        One row a run: experiment, case, width, threshold, seed, ratio of its plateau to the
        threshold (NaN: it has none), plateau, crossed.

    Raises:
        ValueError: no network has the sharpness.
    """
    rows = [
        _row(network, run)
        for network, runs in runs_by_network(tables, *READS).items()
        for run in runs
    ]
    if not rows:
        raise ValueError(f"tables hold no quantity {SHARPNESS!r}, which this figure draws")
    return pd.DataFrame(rows)


def _row(network: results.Network, run: Run) -> dict[str, Any]:
    level = plateau_level(run)
    ratio = level if np.isfinite(level) else np.nan
    return {
        "experiment": network.experiment,
        "case": network.case,
        "width": network.width,
        "threshold": network.threshold,
        "seed": run.seed,
        "ratio": ratio,
        "plateau": ratio * run.threshold,
        "crossed": first_crossing(run.relative(SHARPNESS)[1], 1.0) is not None,
    }


def _draw_width(
    axes: Axes,
    own: pd.DataFrame,
    thresholds: np.ndarray,
    confidence: float,
    shift: float,
    spacing: float,
    place: int,
) -> None:
    """Seeds of one width as small points (hollow if 2/η was not reached), mean and interval."""
    colour = style.PALETTE[place % len(style.PALETTE)]
    marker = style.MARKERS[place % len(style.MARKERS)]
    for threshold, group in own.groupby("threshold"):
        seen = group["ratio"].dropna()
        if seen.empty:
            continue
        centre = float(np.searchsorted(thresholds, float(cast("float", threshold)))) + shift
        beside = np.linspace(-0.35, 0.1, len(seen)) if len(seen) > 1 else np.zeros(1)
        filled = group.loc[seen.index, "crossed"].to_numpy()
        axes.scatter(
            centre + spacing * beside,
            seen,
            s=12,
            marker=marker,
            facecolors=[colour if full else "white" for full in filled],
            edgecolors=colour,
            linewidths=0.6,
            alpha=0.65,
            zorder=2,
        )
        interval = t_interval(seen.to_numpy(), confidence)
        right = centre + 0.3 * spacing
        if np.isfinite(interval.high - interval.low):
            axes.vlines(right, interval.low, interval.high, color=colour, linewidth=1.3, zorder=3)
        axes.plot(
            right,
            interval.statistic,
            marker,
            markerfacecolor=colour,
            markersize=6,
            markeredgecolor="black",
            markeredgewidth=0.6,
            zorder=4,
        )


def _limits(points: pd.DataFrame, confidence: float) -> tuple[float, float]:
    """What holds the band, all seeds and all intervals, within a third and three."""
    seen = [BAND_LOW - 0.04, BAND_HIGH + 0.04, *points["ratio"].dropna()]
    for _, group in points.groupby(["width", "threshold"]):
        known = group["ratio"].dropna().to_numpy()
        if not known.size:
            continue
        interval = t_interval(known, confidence)
        seen += [end for end in (interval.low, interval.high) if np.isfinite(end)]
    margin = 0.04 * (max(seen) - min(seen))
    return max(min(seen) - margin, 1 / 3), min(max(seen) + margin, 3.0)


def _case_label(tables: results.Tables, experiment: str, case: str, points: pd.DataFrame) -> str:
    several = points["experiment"].nunique() > 1
    title = tables[experiment].settings.get("title", experiment)
    return f"{title}: {base.spelled(case)}" if several else base.spelled(case)


def _legend(points: pd.DataFrame, widths: list[int], symbols: str) -> list[Artist]:
    handles: list[Artist] = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=style.MARKERS[place % len(style.MARKERS)],
            color=style.PALETTE[place % len(style.PALETTE)],
            markeredgecolor="black",
            markeredgewidth=0.6,
            markersize=5.5,
            label=f"width {width}: mean, interval",
        )
        for place, width in enumerate(widths)
    ]
    handles.append(Line2D([], [], linestyle="", marker="o", color=style.GREY, ms=3, label="seed"))
    if not points.loc[points["plateau"].notna(), "crossed"].all():
        hollow = {"linestyle": "", "marker": "o", "color": style.GREY, "ms": 3.5, "mfc": "white"}
        handles.append(Line2D([], [], label=f"seed that never reached {symbols}", **hollow))
    handles.append(Line2D([], [], label="plateau = threshold", **IDENTITY))
    handles.append(
        Patch(
            color=GREY["color"], alpha=GREY["alpha"], label=f"{BAND_LOW:g} to {BAND_HIGH:g} of it"
        )
    )
    return handles


def alt(tables: results.Tables) -> str:
    """What is seen, and where the plateaus are."""
    ratios = plateaus(tables)["ratio"].dropna()
    drawn = "The plateau of the sharpness over its threshold, by threshold and width: "
    if ratios.empty:
        return f"{drawn}nothing is drawn, for {NONE}, which stands in the panel in its place."
    return (
        f"{drawn}small points for seeds, which lie between {ratios.min():.2f} and "
        f"{ratios.max():.2f}, larger markers with bars for their means, a dashed line at one and a "
        "grey band about it."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """The plateau of each network over its threshold."""
    points = plateaus(tables)

    def own(network: results.Network) -> pd.DataFrame:
        return points[
            (points["experiment"] == network.experiment)
            & (points["case"] == network.case)
            & (points["width"] == network.width)
            & (points["threshold"] == network.threshold)
        ]

    def plateau(network: results.Network) -> str:
        known = own(network)["ratio"].dropna()
        return ensemble.interval_text(known, base.confidence(tables)) if len(known) else ""

    return base.numbers_table(
        tables,
        results.networks(tables, *READS),
        {
            "2/η": lambda n: base.number(n.threshold),
            "plateau / threshold": plateau,
            "never reached it": lambda n: str(int((~own(n)["crossed"]).sum()) or ""),
            "without a plateau": lambda n: str(int(own(n)["plateau"].isna().sum()) or ""),
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, how a plateau is defined, which runs have none, and the scale."""
    points = plateaus(tables)
    symbols = base.symbols(results.networks(tables, *READS))
    missing = int(points["plateau"].isna().sum())
    return base.join(
        f"Plateau of the Gauss-Newton sharpness Λ over the threshold {symbols}: the mean of its "
        "two-step averages after the first cycle, or over the last third if it never reaches "
        f"{symbols}.",
        f"Widths and seeds stand side by side. {base.points_sentence(tables)}"
        if missing < len(points)
        else "",
        f"{missing} of {len(points)} runs have no plateau (diverged, under {WINDOW} steps of it, "
        "or an even stride) and are not drawn."
        if missing
        else "",
        base.stride_sentence(tables, {SHARPNESS: "Λ"}),
        base.scale_sentence(tables),
    )
