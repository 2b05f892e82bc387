"""A scale-invariant loss in two dimensions: GD stays on its circle, SGD spirals outwards."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from sharpflow.figures import _ensemble as ensemble
from sharpflow.figures import base, style

TITLE = "SGD spirals outwards on a scale-invariant loss"


@style.house
def draw(tables: base.Tables) -> Figure:
    """The plane of the two parameters (left), and the radius in time (right)."""
    sgd = ensemble.networks(tables, "norm_squared", "sgd")[0]
    gd = ensemble.networks(tables, "norm_squared", "gd")[0]
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    plane, radius = figure.subplots(1, 2)
    handles = [
        _path(plane, tables, sgd, **ensemble.SGD, label="SGD"),
        _path(plane, tables, gd, **ensemble.GD, label="GD"),
    ]
    start = _positions(tables, gd)
    first = [frame.iloc[0].mean() for frame in start]
    plane.plot(*first, "o", color=style.BLACK, markersize=5, zorder=5)
    plane.annotate("start", first, xytext=(-6, 7), textcoords="offset points", ha="right")
    plane.add_patch(
        Circle((0, 0), float(np.hypot(*first)), fill=False, color=style.GREY, linewidth=0.8)
    )
    plane.set(xlabel="θ₁", ylabel="θ₂", aspect="equal")
    plane.set_title("one seed in full, the ends of all seeds")

    for network, look, label in ((sgd, ensemble.SGD, "SGD"), (gd, ensemble.GD, "GD")):
        norm = base.curves(tables, network, "norm_squared") ** 0.5
        handles.append(ensemble.draw_band(radius, norm, **look, label=label))
    predicted = base.curves(tables, sgd, "predicted_radius").median(axis=1)
    handles += radius.plot(
        predicted.index, predicted, **ensemble.PREDICTION, label="predicted for SGD"
    )
    radius.set(xlabel="step", ylabel="radius ‖θ‖", xlim=(0, float(predicted.index.max())))
    radius.set_ylim(0, None)
    radius.set_title("radius in time, all seeds")
    style.legend_below(figure, handles)
    return figure


def _positions(tables: base.Tables, network: base.Network) -> list[pd.DataFrame]:
    return [base.curves(tables, network, "position", index) for index in (0, 1)]


def _path(axes: Axes, tables: base.Tables, network: base.Network, colour, linestyle, label):
    """Draw the lowest seed's path, and where every seed ended."""
    across, up = _positions(tables, network)
    if across.empty:
        raise ValueError(f"tables hold no quantity 'position' of the case {network.case!r}")
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


def caption(tables: base.Tables) -> str:
    """What is drawn, where the two end, and the scale."""
    ends = {}
    for case in ("sgd", "gd"):
        network = ensemble.networks(tables, "norm_squared", case)[0]
        ends[case] = base.curves(tables, network, "norm_squared").iloc[-1] ** 0.5
    sgd = ensemble.networks(tables, "predicted_radius", "sgd")[0]
    predicted = float(base.curves(tables, sgd, "predicted_radius").iloc[-1].mean())
    return base.join(
        "A scale-invariant loss, ℓ = (θ·x/‖θ‖ − y)². Every gradient is perpendicular to θ, so each "
        "step of SGD can only lengthen it: gradient flow stays on its circle (grey) and the noise "
        "of SGD drives it outwards. Left: path of the lowest seed, with a dot where each seed "
        "ends. Right: radius in time, with the prediction (r₀⁴ + 2η²Tr[Σ₁]t/S)^¼ (dotted), where "
        "Σ₁ is the gradient covariance at radius one; it leaves out the descent to the minimum.",
        f"At the end SGD is at radius {ensemble.interval_text(ends['sgd'])} (predicted "
        f"{base.number(predicted)}) and GD, which moves off its circle only because its steps "
        f"are finite, at {ensemble.interval_text(ends['gd'])} "
        f"({100 * ensemble.CONFIDENCE:g} % t-intervals).",
        ensemble.BAND,
        ensemble.scale_sentence(tables, width=False),
    )
