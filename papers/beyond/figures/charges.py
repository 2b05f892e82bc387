"""Charges of units under weight decay against the noise of their two sides."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.charges import batch, still
from sharpflow.results.noise import last
from sharpflow.results.runs import Run, runs_by_network
from sharpflow.results.units import late_means

from ..claims.charges import decayed_charges, decayed_charges_correlate

TITLE = "Under weight decay SGD keeps units where noise and decay cancel"
READS = ("symmetry_charge", "symmetry_noise_outer", "symmetry_gradient_outer")
DRAWS = ("symmetry_charge_predicted", "symmetry_charge_share")


@style.house
def draw(tables: results.Tables) -> Figure:
    """A panel a network: charge on prediction, a mark a unit, a colour a seed."""
    found = runs_by_network(tables, *READS)
    figure, stacks = style.panel_grid(len(found), heights=(4.2,), columns=3)
    handles: list[Artist | None] = []
    for (network, runs), (axes,) in zip(found.items(), stacks, strict=True):
        handles += _draw_units(axes, runs)
        axes.set_title(base.case(network, list(found)))
        axes.locator_params(axis="x", nbins=5)
        axes.set(xlabel="charge at which noise and decay cancel", ylabel="charge of a unit")
    style.legend_below(figure, handles)
    return figure


def _draw_units(axes: Axes, runs: list[Run]) -> list[Artist | None]:
    handles: list[Artist | None] = []
    ends = []
    for place, run in enumerate(runs):
        x, y = still(run), late_means(run, "symmetry_charge")
        colour, _ = style.look(place)
        marker = style.MARKERS[place % len(style.MARKERS)]
        label = f"units of seed {run.seed}"
        look = {"color": colour, "marker": marker, "s": 13, "alpha": 0.75, "linewidths": 0}
        handles.append(axes.scatter(x, y, label=label, zorder=3, **look))
        ends += [x.min(), x.max(), y.min(), y.max()]
    line = np.array([min(ends), max(ends)]) * 1.05
    handles += axes.plot(line, line, label="predicted", **ensemble.PREDICTION)
    zero = {"color": style.GREY, "linewidth": 0.8, "linestyle": "-", "zorder": 1}
    handles.append(axes.axhline(0.0, label="balanced layers", **zero))
    return handles


def _mean(values: list[float], tables: results.Tables) -> str:
    return ensemble.interval_text(values, base.confidence(tables))


def alt(tables: results.Tables) -> str:
    """What is seen, with the slopes."""
    found = runs_by_network(tables, *READS)
    slopes = (
        f"{base.case(n, list(found))} {_mean([decayed_charges.statistic(r) for r in runs], tables)}"
        for n, runs in found.items()
        if n.batch
    )
    return (
        f"{len(found)} panels, one a network: charges of units against their prediction, on a "
        f"dotted diagonal under SGD and on a line at zero under gradient descent. Slopes: "
        f"{'; '.join(slopes)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Slope, correlation and size of the charges, of each network."""
    found = runs_by_network(tables, *READS)

    def said(statistic) -> object:
        return lambda n: _mean([statistic(run) for run in found[n]], tables)

    columns = {
        "γ": lambda n: base.number(n.setting("training.weight_decay")),
        "S of the prediction": lambda n: base.number(batch(found[n][0])),
        "slope": said(decayed_charges.statistic),
        "r": said(decayed_charges_correlate.statistic),
        "charges over parameters": said(lambda run: last(run, "symmetry_charge_share")),
    }
    return base.numbers_table(tables, list(found), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Each mark is a unit: its charge, the squared norm of what it sends out less that of what "
        "it takes in, against η/(2γ)((P_out − P_in)/S + the mean gradient's part), P the power of "
        "one sample's gradient noise; both are means over the last half of the run. Dotted: where "
        "they agree. Grey: plain balance of the layers, where gradient descent goes.",
        base.scale_sentence(tables),
    )
