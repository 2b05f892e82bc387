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
PUBLISHED = "Figure 8"
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
EXPONENTS = {"learning_rate": 2, "batch": -1, "width": 0, "inputs": 1}
"""Of 4kη²/S a step. In the paper's unit of time, 1/η steps, that of η is one less."""


@style.house
def draw(tables: results.Tables) -> Figure:
    """Rate a step against η, S, width and the data's dimension."""
    rates = decay_rates(tables)
    confidence = base.confidence(tables)
    figure, stacks = style.panel_grid(4, (3.4, 1.9), columns=2, width=4.6)
    handles = []
    for (axes, below), column in zip(stacks, SWEEPS, strict=True):
        rows = rates[rates["varied"] == column]
        _, symbol, words = SWEEPS[column]
        handles += _draw(axes, rows, column, confidence)
        handles += _draw_ratio(below, rows, column, confidence)
        below.set(xlabel=words)
        theory = EXPONENTS[column]
        found = _text(exponent(rows, column, confidence))
        axes.set_title(f"exponent of {symbol}: {found} (theory {theory})".replace("-", "−"))
    flat = stacks[list(SWEEPS).index("width")][0]
    low, high = flat.get_ylim()
    middle = np.sqrt(low * high)
    flat.set_ylim(min(low, middle / 2), max(high, middle * 2))
    for axes, _ in stacks:
        style.plain_log_ticks(axes)
    style.common_limits([below for _, below in stacks])
    style.label_rows(stacks, "rate (1/step)", "rate / theory")
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
    _tick(axes, rows[column])
    return handles


def _draw_ratio(
    axes: Axes, rows: pd.DataFrame, column: str, confidence: float
) -> Sequence[Artist | None]:
    """Rate over its prediction, where that is known."""
    axes.set_xscale("log")
    known = rows.dropna(subset=["predicted"])
    handles = [
        ensemble.draw_points(
            axes,
            x,
            group["rate"] / group["predicted"],
            confidence,
            style.GREEN,
            "s",
            "rate / theory",
            spread=0.06,
        )
        for x, group in cast("Iterable[tuple[float, pd.DataFrame]]", known.groupby(column))
    ]
    axes.axhline(1.0, **ensemble.PREDICTION | {"linewidth": 1.0, "zorder": 1})
    _tick(axes, rows[column])
    return handles


def _tick(axes: Axes, values: pd.Series) -> None:
    axes.xaxis.set_major_locator(FixedLocator(sorted(values.dropna().unique())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: base.number(x)))


def exponent(rows: pd.DataFrame, column: str, confidence: float) -> Interval | None:
    """Exponent of the rate in a column: the claim's slope of each seed, with its interval."""
    slopes = [log_log_slope(own[column], own["rate"]) for _, own in rows.groupby("seed")]
    return t_interval(slopes, confidence) if slopes else None


def _text(found: Interval | None) -> str:
    if found is None or not np.isfinite(found.high - found.low):
        return "undefined"
    half = (found.high - found.low) / 2
    return f"{found.statistic:.3f} ± {half:.3f}".replace("-", "−")


def alt(tables: results.Tables) -> str:
    """What is seen, with the exponents."""
    rates = decay_rates(tables)
    words = [
        f"{SWEEPS[column][1]} {_text(exponent(rows, column, base.confidence(tables)))}"
        for column in SWEEPS
        if len(rows := rates[rates["varied"] == column])
    ]
    return (
        "Four panels on logarithmic axes: the rate of approach as points against learning rate, "
        "batch size, width and dimension, with the dotted line of theory, and under each the ratio "
        f"of the two. Exponents: {'; '.join(words)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Exponents, and the rate over its prediction, of each sweep."""
    rates = decay_rates(tables)
    confidence = base.confidence(tables)
    rows = []
    for column, (*_, words) in SWEEPS.items():
        own = rates[rates["varied"] == column]
        ratio = own.assign(ratio=own["rate"] / own["predicted"])
        means = ensemble.finite(ensemble.mean(v) for _, v in ratio.groupby(column)["ratio"])
        lost = int((~np.isfinite(own["rate"])).sum())
        rows.append(
            [
                words,
                base.several(sorted(own[column].dropna().unique())),
                str(own["seed"].nunique()),
                f"{EXPONENTS[column]}".replace("-", "−"),
                _text(exponent(own, column, confidence)),
                f"{means.min():.3f} to {means.max():.3f}" if means.size else "–",
                f"{lost} of {len(own)}",
            ]
        )
    headings = ["varied", "values", "seeds", "theory", "exponent a step"]
    return {"columns": [*headings, "rate / theory", "runs without a rate"], "rows": rows}


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Rate at which |C|, C = ‖U‖² − ‖W‖², decays: slope of its logarithm between "
        f"{UPPER:g} and {LOWER:g} of its start. Dotted: 4kη²/S a step. Below: their ratio; its "
        "excess is the discrete-time term and a residual that is not yet gone. The exponent of η "
        "is one less in the paper's time.",
        base.points_sentence(tables),
        ensemble.scale_sentence(tables),
    )
