"""What the figures of ziyin2024 share: bands over seeds, points with intervals, and their words."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflow.figures import base, style
from sharpflow.statistics import t_interval

CONFIDENCE = 0.95
TAIL = 0.2
"""Share of a run's steps, at its end, over which stationary quantities are averaged."""

FEW = 15
"""Up to this many records, a curve shows where they are."""

SGD = {"colour": style.BLUE, "linestyle": "-"}
GD = {"colour": style.VERMILION, "linestyle": (0, (4, 1.5))}
PREDICTION = {"color": style.BLACK, "linestyle": (0, (1.2, 1.6)), "linewidth": 1.4, "zorder": 4}

BAND = "Line: median over seeds; band: from the lowest to the highest seed."
POINTS = (
    f"Small points: seeds; large markers: their mean with its {100 * CONFIDENCE:g} % t-interval."
)


def experiment_with(tables: base.Tables, quantity: str, pattern: str = ".*") -> str | None:
    """The first experiment with a case of that pattern that recorded the quantity."""
    for network in base.networks(tables, quantity):
        if re.fullmatch(pattern, network.case):
            return network.experiment
    return None


def networks(tables: base.Tables, quantity: str, pattern: str = ".*") -> list[base.Network]:
    """Networks of the first experiment that has the quantity, of the cases of that pattern.

    Raises
    ------
    ValueError
        If there is none; the message has the quantity and the pattern.
    """
    found = [n for n in base.networks(tables, quantity) if re.fullmatch(pattern, n.case)]
    if not found:
        raise ValueError(
            f"tables hold no quantity {quantity!r} of a case that matches {pattern!r}, "
            "which this figure draws"
        )
    return [network for network in found if network.experiment == found[0].experiment]


def number_in(case: str) -> float | None:
    """The number that ends a case's name, ``_`` for the point; None if there is none."""
    match = re.search(r"(?<=_)\d+(?:_\d+)?$", case)
    return float(match.group().replace("_", ".")) if match else None


def tail(frame: pd.DataFrame) -> pd.Series:
    """Mean of each seed over the last fifth of the recorded steps."""
    steps = frame.index.to_numpy()
    return frame[steps >= steps[0] + (1 - TAIL) * (steps[-1] - steps[0])].mean()


def constant(tables: base.Tables, network: base.Network, quantity: str, index: int = 0) -> float:
    """Mean over seeds of a quantity that is recorded once; NaN if it was not."""
    frame = base.curves(tables, network, quantity, index)
    return float(frame.iloc[0].mean()) if not frame.empty else float("nan")


def draw_band(
    axes: Axes,
    frame: pd.DataFrame,
    colour: str,
    linestyle: str | tuple = "-",
    label: str | None = None,
) -> Line2D:
    """Draw the median over seeds and a band from the lowest to the highest seed."""
    frame = frame.dropna(how="all")
    low, high = frame.min(axis=1), frame.max(axis=1)
    axes.fill_between(frame.index, low, high, color=colour, alpha=0.2, linewidth=0, zorder=1.5)
    (line,) = axes.plot(
        frame.index,
        frame.median(axis=1),
        color=colour,
        linestyle=linestyle,
        marker="." if len(frame) <= FEW else None,
        label=label,
        zorder=3,
    )
    return line


def draw_points(
    axes: Axes,
    x: float,
    values: pd.Series | np.ndarray,
    colour: str,
    marker: str = "o",
    label: str | None = None,
    spread: float = 0.0,
    filled: bool = True,
) -> Artist | None:
    """Draw seeds as small points at ``x`` and, beside them, their mean with its t-interval.

    ``spread`` is the width, in units of x, over which the seeds are set side by side. On a
    logarithmic axis it is a factor's logarithm.
    """
    seen = np.asarray(values, dtype=float)
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        return None
    beside = np.linspace(-0.5, 0.5, seen.size) * spread if seen.size > 1 else np.zeros(1)
    logarithmic = axes.get_xscale() == "log"
    places = x * np.exp(beside) if logarithmic else x + beside
    axes.scatter(places, seen, s=7, color=colour, marker=marker, alpha=0.4, linewidths=0, zorder=2)
    interval = t_interval(seen, CONFIDENCE)
    if np.isfinite(interval.high - interval.low):
        axes.vlines(x, interval.low, interval.high, color=colour, linewidth=1.3, zorder=3)
    (mark,) = axes.plot(
        x,
        interval.statistic,
        marker,
        markersize=5.5,
        markerfacecolor=colour if filled else "white",
        markeredgecolor="black" if filled else colour,
        markeredgewidth=0.6 if filled else 1.1,
        linestyle="none",
        label=label,
        zorder=4,
    )
    return mark


def pooled(tables: base.Tables, chosen: Iterable[base.Network], quantity: str, index: int = 0):
    """Curves of several networks as one frame, a column a run."""
    frames = [base.curves(tables, network, quantity, index) for network in chosen]
    return pd.concat(frames, axis=1, ignore_index=True).sort_index()


def interval_text(values: Sequence[float] | pd.Series) -> str:
    """Mean ± half-width of its t-interval over seeds, to the digits that the interval warrants."""
    interval = t_interval(np.asarray(values, dtype=float), CONFIDENCE)
    half = (interval.high - interval.low) / 2
    if not np.isfinite(interval.statistic):
        return "undefined"
    if not np.isfinite(half):
        return f"{interval.statistic:.3g}".replace("-", "−")
    digits = int(np.clip(1 - np.floor(np.log10(half)), 0, 4)) if half > 0 else 3
    return f"{interval.statistic:.{digits}f} ± {half:.{digits}f}".replace("-", "−")


def scale_sentence(tables: base.Tables, width: bool = True) -> str:
    """Say at which scale the experiments were made: width (if asked), η, S, steps and seeds."""
    clauses = []
    for experiment, table in tables.items():
        chosen = base.networks({experiment: table})
        if not chosen:
            continue
        settings = table.settings
        words = [f"width {base.several([n.width for n in chosen])}"] if width else []
        words.append(f"η = {base.several([n.learning_rate for n in chosen])}")
        batches = _training(settings, "batch")
        if batches:
            words.append(f"S = {base.several(batches)}")
        if last := int(table.runs["step"].max()):
            words.append(f"steps 0 to {last:,}")
        count = int(table.runs["seed"].nunique())
        words.append(f"{count} seed{'s' if count != 1 else ''}")
        clauses.append(f"{settings.get('title', experiment)}: {', '.join(words)}")
    return f"Scale: {'; '.join(clauses)}." if clauses else ""


def diverged_sentence(tables: base.Tables) -> str:
    """Say how many runs left the finite numbers; nothing if none did."""
    chosen = base.networks(tables)
    failed = [(n.case, len(base.diverged(tables, n))) for n in chosen]
    failed = [f"{count} of {case}" for case, count in failed if count]
    return f"Runs that diverged, drawn until they did: {', '.join(failed)}." if failed else ""


def training_values(tables: base.Tables, key: str) -> list[Any]:
    """Distinct values of a training option over all tables' cases, without None."""
    return _distinct(v for table in tables.values() for v in _training(table.settings, key))


def _training(settings: Mapping[str, Any], key: str) -> list[Any]:
    groups = [settings, *(settings.get("cases") or {}).values()]
    values = [(g.get("training") or {}).get(key) for g in groups if isinstance(g, Mapping)]
    return _distinct(value for value in values if value is not None)


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Values in order of appearance, each once; they may be dictionaries."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
