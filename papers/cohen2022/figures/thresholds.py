"""The level at which each optimiser's preconditioned sharpness settles, against its threshold."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.curves import last_third
from sharpflow.results.edge import end_level
from sharpflow.results.runs import Run, runs_by_network

from ._names import factor, named

TITLE = "Predicted and measured thresholds"
READS = ("preconditioned_sharpness",)
DRAWS = ("hessian_sharpness",)

(PRECONDITIONED,) = READS
(RAW,) = DRAWS
MARKERS = "osD^vPX<>*"


def measured(run: Run) -> float:
    """Level of the preconditioned sharpness times η."""
    return end_level(run, PRECONDITIONED) * run.threshold * run.learning_rate


def raw(run: Run) -> float:
    """Mean of λ₁(H) over the last third of its records, times η; NaN without them."""
    if RAW not in run.known or run.diverged:
        return float("nan")
    values = run.curve(RAW)[1]
    return float(last_third(values).mean() * run.learning_rate)


@style.house
def draw(tables: results.Tables) -> Figure:
    """A point a case, seeds beside it, and the line on which the two agree.

    Open marks are λ₁(H), of rules whose metric is another one.
    """
    found = runs_by_network(tables, *READS)
    chosen = list(found)
    figure, ((axes,),) = style.panel_grid(1, heights=(5.2,), width=5.6)
    axes.set(xscale="log", yscale="log")
    expected = [factor(network) for network in chosen]
    ends = np.array([min(expected) / 1.6, max(expected) * 1.6])
    handles: list[Artist | None] = []
    handles += axes.plot(ends, ends, label="predicted", **ensemble.PREDICTION)
    for place, (network, runs) in enumerate(found.items()):
        colour, _ = style.look(place)
        marker = MARKERS[place % len(MARKERS)]
        own = {"confidence": base.confidence(tables), "colour": colour, "marker": marker}
        x = factor(network) * np.exp(0.05 * _beside(expected, place))
        handles.append(
            ensemble.draw_points(
                axes, x, [measured(run) for run in runs], label=named(network, chosen), **own
            )
        )
        if network.setting("preconditioned"):
            ensemble.draw_points(axes, x, [raw(run) for run in runs], filled=False, **own)
    axes.set(
        xlabel="stability threshold × η",
        ylabel="λ₁(P⁻¹H)η (full), λ₁(H)η (open), at the end",
        xlim=ends,
    )
    marks = np.unique(np.round(expected, 6))
    axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    style.legend_below(figure, handles)
    return figure


def _beside(values: list[float], place: int) -> float:
    """Offset of one of several points at one place, symmetric about it."""
    same = [i for i, value in enumerate(values) if np.isclose(value, values[place])]
    return same.index(place) - (len(same) - 1) / 2


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Where each case starts and where it ends."""
    found = runs_by_network(tables, *READS)

    def over(network: results.Network, statistic) -> str:
        value = ensemble.mean([statistic(run) for run in found[network]])
        return f"{value:.3g}" if np.isfinite(value) else ""

    def first(run: Run) -> float:
        ratio = run.relative(PRECONDITIONED)[1]
        return float(ratio[0]) if ratio.size else float("nan")

    return base.numbers_table(
        tables,
        list(found),
        {
            "threshold × η": lambda n: f"{factor(n):.3g}",
            "λ₁(P⁻¹H) / threshold at first": lambda n: over(n, first),
            "and at the end": lambda n: over(n, lambda r: end_level(r, PRECONDITIONED)),
            "λ₁(H)η/2 at the end": lambda n: over(n, lambda r: raw(r) / 2),
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Full marks: mean over seeds of the level at which the largest eigenvalue of the "
        "Hessian in the optimiser's metric settles, with its interval; dotted: the optimiser's "
        "stability threshold, which is the prediction. Open marks: the largest eigenvalue of the "
        "Hessian itself, where P is not 1. Levels are means of two-step averages over the last "
        "third; all are times η.",
        base.scale_sentence(tables),
    )
