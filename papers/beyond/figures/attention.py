"""Attention: imbalance of the noise, and charges from two starts, under SGD and GD."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.noise import tail_mean
from sharpflow.results.runs import Run, runs_by_network

from ..claims.attention import QUERY_KEY, VALUE_OUTPUT, charges

TITLE = "Attention: the noise of queries and keys, of values and outputs, balances under SGD"
READS = ("symmetry_imbalance", "symmetry_charge", "symmetry_group")
DRAWS = ("symmetry_charge_share", "symmetry_charge_predicted")
IMBALANCE, SHARE = READS[0], DRAWS[0]

GROUPS = {"queries and keys": QUERY_KEY, "values and outputs": VALUE_OUTPUT}
LINES = ("-", (0, (4, 1.5)), (0, (2, 1)), (0, (5, 1, 1, 1)))
Charges = Callable[[Run], tuple[np.ndarray, np.ndarray]]


@style.house
def draw(tables: results.Tables) -> Figure:
    """Imbalances above, charges in time below, a column a kind of symmetry."""
    figure, stacks = style.panel_grid(2 * len(GROUPS), (4.0,), columns=2, width=4.6)
    axes = [stack[0] for stack in stacks]
    for place, (name, group) in enumerate(GROUPS.items()):
        handles = _draw_imbalance(axes[place], tables, group)
        axes[place].set_title(f"noise of {name}")
        style.legend_in(axes[place], handles)
        handles = _draw_charges(axes[place + 2], tables, group)
        axes[place + 2].set_title(f"charge of {name}")
        style.legend_in(axes[place + 2], handles)
    return figure


def _look(tables: results.Tables, network: results.Network) -> tuple[str, str | tuple, str]:
    chosen = ensemble.networks(tables, *READS)
    own = [n for n in chosen if bool(n.batch) == bool(network.batch)]
    colour = style.BLUE if network.batch else style.VERMILION
    factor = network.setting("model.imbalance")
    words = f"start × {base.number(factor)}" if factor else base.spelled(network.case)
    place = own.index(network) % len(LINES)
    return colour, LINES[place], f"{ensemble.method(network)}, {words}"


def _draw_imbalance(axes: Axes, tables: results.Tables, group: int) -> list[Artist | None]:
    handles: list[Artist | None] = []
    for network in ensemble.networks(tables, *READS):
        colour, dashes, words = _look(tables, network)
        frame = results.curves(tables, network, IMBALANCE, group)
        handles.append(ensemble.draw_band(axes, frame, colour, dashes, words))
        share = results.curves(tables, network, SHARE, group)
        if network.batch and not share.empty:
            label = "SGD, of the weights"
            handles.append(ensemble.draw_band(axes, share, style.ORANGE, dashes, label))
    axes.set(xlabel="step", ylabel="relative imbalance", ylim=(0, 1))
    return handles


def _draw_charges(axes: Axes, tables: results.Tables, group: int) -> list[Artist | None]:
    handles: list[Artist | None] = []
    found = runs_by_network(tables, *READS)
    for network in ensemble.networks(tables, *READS):
        colour, dashes, words = _look(tables, network)
        frame = ensemble.by_seed(found[network], lambda run: charges(run, group))
        handles.append(ensemble.draw_band(axes, frame, colour, dashes, words))
        if network.batch and results.networks(tables, DRAWS[1]):
            predicted = ensemble.by_seed(
                found[network], lambda run: charges(run, group, "symmetry_charge_predicted")
            )
            label = "Noether flow, from the start"
            steps, means = predicted.index, predicted.mean(axis=1)
            handles += axes.plot(steps, means, **ensemble.PREDICTION, label=label)
    axes.set(xlabel="step", ylabel="charge of all heads")
    return handles


def _ends(tables: results.Tables, network: results.Network, group: int, quantity: str) -> str:
    runs = runs_by_network(tables, *READS)[network]
    if not results.networks(tables, quantity):
        return ""
    values = pd.Series([tail_mean(run, quantity, group) for run in runs])
    return ensemble.interval_text(values, base.confidence(tables))


def alt(tables: results.Tables) -> str:
    """What is seen, and the imbalances at the end."""
    said = [
        f"{_look(tables, n)[2]} " + " and ".join(_ends(tables, n, g, IMBALANCE) for g in (0, 1))
        for n in ensemble.networks(tables, *READS)
    ]
    return (
        "Four panels in time: the imbalance of the noise falls under SGD and stays under GD; the "
        "charges of two starts come together under SGD, along dotted predictions, and stay apart "
        f"under GD. Imbalance at the end: {'; '.join(said)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Imbalances at the end, of the noise and of the weights."""
    columns = {}
    for name, group in GROUPS.items():
        columns[f"{name}: imbalance of the noise"] = lambda n, g=group: _ends(
            tables, n, g, IMBALANCE
        )
        columns[f"{name}: of the weights"] = lambda n, g=group: _ends(tables, n, g, SHARE)
    return base.numbers_table(tables, ensemble.networks(tables, *READS), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "A layer of attention that learns another's outputs. Above: Σ‖A − B‖/Σ(‖A‖ + ‖B‖) over the "
        "heads, A and B the noise Grams of the two maps; orange: of the maps themselves. Below: "
        "charges from two starts that are one function, and (dotted) what the Noether flow adds.",
        ensemble.BAND,
        ensemble.scale_sentence(tables),
    )
