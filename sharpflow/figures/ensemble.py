"""What figures of many seeds share: bands over seeds, points with intervals, and their words."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflow.figures import base, style
from sharpflow.results import tables as results
from sharpflow.results.noise import in_tail
from sharpflow.results.runs import Run, runs_by_network
from sharpflow.statistics.intervals import t_interval

FEW = 15
"""Up to this many records, a curve is drawn as points."""

SGD = {"colour": style.BLUE, "linestyle": "-"}
GD = {"colour": style.VERMILION, "linestyle": (0, (4, 1.5))}
PREDICTION: dict[str, Any] = {
    "color": style.BLACK,
    "linestyle": (0, (1.2, 1.6)),
    "linewidth": 1.4,
    "zorder": 4,
}

BAND = "Line: mean over seeds; band: lowest to highest seed."


def networks(tables: results.Tables, *quantities: str) -> list[results.Network]:
    """Networks that recorded all of the quantities.

    Raises:
        ValueError: there is none; the message has the quantities.
    """
    found = results.networks(tables, *quantities)
    if not found:
        raise ValueError(
            f"tables hold no quantity {' with '.join(map(repr, quantities))}, which this figure "
            "draws"
        )
    return found


def method(network: results.Network) -> str:
    """`SGD`, or `GD` for a network that takes all samples at every step."""
    return "SGD" if network.batch else "GD"


def pairs(
    chosen: Sequence[results.Network],
) -> list[tuple[results.Network | None, results.Network | None]]:
    """Each network under SGD with one under GD of the same model and width; either may be None."""
    left = [n for n in chosen if not n.batch]
    found: list[tuple[results.Network | None, results.Network | None]] = []
    for sgd in (n for n in chosen if n.batch):
        gd = next((n for n in left if _model(n) == _model(sgd)), None)
        left = [n for n in left if n != gd]
        found.append((sgd, gd))
    return found + [(None, gd) for gd in left]


def _model(network: results.Network) -> tuple[Any, ...]:
    return network.experiment, network.width, network.setting("model")


def labels(
    chosen: Sequence[results.Network], words: Callable[[results.Network], str | None]
) -> dict[results.Network, str]:
    """What each network is called: by its words, or, where it has none of its own, by its case.

    Args:
        chosen: the networks.
        words: for a network; None if there are none.
    """
    said = [words(network) for network in chosen]
    return {
        network: own if own and said.count(own) == 1 else _name(network, chosen)
        for network, own in zip(chosen, said, strict=True)
    }


def _name(network: results.Network, others: Sequence[results.Network]) -> str:
    name = base.name(network, others)
    rates = {n.learning_rate for n in others if n.case == network.case}
    return ", ".join([name, *base.rates([network])]) if len(rates) > 1 else name


def tail(frame: pd.DataFrame) -> pd.Series:
    """Mean of each seed over the last fifth of the steps; NaN if it diverged by then."""
    return frame[in_tail(frame.index.to_numpy())].mean(skipna=False)


def constant(
    tables: results.Tables, network: results.Network, quantity: str, index: int = 0
) -> float:
    """Mean over seeds of a quantity that is recorded once; NaN if it was not."""
    frame = results.curves(tables, network, quantity, index)
    return float(frame.iloc[0].mean()) if not frame.empty else float("nan")


def by_seed(
    runs: Iterable[Run], curve: Callable[[Run], tuple[np.ndarray, np.ndarray]]
) -> pd.DataFrame:
    """A curve of each run as one frame: steps as the index, a column a seed.

    Args:
        runs: of one network.
        curve: steps and values of a run.
    """
    columns = {}
    for run in runs:
        steps, values = curve(run)
        columns[run.seed] = pd.Series(values, steps, dtype=float)
    return pd.DataFrame(columns).sort_index()


def finite(values: Iterable[float]) -> np.ndarray:
    """The finite ones of a number a seed."""
    array = np.asarray(list(values), dtype=float)
    return array[np.isfinite(array)]


def mean(values: Iterable[float]) -> float:
    """Mean over the seeds whose number is finite; NaN if none is."""
    known = finite(values)
    return float(known.mean()) if known.size else float("nan")


def draw_band(
    axes: Axes,
    frame: pd.DataFrame,
    colour: str,
    linestyle: str | tuple = "-",
    label: str | None = None,
) -> Line2D:
    """Draw the mean over seeds and a band from the lowest to the highest seed.

    The mean, as where ends are drawn as points with intervals. Up to `FEW` records stand apart, as
    markers with bars: nobody measured what a line between them would say.
    """
    frame = frame.dropna(how="all")
    low, high = frame.min(axis=1), frame.max(axis=1)
    apart = len(frame) <= FEW
    if apart:
        axes.vlines(frame.index, low, high, color=colour, alpha=0.35, linewidth=1.4, zorder=1.5)
    else:
        axes.fill_between(frame.index, low, high, color=colour, alpha=0.2, linewidth=0, zorder=1.5)
    (line,) = axes.plot(
        frame.index,
        frame.mean(axis=1),
        color=colour,
        linestyle="none" if apart else linestyle,
        marker="o" if apart else None,
        markersize=3.5,
        label=label,
        zorder=3,
    )
    return line


def draw_points(
    axes: Axes,
    x: float,
    values: Iterable[float],
    confidence: float,
    colour: str,
    marker: str = "o",
    label: str | None = None,
    spread: float = 0.0,
    filled: bool = True,
) -> Artist | None:
    """Draw seeds as small points and, over them, their mean with its t-interval.

    Args:
        axes: where to.
        x: where the points stand.
        values: one a seed; those that are not finite are not drawn.
        confidence: of the interval.
        colour: of points, mean and interval.
        marker: of points and mean.
        label: of the mean in the legend.
        spread: width, in units of x, over which the seeds are set side by side; on a logarithmic
            axis it is a factor's logarithm.
        filled: whether the mean's marker is.

    Returns:
        The mean's marker; None if there is nothing to draw.
    """
    seen = finite(values)
    if not seen.size:
        return None
    beside = np.linspace(-0.5, 0.5, seen.size) * spread if seen.size > 1 else np.zeros(1)
    logarithmic = axes.get_xscale() == "log"
    places = x * np.exp(beside) if logarithmic else x + beside
    axes.scatter(places, seen, s=7, color=colour, marker=marker, alpha=0.4, linewidths=0, zorder=2)
    interval = t_interval(seen, confidence)
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


def interval_text(values: Sequence[float] | pd.Series, confidence: float) -> str:
    """Mean ± half-width of its t-interval over seeds, to the digits that the interval warrants."""
    interval = t_interval(np.asarray(values, dtype=float), confidence)
    half = (interval.high - interval.low) / 2
    if not np.isfinite(interval.statistic):
        return "undefined"
    if not np.isfinite(half):
        return f"{interval.statistic:.3g}".replace("-", "−")
    digits = int(np.clip(1 - np.floor(np.log10(half)), 0, 4)) if half > 0 else 3
    return f"{interval.statistic:.{digits}f} ± {half:.{digits}f}".replace("-", "−")


def numbers_of_runs(
    tables: results.Tables, reads: Sequence[str], columns: Mapping[str, Callable[[Run], float]]
) -> dict[str, list] | None:
    """`base.numbers_table` of numbers that each run has: means over seeds with their intervals.

    Args:
        tables: of the experiments.
        reads: quantities that a network must have for a row.
        columns: the number of a run, by the heading.
    """
    found = runs_by_network(tables, *reads)

    def mean(network: results.Network, number: Callable[[Run], float]) -> str:
        return interval_text([number(run) for run in found[network]], base.confidence(tables))

    said = {heading: partial(mean, number=number) for heading, number in columns.items()}
    return base.numbers_table(tables, list(found), said)


def scale_sentence(tables: results.Tables, width: bool = True) -> str:
    """Say at which scale the experiments were made: width (if asked), η, S, steps and seeds."""
    chosen = results.networks(tables)
    words = [f"width {base.several([n.width for n in chosen])}"] if width else []
    return base.scale(tables, [*words, *base.rates(chosen)])


def diverged_sentence(tables: results.Tables) -> str:
    """Say how many runs left the finite numbers; nothing if none did."""
    chosen = results.networks(tables)
    failed = [(n.case, len(results.diverged(tables, n))) for n in chosen]
    failed = [f"{count} of {case}" for case, count in failed if count]
    return f"Runs that diverged, drawn until they did: {', '.join(failed)}." if failed else ""
