"""Freezing layers, the output layer first, slows progressive sharpening (Li et al., 2022)."""

import json
from collections.abc import Iterable
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from sharpflow.figures import base, edge, ensemble, style
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
    unit = edge.unit(list(runs))
    figure, stacks = style.panel_grid(3 * len(found), heights=(4.4,), columns=3)
    handles: list[Artist | None] = []
    for row, members in enumerate(found):
        (whole,), (trained,), (rates,) = stacks[3 * row : 3 * row + 3]
        for axes, quantity in ((whole, SHARPNESS), (trained, TRAINED)):
            handles += _draw_curves(axes, tables, members, quantity, unit)
        _limit(whole, trained, tables, members, unit)
        whole.set(ylabel=unit.label(), title=f"all parameters{_which(tables, found, members)}")
        trained.set(ylabel=unit.label(), title="the trained layers' part of it")
        _draw_rates(rates, growth(members, runs), base.confidence(tables))
    style.legend_below(figure, handles)
    return figure


def _limit(
    whole: Axes, trained: Axes, tables: results.Tables, members: Group, unit: edge.Unit
) -> None:
    frames = [
        pd.concat([unit.curves(tables, n, quantity) for _, n in members], axis=1)
        for quantity in (SHARPNESS, TRAINED)
    ]
    network = members[0][1]
    strong = results.strong_seed(tables, network, SHARPNESS)
    unit.limit((whole, trained), frames, [unit.threshold(tables, network, strong)] * 2)


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
    axes: Axes, tables: results.Tables, members: Group, quantity: str, unit: edge.Unit
) -> list[Artist | None]:
    handles: list[Artist | None] = []
    last = 0.0
    for frozen, network in members:
        curves = unit.curves(tables, network, quantity)
        if curves.empty:
            continue
        last = max(last, float(curves.index.max()))
        handles.append(
            edge.draw_sharpness(
                axes,
                curves,
                results.strong_seed(tables, network, SHARPNESS),
                style.PALETTE[frozen % len(style.PALETTE)],
                style.DASHES[frozen % len(style.DASHES)],
                f"{frozen} frozen",
                1.2,
            )
        )
    network = members[0][1]
    strong = results.strong_seed(tables, network, SHARPNESS)
    handles.append(unit.draw_threshold(axes, tables, network, strong))
    axes.set(xlabel="step", xlim=(0, last or 1.0))
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
    axes.set(
        xlabel="number of frozen layers", ylabel=label, title="initial growth of all parameters' Λ"
    )
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
    return f"{text}, {base.spelled(network.case)}" if keys.count(own) > 1 else text


def alt(tables: results.Tables) -> str:
    """What is seen."""
    found = groups(tables)
    most = max(frozen for members in found for frozen, _ in members)
    return (
        "Three panels. In the first two, curves of the sharpness over the training steps, one "
        f"colour for each number of frozen layers from 0 to {most}, with a dashed line at the "
        "threshold; the third shows the initial growth of each seed as points with intervals "
        "against the number of frozen layers."
    )


def trained_share(tables: results.Tables, network: results.Network) -> float:
    """Λ of the trained layers over Λ of all parameters over the last fifth; median over seeds."""
    share = results.curves(tables, network, TRAINED) / results.curves(tables, network, SHARPNESS)
    return float(ensemble.tail(share).median()) if len(share) else float("nan")


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Growth by the number of frozen layers, and what the trained ones have of Λ at the end."""
    runs = runs_by_network(tables, *READS)
    found = groups(tables)
    members = [member for group in found for member in group]
    frozen = {network: number for number, network in members}
    rates = {
        network: own
        for group in found
        for number, network in group
        for own in [growth(group, runs).query("frozen == @number")["rate"].mean()]
    }
    return base.numbers_table(
        tables,
        list(frozen),
        {
            "2/η": lambda n: base.number(n.threshold),
            "frozen layers": lambda n: str(frozen[n]),
            "mean growth of Λ / threshold a step": lambda n: f"{rates[n]:.3g}",
            "trained layers' part of Λ at the end": lambda n: f"{trained_share(tables, n):.2f}",
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, how growth is measured, and the scale."""
    runs = runs_by_network(tables, *READS)
    return base.join(
        "Left: Λ of all parameters, while the output layer and then layers below it stay frozen. "
        "Middle: Λ of the trained layers alone, which governs stability; the two part as more "
        "freeze. Right: slope of the left panel until the earliest crossing among a seed's runs; "
        "large: mean, interval.",
        edge.means_sentence(results.curves(tables, n, SHARPNESS) for n in runs),
        base.seeds_sentence(tables, SHARPNESS),
        base.scale_sentence(tables),
    )
