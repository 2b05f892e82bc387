"""A scale-invariant loss in two dimensions: GD stays on its circle, SGD spirals outwards."""

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results

TITLE = "SGD spirals outwards on a scale-invariant loss"
READS = ("norm_squared", "position", "predicted_radius")

LOOKS = {"SGD": ensemble.SGD, "GD": ensemble.GD}


@style.house
def draw(tables: results.Tables) -> Figure:
    """The plane of the two parameters (left), and the radius in time (right)."""
    named = _named(tables)
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    plane, radius = figure.subplots(1, 2)
    handles: list[Artist] = []
    for place, (network, label) in enumerate(named.items()):
        other = dict(zip(("colour", "linestyle"), style.look(place), strict=True))
        look = LOOKS.get(label, other)
        handles.append(_path(plane, tables, network, **look, label=label))
        norm = results.curves(tables, network, "norm_squared") ** 0.5
        handles.append(ensemble.draw_band(radius, norm, **look, label=label))
    _draw_start(plane, _positions(tables, list(named)[-1]))
    for network in (n for n in named if n.batch):
        predicted = results.curves(tables, network, "predicted_radius").median(axis=1)
        handles += radius.plot(
            predicted.index, predicted, **ensemble.PREDICTION, label="predicted for SGD"
        )
    radius.set(xlabel="step", ylabel="radius ‖θ‖", xlim=(0, _last(tables)), ylim=(0, None))
    radius.set_title("radius in time, all seeds")
    style.legend_below(figure, handles)
    return figure


def _named(tables: results.Tables) -> dict[results.Network, str]:
    """Networks under SGD and then under GD, with what they are called."""
    chosen = sorted(ensemble.networks(tables, *READS), key=ensemble.method, reverse=True)
    return ensemble.labels(chosen, ensemble.method)


def _last(tables: results.Tables) -> float:
    frames = [results.curves(tables, n, "norm_squared") for n in _named(tables)]
    return max(float(frame.index.max()) for frame in frames)


def _positions(tables: results.Tables, network: results.Network) -> list[pd.DataFrame]:
    return [results.curves(tables, network, "position", index) for index in (0, 1)]


def _draw_start(axes: Axes, positions: list[pd.DataFrame]) -> None:
    """The point where the runs start, and the circle through it."""
    x, y = (float(frame.iloc[0].mean()) for frame in positions)
    axes.plot(x, y, "o", color=style.BLACK, markersize=5, zorder=5)
    axes.annotate("start", (x, y), xytext=(-6, 7), textcoords="offset points", ha="right")
    axes.add_patch(
        Circle((0, 0), float(np.hypot(x, y)), fill=False, color=style.GREY, linewidth=0.8)
    )
    axes.set(xlabel="θ₁", ylabel="θ₂", aspect="equal")
    axes.set_title("one seed in full, the ends of all seeds")


def _path(
    axes: Axes,
    tables: results.Tables,
    network: results.Network,
    colour: str,
    linestyle: str | tuple,
    label: str,
) -> Line2D:
    """Draw the lowest seed's path, and where every seed ended."""
    across, up = _positions(tables, network)
    strong = across.columns[0]
    weight = 0.6 if linestyle == "-" else 1.6
    (line,) = axes.plot(
        across[strong],
        up[strong],
        color=colour,
        linestyle=linestyle,
        linewidth=weight,
        label=label,
        zorder=3,
    )
    axes.scatter(
        across.iloc[-1], up.iloc[-1], s=12, color=colour, alpha=0.7, linewidths=0, zorder=4
    )
    return line


def caption(tables: results.Tables) -> str:
    """What is drawn, where the two end, and the scale."""
    confidence = base.confidence(tables)
    ends = []
    for network, label in _named(tables).items():
        radius = results.curves(tables, network, "norm_squared").iloc[-1] ** 0.5
        text = f"{label} is at radius {ensemble.interval_text(radius, confidence)}"
        if network.batch:
            predicted = results.curves(tables, network, "predicted_radius").iloc[-1].mean()
            text += f" (predicted {base.number(float(predicted))})"
        ends.append(text)
    return base.join(
        "A scale-invariant loss, ℓ = (θ·x/‖θ‖ − y)². Every gradient is perpendicular to θ, so each "
        "step of SGD can only lengthen it: gradient flow stays on its circle (grey) and the noise "
        "of SGD drives it outwards. Left: path of the lowest seed, with a dot where each seed "
        "ends. Right: radius in time, with the prediction (r₀⁴ + 2η²Tr[Σ₁]t/S)^¼ (dotted), where "
        "Σ₁ is the gradient covariance at radius one; it leaves out the descent to the minimum. GD "
        "moves off its circle only because its steps are finite.",
        f"At the end {', '.join(ends)} ({base.percent(confidence)} t-intervals).",
        ensemble.BAND,
        ensemble.scale_sentence(tables, width=False),
    )
