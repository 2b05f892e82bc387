"""The change of every charge of a transformer's block against what the Noether flow predicts."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.runs import Run, runs_by_network

from ..claims.noether_budget import GROUPS, Budget, budget

TITLE = "Charges of a transformer's block against the integrated Noether flow"
READS = ("symmetry_charge", "symmetry_group", "symmetry_noise_outer", "symmetry_noise_inner")
DRAWS = ("symmetry_gradient_outer", "symmetry_gradient_inner")

SHOWN = ("query and key", "value and output", "hidden units")
Found = dict[results.Network, list[Run]]


@style.house
def draw(tables: results.Tables) -> Figure:
    """Measured over predicted changes, a column a group and a row a rule."""
    found = runs_by_network(tables, *READS)
    figure, stacks = style.panel_grid(
        len(SHOWN) * len(found), (4.0,), columns=len(SHOWN), width=3.4
    )
    places = [(network, name) for network in found for name in SHOWN]
    handles: list[Artist | None] = []
    for (network, name), (axes,) in zip(places, stacks, strict=True):
        handles += _draw_group(axes, name, found[network], _colour(network))
        axes.set_title(f"{base.case(network, list(found))}: {name}")
    style.label_rows(stacks, "measured change of charge")
    style.legend_below(figure, handles)
    return figure


def _colour(network: results.Network) -> str:
    return style.BLUE if network.setting("optimiser.kind") in (None, "sgd") else style.VERMILION


def _budgets(runs: list[Run], name: str) -> list[Budget]:
    found = [budget(run, GROUPS[name]) for run in runs if not run.diverged]
    return [each for each in found if each.measured.size]


def _draw_group(axes: Axes, name: str, runs: list[Run], colour: str) -> list[Artist | None]:
    handles: list[Artist | None] = []
    found = _budgets(runs, name)
    if not found:
        return handles
    predicted = np.concatenate([each.predicted for each in found])
    measured = np.concatenate([each.measured for each in found])
    marks = axes.scatter(
        predicted, measured, s=6, color=colour, alpha=0.4, linewidths=0, zorder=2, rasterized=True
    )
    marks.set_label("a charge of one seed")
    ends = np.array([predicted.min(), predicted.max()])
    line = {**ensemble.PREDICTION, "zorder": 3}
    handles = [marks, *axes.plot(ends, ends, **line, label="as predicted")]
    axes.set(xlabel="predicted change")
    slopes = [each.slope for each in found]
    pairs = [each.correlation() for each in found]
    said = f"slope {np.mean(slopes):.2f}, r {np.mean(pairs):.2f}".replace("-", "−")
    style.note(axes, said, low=True)
    return handles


def _said(tables: results.Tables, network: results.Network, name: str, kind: str) -> str:
    found = _budgets(runs_by_network(tables, *READS)[network], name)
    values = {
        "slope": [each.slope for each in found],
        "r": [each.correlation() for each in found],
    }[kind]
    return ensemble.interval_text(values, base.confidence(tables)) if values else ""


def alt(tables: results.Tables) -> str:
    """What is seen, and the slopes."""
    said = [
        f"{base.case(network, [network])}, {name} {_said(tables, network, name, 'slope')}"
        for network in results.networks(tables, *READS)
        for name in SHOWN
    ]
    return (
        "Scatter plots of measured against predicted changes of charges, a column a kind of "
        "symmetry: along the diagonal under SGD, away from it under Adam. Slopes: "
        f"{'; '.join(said)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Slopes and correlations of every group."""
    columns = {}
    for name in GROUPS:
        columns[f"{name}: slope"] = lambda n, name=name: _said(tables, n, name, "slope")
        columns[f"{name}: r"] = lambda n, name=name: _said(tables, n, name, "r")
    return base.numbers_table(tables, results.networks(tables, *READS), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Every point is an entry of a charge matrix of a head (upper triangle), or the charge of a "
        "hidden unit, of one seed: its change from a tenth of the run on, against η² times the "
        "integral of (G_O − G_I)/S + M_O − M_I, the noise's and the mean gradient's Grams on the "
        "two sides of the symmetry (dotted: equal). For Adam it is what SGD's law would say.",
        ensemble.scale_sentence(tables),
    )
