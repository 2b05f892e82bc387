"""Freezing layers, the output layer first, slows progressive sharpening (Li et al., 2022)."""

import json
from collections.abc import Iterable
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from sharpflow.figures import base, edge, style
from sharpflow.figures.edge import SHARPNESS
from sharpflow.results import tables as results
from sharpflow.results.rates import growth_rates
from sharpflow.results.runs import Run, runs_by_network
from sharpflow.statistics.intervals import t_interval

from ..claims.freezing import LEAST_ENTRIES

TITLE = "Sharpness with frozen layers"
READS = ("gauss_newton_sharpness",)
DRAWS = ("trained_sharpness",)

TRAINED = "trained_sharpness"
ALIKE = (
    "data",
    "model",
    "loss",
    "optimiser",
    "schedule",
    "training.batch",
    "training.weight_decay",
)
"""Settings that are equal where networks differ by their frozen layers only."""

Group = list[tuple[int, results.Network]]


@style.house
def draw(tables: results.Tables) -> Figure:
    """Λ of all parameters, Λ of the trained layers and growth rates; a row an experiment."""
    found = groups(tables)
    runs = runs_by_network(tables, *READS)
    figure, stacks = style.panel_grid(3 * len(found), heights=(4.4,), columns=3)
    handles = []
    for row, members in enumerate(found):
        (whole,), (trained,), (rates,) = stacks[3 * row : 3 * row + 3]
        for axes, quantity in ((whole, SHARPNESS), (trained, TRAINED)):
            handles += _draw_curves(axes, tables, members, quantity)
        whole.set(ylabel="sharpness Λ", title=f"all parameters{_which(tables, found, members)}")
        trained.set(ylabel="Λ of the trained layers", title="trained layers only")
        _draw_rates(rates, growth(members, runs), base.confidence(tables))
    style.legend_below(figure, handles)
    return figure


def groups(tables: results.Tables) -> list[Group]:
    """Networks that differ by the number of frozen layers only, each with that number.

    Raises:
        ValueError: no network has the sharpness.
    """
    found: dict[tuple, Group] = {}
    for network in results.networks(tables, *READS):
        member = (int(network.setting("training.frozen") or 0), network)
        alike = json.dumps([network.setting(key) for key in ALIKE], sort_keys=True)
        key = (network.experiment, network.width, network.learning_rate, alike)
        found.setdefault(key, []).append(member)
    if not found:
        raise ValueError(f"tables hold no quantity {SHARPNESS!r}, which this figure draws")
    return [sorted(members, key=lambda member: member[0]) for members in found.values()]


def growth(members: Group, runs: dict[results.Network, list[Run]]) -> pd.DataFrame:
    """Growth rate of Λ over its threshold of each run, as the claim has it.

    The horizon is that of a seed's runs together: to the earliest first crossing among them.

    Args:
        members: the networks.
        runs: of each network.

    Returns:
        One row a run: frozen, seed, rate.
    """
    by_seed: dict[int, list[tuple[int, Run]]] = {}
    for frozen, network in members:
        for run in runs[network]:
            by_seed.setdefault(run.seed, []).append((frozen, run))
    rows = []
    for seed, own in by_seed.items():
        curves = [run.relative(SHARPNESS) for _, run in own]
        rates = growth_rates(curves, [1.0] * len(own), LEAST_ENTRIES)
        rows += [(frozen, seed, rate) for (frozen, _), rate in zip(own, rates, strict=True)]
    return pd.DataFrame(rows, columns=["frozen", "seed", "rate"])


def _draw_curves(
    axes: Axes, tables: results.Tables, members: Group, quantity: str
) -> list[Line2D | None]:
    handles = []
    for frozen, network in members:
        curves = results.curves(tables, network, quantity)
        if curves.empty:
            continue
        handles.append(
            style.draw_seeds(
                axes,
                curves,
                results.strong_seed(tables, network, SHARPNESS),
                style.PALETTE[frozen % len(style.PALETTE)],
                style.DASHES[frozen % len(style.DASHES)],
                f"{frozen} frozen",
            )
        )
    network = members[0][1]
    strong = results.strong_seed(tables, network, SHARPNESS)
    threshold = edge.threshold(tables, network, strong)
    handles.append(style.draw_threshold(axes, threshold, network.threshold_symbol))
    sharpness = pd.concat([results.curves(tables, n, quantity) for _, n in members], axis=1)
    top = style.sharpness_top(sharpness, threshold)
    axes.set(xlabel="step", ylim=(0, top))
    if len(sharpness):
        axes.set_xlim(0, float(sharpness.index.max()))
    return handles


def _draw_rates(axes: Axes, rates: pd.DataFrame, confidence: float) -> None:
    groups = cast("Iterable[tuple[int, pd.DataFrame]]", rates.groupby("frozen"))
    for frozen, group in groups:
        values = group["rate"].dropna().to_numpy()
        if not values.size:
            continue
        place = int(frozen) % len(style.PALETTE)
        colour, marker = style.PALETTE[place], style.MARKERS[place]
        beside = frozen - 0.12 + np.linspace(-0.1, 0.1, values.size)
        axes.plot(beside, values, marker, color=colour, markersize=3, alpha=0.6, linestyle="")
        interval = t_interval(values, confidence)
        if np.isfinite(interval.high - interval.low):
            axes.vlines(frozen + 0.12, interval.low, interval.high, color=colour, linewidth=1.3)
        axes.plot(frozen + 0.12, interval.statistic, marker, color=colour, markersize=6)
    label = "growth of Λ / threshold a step"
    axes.set(xlabel="frozen layers", ylabel=label, title="initial growth")
    axes.xaxis.set_major_locator(FixedLocator(sorted(rates["frozen"].unique())))
    axes.axhline(0.0, color=style.GREY, linewidth=0.5, zorder=1)


def _which(tables: results.Tables, found: list[Group], members: Group) -> str:
    """What tells one group from the others."""
    if len(found) == 1:
        return ""
    network = members[0][1]
    title = tables[network.experiment].settings.get("title", network.experiment)
    threshold = f"{network.threshold_symbol} = {base.number(network.threshold)}"
    text = f": {title}, width {network.width}, {threshold}"
    keys = [(n.experiment, n.width, n.learning_rate) for (_, n), *_ in found]
    own = (network.experiment, network.width, network.learning_rate)
    return f"{text}, {network.case}" if keys.count(own) > 1 else text


def caption(tables: results.Tables) -> str:
    """What is drawn, how growth is measured and ordered, and the scale."""
    found = groups(tables)
    runs = runs_by_network(tables, *READS)
    notes = []
    for members in found:
        rates = growth(members, runs).groupby("frozen")["rate"].mean().dropna()
        if len(rates):
            words = ", ".join(f"{frozen} frozen: {rate:.3g}" for frozen, rate in rates.items())
            notes.append(f"Mean growth a step{_which(tables, found, members)}: {words}.")
    return base.join(
        "Left: Gauss-Newton sharpness Λ of all parameters, frozen ones included, while the output "
        "layer and then the layers below it keep their initial values. Middle: Λ of the layers "
        "that are trained, which governs stability. Dashed: the stability threshold "
        f"{base.symbols(list(runs))}. Right: growth rate of the left panel's Λ over the threshold, "
        "the least-squares slope from the start to the earliest first crossing among a seed's "
        "runs, the same stretch for all of them.",
        base.points_sentence(tables) if max(map(len, runs.values())) > 1 else "",
        *notes,
        base.seeds_sentence(tables, SHARPNESS),
        edge.cut_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {SHARPNESS: "Λ", TRAINED: "Λ of the trained layers"}),
        base.scale_sentence(tables),
    )
