"""Drift of charges with momentum against that of plain SGD."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.charges import change
from sharpflow.results.runs import Run, runs_by_network

from ..claims.drift import momentum, plain_drift, times_plain

TITLE = "Momentum makes charges drift 1/(1 − β)² times as fast"
READS = ("symmetry_charge", "symmetry_noise_outer", "symmetry_gradient_outer")


def _shown(runs: list[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Of all units of all runs, what plain SGD would add to the charge, and what was added."""
    return np.concatenate([plain_drift(r) for r in runs]), np.concatenate(
        [change(r, "symmetry_charge") for r in runs]
    )


@style.house
def draw(tables: results.Tables) -> Figure:
    """Left change on plain drift, a mark a unit, with lines of slope 1/(1 − β)²; right slopes."""
    found = runs_by_network(tables, *READS)
    chosen = list(found)
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    style.letter([left, right])
    handles: list[Artist | None] = []
    right.set(xscale="log", yscale="log")
    for place, (network, runs) in enumerate(found.items()):
        colour, _ = style.look(place)
        marker = style.MARKERS[place % len(style.MARKERS)]
        beta = momentum(runs[0])
        x, y = _shown(runs)
        label = f"{base.case(network, chosen)}, β = {base.number(beta)}"
        look = {"color": colour, "marker": marker, "s": 12, "alpha": 0.7, "linewidths": 0}
        handles.append(left.scatter(x / (1 - beta) ** 2, y, label=label, zorder=3, **look))
        slopes = [times_plain(run) for run in runs]
        ensemble.draw_points(
            right, 1 / (1 - beta), slopes, base.confidence(tables), colour, marker, spread=0.05
        )
    ends = np.array(
        [min(*left.get_xlim(), *left.get_ylim()), max(*left.get_xlim(), *left.get_ylim())]
    )
    handles += left.plot(ends, ends, label="1/(1 − β)²", **ensemble.PREDICTION)
    factor = np.array([0.8, 1.25 * max(1 / (1 - momentum(runs[0])) for runs in found.values())])
    right.plot(factor, factor**2, **ensemble.PREDICTION)
    foil = {"color": style.GREY, "linestyle": (0, (5, 2)), "linewidth": 1.0}
    handles += right.plot(factor, factor, label="1/(1 − β)", **foil)
    left.set(xlabel="drift of plain SGD × 1/(1 − β)²", ylabel="change of a unit's charge")
    right.set(xlabel="1/(1 − β)", ylabel="slope of change on plain drift")
    style.legend_below(figure, handles)
    return figure


def _slope(runs: list[Run], tables: results.Tables) -> str:
    return ensemble.interval_text([times_plain(run) for run in runs], base.confidence(tables))


def alt(tables: results.Tables) -> str:
    """What is seen, with the slopes."""
    found = runs_by_network(tables, *READS)
    said = (f"{base.case(n, list(found))} {_slope(runs, tables)}" for n, runs in found.items())
    return (
        "Left, changes of units' charges about a dotted diagonal; right, slopes on the dotted line "
        f"of 1/(1 − β)² and above the dashed one of 1/(1 − β): {'; '.join(said)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """The slope of each network, and the factor that it should be."""
    found = runs_by_network(tables, *READS)
    columns = {
        "β": lambda n: base.number(momentum(found[n][0])),
        "1/(1 − β)²": lambda n: base.number((1 - momentum(found[n][0])) ** -2),
        "slope": lambda n: _slope(found[n], tables),
    }
    return base.numbers_table(tables, list(found), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Left: change of the charge of each unit after the first tenth of the run, against the "
        "drift of plain SGD at the same learning rate, η²((P_out − P_in)/S + the mean gradient's "
        "part) a step, times 1/(1 − β)². Right: slope of the change on the plain drift, over "
        "units; dotted: 1/(1 − β)², dashed: 1/(1 − β).",
        base.points_sentence(tables),
        base.scale_sentence(tables),
    )
