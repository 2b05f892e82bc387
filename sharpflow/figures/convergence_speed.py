"""How fast SGD goes to the noise equilibrium: against learning rate, batch size and width."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sharpflow.dynamics import decay_rate
from sharpflow.figures import _ensemble as ensemble
from sharpflow.figures import base, style
from sharpflow.statistics import slope_interval

TITLE = "The approach to the noise equilibrium: rate against η, S and width"

W, U = 0, 1


@style.house
def draw(tables: base.Tables) -> Figure:
    """Rate a step against η, S and width, and a unit of SDE time against η."""
    rates = decay_rates(tables)
    figure, stacks = style.panel_grid(4, (4.2,), columns=2, width=4.6)
    (first,), (second,), (third,), (fourth,) = stacks
    handles = []
    eta = rates[rates["group"] == "eta"]
    handles += _draw(first, eta, "learning_rate", lambda rows: rows["rate"])
    first.set(xlabel="learning rate η", ylabel="rate a step")
    _head(first, "η, a step", eta, "learning_rate", eta["rate"])
    scaled = eta["rate"] / eta["learning_rate"]
    handles += _draw(
        second, eta, "learning_rate", lambda rows: rows["rate"] / rows["learning_rate"]
    )
    second.set(xlabel="learning rate η", ylabel="rate a unit of SDE time")
    _head(second, "η, a unit of SDE time t = ηk", eta, "learning_rate", scaled)
    for axes, group, column, label in (
        (third, "batch", "batch", "batch size S"),
        (fourth, "width", "width", "width d"),
    ):
        rows = rates[rates["group"] == group]
        handles += _draw(axes, rows, column, lambda rows: rows["rate"])
        axes.set(xlabel=label, ylabel="rate a step")
        _head(axes, f"{label.split()[-1]}, a step", rows, column, rows["rate"])
    low, high = fourth.get_ylim()
    middle = np.sqrt(low * high)
    fourth.set_ylim(min(low, middle / 2), max(high, middle * 2))
    style.legend_below(figure, handles)
    return figure


def decay_rates(tables: base.Tables) -> pd.DataFrame:
    """One row a run: group (eta, batch, width), learning_rate, batch, width, seed, rate, predicted.

    The rate is the slope of log |‖U‖² − ‖W‖²| a step between 0.9 and 0.3 of its start; NaN for a
    run that did not come that far.
    """
    rows = []
    for network in ensemble.networks(tables, "norm_squared", r"eta|batch_\d+|width"):
        inner, outer = (base.curves(tables, network, "norm_squared", i) for i in (W, U))
        charge = (outer - inner).abs()
        share = charge / charge.iloc[0]
        predicted = ensemble.constant(tables, network, "rate_predicted")
        for seed in share.columns:
            kept = share[seed].dropna()
            rows.append(
                {
                    "group": network.case.split("_")[0],
                    "learning_rate": network.learning_rate,
                    "batch": ensemble.number_in(network.case),
                    "width": network.width,
                    "seed": seed,
                    "rate": decay_rate(kept.index, kept),
                    "predicted": predicted,
                }
            )
    return pd.DataFrame(rows)


def _draw(axes: Axes, rows: pd.DataFrame, column: str, value: Callable) -> list:
    axes.set(xscale="log", yscale="log")
    handles = []
    for x, group in rows.groupby(column):
        handles.append(
            ensemble.draw_points(
                axes, x, value(group), style.BLUE, "o", "SGD: mean, interval", spread=0.06
            )
        )
    known = rows.dropna(subset=["predicted"]).drop_duplicates(column).sort_values(column)
    if len(known):
        line = value(known.assign(rate=known["predicted"]))
        handles += axes.plot(
            known[column], line, **ensemble.PREDICTION | {"zorder": 1.8}, label="predicted: 4kη²/S"
        )
    ticks = sorted(rows[column].dropna().unique())
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: base.number(x)))
    return handles


def exponent(rows: pd.DataFrame, column: str, rates: pd.Series) -> tuple[float, float]:
    """Exponent of the rate in a column, one slope a seed: mean and half-width of its t-interval."""
    if rates.isna().any() or rows[column].nunique() < 2:
        return float("nan"), float("nan")
    interval = slope_interval(
        np.log(rows[column].astype(float)), np.log(rates), rows["seed"], ensemble.CONFIDENCE
    )
    return interval.statistic, (interval.high - interval.low) / 2


def _head(axes: Axes, variable: str, rows: pd.DataFrame, column: str, rates: pd.Series) -> None:
    mean, half = exponent(rows, column, rates)
    text = f"{mean:.3f} ± {half:.3f}" if np.isfinite(half) else "undefined"
    axes.set_title(f"exponent of {variable}: {text}".replace("-", "−"))


def caption(tables: base.Tables) -> str:
    """What is drawn, the exponents in both units of time, and the scale."""
    rates = decay_rates(tables)
    words = []
    for group, column, symbol in (
        ("eta", "learning_rate", "η"),
        ("batch", "batch", "S"),
        ("width", "width", "d"),
    ):
        rows = rates[rates["group"] == group]
        if len(rows):
            mean, half = exponent(rows, column, rows["rate"])
            words.append(f"{symbol}: {mean:.3f} ± {half:.3f}".replace("-", "−"))
    ratio = (rates["rate"] / rates["predicted"]).groupby(
        [rates["group"], rates["learning_rate"], rates["batch"].fillna(0), rates["width"]]
    )
    means = ratio.mean().dropna()
    missing = int(rates["rate"].isna().sum())
    return base.join(
        "Rate at which |C|, C = ‖U‖² − ‖W‖², decays: slope of its logarithm between 0.9 and 0.3 of "
        "its start. Each panel varies one of η, S and d and leaves the others at their defaults. "
        "Dotted: 4kη²/S a step for k inputs, whatever the width.",
        "The exponent of η is 2 a step; a unit of SDE time, t = ηk, is 1/η steps and has the "
        "exponent 1 (above, right): the same runs, in the paper's unit of time.",
        f"Exponents a step, one slope a seed, with {100 * ensemble.CONFIDENCE:g} % t-intervals: "
        f"{'; '.join(words)}."
        if words
        else "",
        f"Rate over prediction: {means.min():.2f} to {means.max():.2f} (means over seeds); an "
        "excess is due to the discrete-time term and to a residual that is not yet gone. It grows "
        "with η, which tilts the exponent."
        if len(means)
        else "",
        f"{missing} of {len(rates)} runs did not come down to 0.3 and are not drawn."
        if missing
        else "",
        ensemble.POINTS,
        ensemble.scale_sentence(tables),
    )
