"""The change of every charge of a transformer's block against what the Noether flow predicts."""

from functools import partial

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.runs import runs_by_network

from ..claims.noether_budget import GROUPS, JUDGED, Budget, budgets

TITLE = "Charges of a transformer's block against the integrated Noether flow"
READS = ("symmetry_charge", "symmetry_group", "symmetry_noise_outer", "symmetry_noise_inner")
DRAWS = ("symmetry_gradient_outer", "symmetry_gradient_inner")

FAR = 10
"""A slope beyond it says nothing but that there is no law."""
Found = dict[results.Network, list[dict[str, Budget]]]
"""Of every run of a network, the budgets by group."""


@style.house
def draw(tables: results.Tables) -> Figure:
    """Measured over predicted changes, a column a group and a row a rule."""
    found = _budgets(tables)
    figure, stacks = style.panel_grid(
        len(JUDGED) * len(found), (4.0,), columns=len(JUDGED), width=3.4
    )
    places = [(network, name) for network in found for name in JUDGED]
    handles: list[Artist | None] = []
    for (network, name), (axes,) in zip(places, stacks, strict=True):
        handles += _draw_group(axes, [each[name] for each in found[network]], _colour(network))
        axes.set_title(f"{base.case(network, list(found))}: {name}")
    style.label_rows(stacks, "measured change of charge")
    style.legend_below(figure, handles)
    return figure


def _sgd(network: results.Network) -> bool:
    return network.setting("optimiser.kind") in (None, "sgd")


def _colour(network: results.Network) -> str:
    return style.BLUE if _sgd(network) else style.VERMILION


def _budgets(tables: results.Tables) -> Found:
    runs = runs_by_network(tables, *READS)
    return {
        network: [each for run in own if not run.diverged and (each := budgets(run))]
        for network, own in runs.items()
    }


def _draw_group(axes: Axes, found: list[Budget], colour: str) -> list[Artist | None]:
    handles: list[Artist | None] = []
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
    slope = float(np.mean([each.slope for each in found]))
    pair = float(np.mean([each.correlation() for each in found]))
    parts = [f"slope {slope:.2f}"] * (abs(slope) < FAR) + [f"r {pair:.2f}"]
    style.note(axes, ", ".join(parts).replace("-", "−"), low=True)
    axes.locator_params(axis="x", nbins=4)
    return handles


def _said(own: list[dict[str, Budget]], name: str, kind: str, confidence: float) -> str:
    found = [each[name] for each in own]
    values = [each.slope if kind == "slope" else each.correlation() for each in found]
    return ensemble.interval_text(values, confidence) if values else ""


def alt(tables: results.Tables) -> str:
    """What is seen, and the slopes under SGD."""
    confidence = base.confidence(tables)
    said = [
        f"{base.case(network, [network])}, {name} {_said(own, name, 'slope', confidence)}"
        for network, own in _budgets(tables).items()
        for name in JUDGED
        if _sgd(network)
    ]
    return (
        "Scatter plots of measured against predicted changes of charges, a column a kind of "
        "symmetry: along the diagonal under SGD, away from it under Adam. Slopes: "
        f"{'; '.join(said)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Slopes and correlations of every group."""
    found, confidence = _budgets(tables), base.confidence(tables)
    columns = {
        f"{name}: {kind}": partial(_of_network, found, name, kind, confidence)
        for name in GROUPS
        for kind in ("slope", "r")
    }
    return base.numbers_table(tables, list(found), columns)


def _of_network(
    found: Found, name: str, kind: str, confidence: float, network: results.Network
) -> str:
    return _said(found[network], name, kind, confidence)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Every point is an entry of a charge matrix of a head (upper triangle), or the charge of a "
        "hidden unit, of one seed: its change from a tenth of the run on, against η² times the "
        "integral of (G_O − G_I)/S + M_O − M_I, the noise's and the mean gradient's Grams on the "
        "two sides of the symmetry (dotted: equal). For Adam it is what SGD's law would say.",
        ensemble.scale_sentence(tables),
    )
