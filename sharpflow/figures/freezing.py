"""Freezing layers, the output layer first, slows progressive sharpening (Li et al., 2022)."""

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from sharpflow.dynamics import growth_rates
from sharpflow.figures import base, style
from sharpflow.statistics import t_interval

TITLE = "Sharpness with frozen layers"

SHARPNESS = "gauss_newton_sharpness"
TRAINED = "trained_sharpness"
CONFIDENCE = 0.95
DASHES = ("-", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)), (0, (2, 2)), "-.")

Group = list[tuple[int, base.Network]]


@style.house
def draw(tables: base.Tables) -> Figure:
    """Λ of all parameters, Λ of the trained layers and growth rates; a row an experiment."""
    found = groups(tables)
    figure, stacks = style.panel_grid(3 * len(found), heights=(4.4,), columns=3)
    handles = []
    for row, members in enumerate(found):
        (whole,), (trained,), (rates,) = stacks[3 * row : 3 * row + 3]
        for axes, quantity in ((whole, SHARPNESS), (trained, TRAINED)):
            handles += _draw_curves(axes, tables, members, quantity)
        whole.set(ylabel="sharpness Λ", title=f"all parameters{_which(tables, found, members)}")
        trained.set(ylabel="Λ of the trained layers", title="trained layers only")
        _draw_rates(rates, growth(tables, members))
    style.legend_below(figure, handles)
    return figure


def groups(tables: base.Tables) -> list[Group]:
    """Networks that differ by the number of frozen layers only, each with that number."""
    found: dict[tuple, Group] = {}
    for network in base.networks(tables, SHARPNESS):
        number = re.search(r"(\d+)$", network.case)
        if number:
            key = (network.experiment, network.width, network.learning_rate)
            found.setdefault(key, []).append((int(number.group()), network))
    if not found:
        raise ValueError(
            f"tables hold no quantity {SHARPNESS!r} of a case whose name ends with the number of "
            "frozen layers, as frozen_2"
        )
    return [sorted(members, key=lambda member: member[0]) for members in found.values()]


def growth(tables: base.Tables, members: Group) -> pd.DataFrame:
    """One row a run: frozen, seed, rate; see :func:`sharpflow.dynamics.growth_rates`.

    The horizon is that of a seed's runs together: to the earliest first crossing among them.
    """
    frames = {frozen: base.curves(tables, network, SHARPNESS) for frozen, network in members}
    thresholds = [network.threshold for _, network in members]
    seeds = sorted(set.intersection(*(set(frame.columns) for frame in frames.values())))
    rows = []
    for seed in seeds:
        curves = [(frame[seed].dropna().index, frame[seed].dropna()) for frame in frames.values()]
        rates = growth_rates(curves, thresholds)
        rows += [
            {"frozen": frozen, "seed": seed, "rate": rate}
            for frozen, rate in zip(frames, rates, strict=True)
        ]
    return pd.DataFrame(rows, columns=["frozen", "seed", "rate"])


def _draw_curves(axes: Axes, tables: base.Tables, members: Group, quantity: str) -> list:
    handles = []
    for frozen, network in members:
        curves = base.curves(tables, network, quantity)
        if curves.empty:
            continue
        handles.append(
            style.draw_seeds(
                axes,
                curves,
                base.strong_seed(tables, network, SHARPNESS),
                style.PALETTE[frozen % len(style.PALETTE)],
                DASHES[frozen % len(DASHES)],
                f"{frozen} frozen",
            )
        )
    threshold = members[0][1].threshold
    handles.append(style.draw_threshold(axes, threshold))
    sharpness = pd.concat([base.curves(tables, n, quantity) for _, n in members], axis=1)
    top = style.sharpness_top(sharpness, threshold)
    axes.set(xlabel="step", ylim=(0, top))
    if len(sharpness):
        axes.set_xlim(0, float(sharpness.index.max()))
    return handles


def _draw_rates(axes: Axes, rates: pd.DataFrame) -> None:
    for frozen, group in rates.groupby("frozen"):
        values = group["rate"].dropna().to_numpy()
        if not values.size:
            continue
        place = int(frozen) % len(style.PALETTE)
        colour, marker = style.PALETTE[place], style.MARKERS[place]
        beside = frozen - 0.12 + np.linspace(-0.1, 0.1, values.size)
        axes.plot(beside, values, marker, color=colour, markersize=3, alpha=0.6, linestyle="")
        interval = t_interval(values, CONFIDENCE)
        if np.isfinite(interval.high - interval.low):
            axes.vlines(frozen + 0.12, interval.low, interval.high, color=colour, linewidth=1.3)
        axes.plot(frozen + 0.12, interval.statistic, marker, color=colour, markersize=6)
    axes.set(xlabel="frozen layers", ylabel="growth rate of Λ a step", title="initial growth")
    axes.xaxis.set_major_locator(FixedLocator(sorted(rates["frozen"].unique())))
    axes.axhline(0.0, color=style.GREY, linewidth=0.5, zorder=1)


def _which(tables: base.Tables, found: list[Group], members: Group) -> str:
    """What tells one group from the others."""
    if len(found) == 1:
        return ""
    network = members[0][1]
    title = tables[network.experiment].settings.get("title", network.experiment)
    return f": {title}, width {network.width}, 2/η = {base.number(network.threshold)}"


def caption(tables: base.Tables) -> str:
    """What is drawn, how growth is measured and ordered, and the scale."""
    found = groups(tables)
    notes = []
    for members in found:
        rates = growth(tables, members).groupby("frozen")["rate"].mean()
        if rates.notna().any():
            words = ", ".join(f"{frozen} frozen: {rate:.3g}" for frozen, rate in rates.items())
            notes.append(f"Mean growth a step{_which(tables, found, members)}: {words}.")
    several = any(len(base.curves(tables, n, SHARPNESS).columns) > 1 for m in found for _, n in m)
    return base.join(
        "Left: Gauss-Newton sharpness Λ of all parameters, frozen ones included, while the output "
        "layer and then the layers below it keep their initial values. Middle: Λ of the layers "
        "that are trained, which governs stability. Dashed: the stability threshold 2/η. Right: "
        "growth rate of the left panel's Λ, its least-squares slope from the start to the earliest "
        "first crossing among a seed's runs, the same stretch for all of them.",
        f"Points: single seeds; large markers: their mean with its {100 * CONFIDENCE:.0f} % "
        "t-interval."
        if several
        else "",
        *notes,
        base.seeds_sentence(tables, SHARPNESS),
        base.cut_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {SHARPNESS: "Λ", TRAINED: "Λ of the trained layers"}),
        base.scale_sentence(tables),
    )
