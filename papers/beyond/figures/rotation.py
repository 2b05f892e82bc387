"""The angle by which a step turns weights before norms, against its predicted equilibrium."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.runs import Run, runs_by_network
from sharpflow.results.units import unit_curves

from ..claims.rotation import angular_update, predicted_angle, ratio

TITLE = "Under weight decay norms fix the angle of a step"
READS = ("angular_update",)
WINDOW = 20
"""Records that a curve is averaged over: the angle of a single step is a matter of chance."""


def smooth(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the root mean square over layers and `WINDOW` records of the angle."""
    steps, values = unit_curves(run, "angular_update")
    count = len(steps) // WINDOW * WINDOW
    squares = np.square(values[:count]).mean(axis=1).reshape(-1, WINDOW).mean(axis=1)
    return steps[:count].reshape(-1, WINDOW).mean(axis=1), np.sqrt(squares)


@style.house
def draw(tables: results.Tables) -> Figure:
    """Left the angle in time with its prediction; right the angle at the end on the prediction."""
    found = runs_by_network(tables, *READS)
    chosen = list(found)
    figure = Figure(figsize=(9.4, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    style.letter([left, right])
    handles: list[Artist | None] = []
    expected = [predicted_angle(runs[0]) for runs in found.values()]
    ends = np.array([0.0, max(expected) * 1.25])
    handles += right.plot(ends, ends, label="predicted", **ensemble.PREDICTION)
    for place, (network, runs) in enumerate(found.items()):
        colour, dashes = style.look(place)
        marker = style.MARKERS[place % len(style.MARKERS)]
        curves = ensemble.by_seed(runs, smooth)
        handles.append(ensemble.draw_band(left, curves, colour, dashes, base.case(network, chosen)))
        left.axhline(expected[place], **ensemble.PREDICTION | {"color": colour, "zorder": 2})
        values = [ratio(run, 1.0) for run in runs]
        ensemble.draw_points(
            right, expected[place], values, base.confidence(tables), colour, marker
        )
    left.set(xlabel="step", ylabel="angle of a step (radians)", yscale="log", xlim=(0, None))
    right.set(xlabel="predicted angle", ylabel="angle over the last two fifths")
    right.set(xlim=ends, ylim=(0, None))
    style.legend_below(figure, handles)
    return figure


def _ratio(runs: list[Run], tables: results.Tables) -> str:
    values = [angular_update.statistic(run) for run in runs]
    return ensemble.interval_text(values, base.confidence(tables))


def alt(tables: results.Tables) -> str:
    """What is seen, with the ratios."""
    found = runs_by_network(tables, *READS)
    said = (f"{base.case(n, list(found))} {_ratio(runs, tables)}" for n, runs in found.items())
    return (
        "Left, the angle of a step in time, which goes to a dotted line of its colour where there "
        f"are norms; right, its end against the prediction. Measured over predicted: "
        f"{'; '.join(said)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Predicted and measured angle of each network."""
    found = runs_by_network(tables, *READS)
    columns = {
        "γ": lambda n: base.number(n.setting("training.weight_decay")),
        "predicted angle": lambda n: f"{predicted_angle(found[n][0]):.4f}",
        "measured / predicted": lambda n: _ratio(found[n], tables),
    }
    return base.numbers_table(tables, list(found), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        f"Left: root mean square over layers and {WINDOW} records of the angle by which a step "
        "turns weights; dotted, in the same colour: √(2ηγ), with momentum √(2ηγ/(1 + β)), under "
        "AdamW √(2ηγ(1 − β₁)/(1 + β₁)). Right: over the last two fifths of the run, against that.",
        base.points_sentence(tables),
        base.scale_sentence(tables),
    )
