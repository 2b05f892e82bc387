"""The plateau of the sharpness against 2/η over a sweep of learning rates, widths and seeds."""

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sharpflow.figures import base, style
from sharpflow.figures.edge import SHARPNESS
from sharpflow.results import tables as results
from sharpflow.results.crossings import first_crossing
from sharpflow.results.edge import BAND_HIGH, BAND_LOW, WINDOW, plateau_level
from sharpflow.results.runs import Run, runs_by_network
from sharpflow.statistics.intervals import t_interval

TITLE = "Sharpness plateau against the stability threshold"
READS = ("gauss_newton_sharpness",)

IDENTITY = {"color": style.BLACK, "linestyle": (0, (5, 2.5)), "linewidth": 0.9}
GREY = {"color": "#E4E4E4", "linewidth": 0, "zorder": 0}


@style.house
def draw(tables: results.Tables) -> Figure:
    """Plateau (above) and its ratio to 2/η (below); a stack of panels a case, a marker a width."""
    points = plateaus(tables)
    symbols = base.symbols(results.networks(tables, *READS))
    confidence = base.confidence(tables)
    grouped = points.groupby(["experiment", "case"], sort=False)
    panels = cast("list[tuple[tuple[str, str], pd.DataFrame]]", list(grouped))
    figure, stacks = style.panel_grid(
        len(panels), heights=(4.2, 2.6), columns=2, width=5.6 if len(panels) == 1 else 4.2
    )
    widths = sorted(points["width"].unique())
    for ((experiment, case), chosen), (above, below) in zip(panels, stacks, strict=True):
        thresholds = np.sort(chosen["threshold"].unique())
        reach = np.array([thresholds[0] / 1.35, thresholds[-1] * 1.35])
        above.plot(reach, reach, **IDENTITY)
        above.fill_between(reach, BAND_LOW * reach, BAND_HIGH * reach, **GREY)
        below.axhline(1.0, **IDENTITY)
        below.axhspan(BAND_LOW, BAND_HIGH, **GREY)
        spacing = _spacing(thresholds) / (len(widths) + 1)
        for place, width in enumerate(widths):
            own = chosen[chosen["width"] == width]
            shift = spacing * (place - (len(widths) - 1) / 2)
            _draw_width(above, own, own["plateau"], confidence, 0.0, 0.0, place)
            _draw_width(below, own, own["ratio"], confidence, shift, spacing, place)
        above.set(xscale="log", yscale="log", xlim=reach)
        for axis in (above.xaxis, above.yaxis):
            _tick(axis, thresholds)
        beyond = 0.4 * (BAND_HIGH - BAND_LOW) / 2
        ratios = [BAND_LOW - beyond, BAND_HIGH + beyond, *chosen["ratio"]]
        below.set(xlabel=f"stability threshold {symbols}", ylim=_limits(ratios))
        above.set_title(_case_label(tables, experiment, case, points))
    style.label_rows(stacks, "plateau of Λ", f"plateau / ({symbols})")
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
    values: pd.Series,
    confidence: float,
    shift: float,
    spacing: float,
    place: int,
) -> None:
    """Seeds of one width as small points (hollow if 2/η was not reached), mean and interval.

    `shift` and `spacing`, in log 2/η, set widths and seeds side by side. Without, all stand at
    their true 2/η and means are outlines, one around the other.
    """
    colour = style.PALETTE[place % len(style.PALETTE)]
    marker = style.MARKERS[place % len(style.MARKERS)]
    for threshold, group in own.groupby("threshold"):
        seen = values[group.index].dropna()
        if seen.empty:
            continue
        beside = np.linspace(-0.42, 0.1, len(seen)) if len(seen) > 1 else np.zeros(1)
        filled = group.loc[seen.index, "crossed"].to_numpy()
        axes.scatter(
            threshold * np.exp(shift + spacing * beside),
            seen,
            s=9,
            marker=marker,
            facecolors=[colour if full else "white" for full in filled],
            edgecolors=colour,
            linewidths=0.6,
            alpha=0.65,
            zorder=2,
        )
        interval = t_interval(seen.to_numpy(), confidence)
        centre = threshold * np.exp(shift + 0.32 * spacing)
        if np.isfinite(interval.high - interval.low):
            axes.vlines(centre, interval.low, interval.high, color=colour, linewidth=1.3, zorder=3)
        axes.plot(
            centre,
            interval.statistic,
            marker,
            markerfacecolor=colour if spacing else "none",
            markersize=5.5 if spacing else 6 + 2 * place,
            markeredgecolor="black" if spacing else colour,
            markeredgewidth=0.6 if spacing else 1.0,
            zorder=4,
        )


def _spacing(thresholds: np.ndarray) -> float:
    """Smallest distance of neighbouring thresholds in log 2/η, and a default for a single one."""
    return float(min(np.diff(np.log(thresholds)).min(initial=0.5), 0.5))


def _tick(axis: Axis, thresholds: np.ndarray) -> None:
    axis.set_major_locator(FixedLocator(list(thresholds)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: base.number(float(f"{value:.3g}"))))


def _limits(values: Iterable[float]) -> tuple[float, float]:
    finite = [value for value in values if np.isfinite(value)]
    margin = 0.06 * (max(finite) - min(finite))
    return min(finite) - margin, max(finite) + margin


def _case_label(tables: results.Tables, experiment: str, case: str, points: pd.DataFrame) -> str:
    several = points["experiment"].nunique() > 1
    title = tables[experiment].settings.get("title", experiment)
    return f"{title}: {case}" if several else case


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
    handles.append(Line2D([], [], label=f"plateau = {symbols}", **IDENTITY))
    handles.append(Patch(color=GREY["color"], label=f"{BAND_LOW:g} to {BAND_HIGH:g} of {symbols}"))
    return handles


def caption(tables: results.Tables) -> str:
    """What is drawn, how a plateau is defined, which runs have none, and the scale."""
    points = plateaus(tables)
    symbols = base.symbols(results.networks(tables, *READS))
    missing = int(points["plateau"].isna().sum())
    below = int((~points["crossed"] & points["plateau"].notna()).sum())
    counts = points.groupby(["experiment", "case", "width", "threshold"])["seed"].count()
    notes = []
    if below:
        notes.append(f"{below} of {len(points)} runs never reached {symbols} (hollow).")
    if missing:
        notes.append(
            f"{missing} of {len(points)} runs have no plateau, because they diverged, have under "
            f"{WINDOW} steps of it, or recorded Λ at an even stride, which sees one branch of it "
            "only; they are not drawn and not in the means."
        )
    return base.join(
        "Above: plateau of the Gauss-Newton sharpness Λ = (2/n) λ_max(J Jᵀ) against the stability "
        f"threshold {symbols}, with the identity (dashed). Below: their ratio, where widths and "
        "seeds are set side by side. The plateau of a run is the mean of the two-step averages of "
        f"Λ after its first cycle, or over its last third if it never reaches {symbols}. Grey: "
        f"{BAND_LOW:g} to {BAND_HIGH:g} of it. The axes of {symbols} and of the plateau are "
        "logarithmic.",
        f"Small points: single seeds ({base.several(sorted(counts.unique()))} for each {symbols} "
        "and width); large markers: their mean with its "
        f"{base.percent(base.confidence(tables))} t-interval.",
        *notes,
        base.stride_sentence(tables, {SHARPNESS: "Λ"}),
        base.scale_sentence(tables),
    )
