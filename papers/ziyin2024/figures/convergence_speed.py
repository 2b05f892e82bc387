"""How fast SGD goes to the noise equilibrium: against learning rate, batch size and width."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.noise import decay_rate, first, log_log_slope
from sharpflow.results.rates import LOWER, UPPER
from sharpflow.results.runs import runs_by_network
from sharpflow.statistics.intervals import Interval, t_interval

from ..claims.rates import rate_batch, rate_inputs, rate_learning_rate, rate_width

TITLE = "The approach to the noise equilibrium: rate against η, S, width and k"
READS = ("norm_squared",)
DRAWS = ("rate_predicted",)
CASES = ("eta", "batch_*", "width", "inputs_*")

SWEEPS = {
    "learning_rate": (rate_learning_rate, "η", "learning rate η"),
    "batch": (rate_batch, "S", "batch size S"),
    "width": (rate_width, "d", "width d"),
    "inputs": (rate_inputs, "k", "inputs and outputs k"),
}
"""The claim whose cases vary a column, its symbol and its words."""


@style.house
def draw(tables: results.Tables) -> Figure:
    """Rate a step against η, S, width and the data's dimension."""
    rates = decay_rates(tables)
    confidence = base.confidence(tables)
    figure, stacks = style.panel_grid(4, (4.2,), columns=2, width=4.6)
    panels = [axes for (axes,) in stacks]
    handles = []
    for axes, column in zip(panels, SWEEPS, strict=True):
        rows = rates[rates["varied"] == column]
        _, symbol, words = SWEEPS[column]
        handles += _draw(axes, rows, column, confidence)
        axes.set(xlabel=words, ylabel="rate a step")
        axes.set_title(_head(f"{symbol}, a step", exponent(rows, column, confidence)))
    flat = panels[list(SWEEPS).index("width")]
    low, high = flat.get_ylim()
    middle = np.sqrt(low * high)
    flat.set_ylim(min(low, middle / 2), max(high, middle * 2))
    style.legend_below(figure, handles)
    return figure


def decay_rates(tables: results.Tables) -> pd.DataFrame:
    """The rate of every run of the sweeps, as the claims have it.

    Returns:
        One row a run: varied (the column that its sweep varies), learning_rate, batch, width,
        inputs, seed, rate (not finite: it diverged, or did not come that far), predicted.

    Raises:
        ValueError: no case belongs to a sweep.
    """
    rows = []
    for network, runs in runs_by_network(tables, *READS).items():
        for varied, (claim, _, _) in SWEEPS.items():
            if any(fnmatchcase(network.case, pattern) for pattern in claim.cases):
                rows += [
                    {
                        "varied": varied,
                        "learning_rate": network.learning_rate,
                        "batch": network.batch,
                        "width": network.width,
                        "inputs": network.setting("data.inputs"),
                        "seed": run.seed,
                        "rate": decay_rate(run),
                        "predicted": first(run, *DRAWS) if run.known.issuperset(DRAWS) else np.nan,
                    }
                    for run in runs
                ]
    if not rows:
        raise ValueError(
            f"tables hold no quantity {READS[0]!r} of a case that is one of {', '.join(CASES)}"
        )
    return pd.DataFrame(rows)


def _draw(
    axes: Axes, rows: pd.DataFrame, column: str, confidence: float
) -> Sequence[Artist | None]:
    axes.set(xscale="log", yscale="log")
    label = "SGD: mean, interval"
    handles: list[Artist | None] = [
        ensemble.draw_points(
            axes, x, group["rate"], confidence, style.BLUE, "o", label, spread=0.06
        )
        for x, group in cast("Iterable[tuple[float, pd.DataFrame]]", rows.groupby(column))
    ]
    known = rows.dropna(subset=["predicted"]).drop_duplicates(column).sort_values(column)
    if len(known):
        look: dict[str, Any] = ensemble.PREDICTION | {"zorder": 1.8}
        handles += axes.plot(known[column], known["predicted"], **look, label="predicted: 4kη²/S")
    axes.xaxis.set_major_locator(FixedLocator(sorted(rows[column].dropna().unique())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: base.number(x)))
    return handles


def exponent(rows: pd.DataFrame, column: str, confidence: float) -> Interval | None:
    """Exponent of the rate in a column: the claim's slope of each seed, with its interval."""
    slopes = [log_log_slope(own[column], own["rate"]) for _, own in rows.groupby("seed")]
    return t_interval(slopes, confidence) if slopes else None


def _text(found: Interval | None) -> str:
    if found is None or not np.isfinite(found.high - found.low):
        return "undefined"
    half = (found.high - found.low) / 2
    return f"{found.statistic:.3f} ± {half:.3f}".replace("-", "−")


def _head(variable: str, found: Interval | None) -> str:
    return f"exponent of {variable}: {_text(found)}"


def caption(tables: results.Tables) -> str:
    """What is drawn, the exponents in both units of time, and the scale."""
    rates = decay_rates(tables)
    confidence = base.confidence(tables)
    words = [
        f"{symbol}: {_text(exponent(rows, column, confidence))}"
        for column, (_, symbol, _) in SWEEPS.items()
        if len(rows := rates[rates["varied"] == column])
    ]
    ratios = rates.assign(ratio=rates["rate"] / rates["predicted"]).groupby(
        ["varied", "learning_rate", "batch", "width", "inputs"]
    )
    means = ensemble.finite(ensemble.mean(values) for _, values in ratios["ratio"])
    missing = int((~np.isfinite(rates["rate"])).sum())
    return base.join(
        "Rate at which |C|, C = ‖U‖² − ‖W‖², decays: slope of its logarithm between "
        f"{UPPER:g} and {LOWER:g} of its start. Each panel varies one of η, S, d and k and leaves "
        "the others at their defaults. Dotted: 4kη²/S a step for k inputs, whatever the width.",
        "The exponent of η is 2 a step, and 1 in the paper's unit of time, which is 1/η steps.",
        f"Exponents a step, one slope a seed, with {base.percent(confidence)} t-intervals: "
        f"{'; '.join(words)}."
        if words
        else "",
        f"Rate over prediction: {means.min():.2f} to {means.max():.2f} (means over seeds); an "
        "excess is due to the discrete-time term and to a residual that is not yet gone. It grows "
        "with η, which tilts the exponent."
        if means.size
        else "",
        f"{missing} of {len(rates)} runs diverged or did not come down to {LOWER:g} and are not "
        "drawn."
        if missing
        else "",
        base.points_sentence(tables),
        ensemble.scale_sentence(tables),
    )
