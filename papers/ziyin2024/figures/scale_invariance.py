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
PUBLISHED = "Figure 1"
READS = ("norm_squared", "position", "predicted_radius")

LOOKS = {"SGD": ensemble.SGD, "GD": ensemble.GD}


@style.house
def draw(tables: results.Tables) -> Figure:
    """The plane of the two parameters (left), and the radius in time (right)."""
    named = _named(tables)
    figure = Figure(figsize=(8.6, 4.4), layout="constrained")
    plane, radius = figure.subplots(1, 2)
    style.letter([plane, radius])
    paths: list[Artist] = []
    bands: list[Artist] = []
    lowest = np.inf
    for place, (network, label) in enumerate(named.items()):
        other = dict(zip(("colour", "linestyle"), style.look(place), strict=True))
        look = LOOKS.get(label, other)
        paths.append(_path(plane, tables, network, **look, label=f"{label}, lowest seed"))
        norm = results.curves(tables, network, "norm_squared") ** 0.5
        lowest = min(lowest, float(norm.min().min()))
        bands.append(ensemble.draw_band(radius, norm, **look, label=label))
    paths += _draw_start(plane, _positions(tables, list(named)[-1]))
    for network in (n for n in named if n.batch):
        predicted = results.curves(tables, network, "predicted_radius").mean(axis=1)
        bands += radius.plot(
            predicted.index, predicted, **ensemble.PREDICTION, label="predicted for SGD"
        )
    radius.set(xlabel="step", ylabel="radius ‖θ‖", xlim=(0, _last(tables)))
    radius.set_ylim(bottom=0.92 * lowest)
    radius.set_title("radius: mean and range of all seeds")
    plane.set_anchor("N")
    style.legend_in(plane, paths)
    style.legend_in(radius, bands)
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


def _draw_start(axes: Axes, positions: list[pd.DataFrame]) -> list[Artist]:
    """The point where the runs start, and the circle through it."""
    x, y = (float(frame.iloc[0].mean()) for frame in positions)
    axes.plot(x, y, "o", color=style.BLACK, markersize=5, zorder=5)
    axes.annotate("start", (x, y), xytext=(-6, 7), textcoords="offset points", ha="right")
    axes.add_patch(
        Circle((0, 0), float(np.hypot(x, y)), fill=False, color=style.GREY, linewidth=0.8)
    )
    axes.set(xlabel="θ₁", ylabel="θ₂", aspect="equal")
    axes.set_title("plane of the two parameters")
    dot = {"color": style.GREY, "marker": "o", "markersize": 4, "linestyle": "none"}
    return [
        Line2D([], [], color=style.GREY, linewidth=0.8, label="gradient flow"),
        Line2D([], [], label="end of each seed", **dot),
    ]


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


def _ends(tables: results.Tables, network: results.Network) -> tuple[str, str]:
    """Radius at the end with its interval, and what is predicted for it."""
    radius = results.curves(tables, network, "norm_squared").iloc[-1] ** 0.5
    predicted = results.curves(tables, network, "predicted_radius").iloc[-1].mean()
    return (
        ensemble.interval_text(radius, base.confidence(tables)),
        base.number(float(predicted)) if network.batch else "",
    )


def alt(tables: results.Tables) -> str:
    """What is seen, and where it ends."""
    ends = [f"{label} to {_ends(tables, n)[0]}" for n, label in _named(tables).items()]
    return (
        "Left, paths in the plane from a common start on a grey circle, with a dot where each seed "
        "ends. Right, the radius over the steps, with bands over seeds and a dotted prediction; it "
        f"comes with {' and with '.join(ends)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Radius at the end beside its prediction."""
    interval = f"radius at the end (mean, {base.percent(base.confidence(tables))} interval)"
    return base.numbers_table(
        tables,
        list(_named(tables)),
        {
            interval: lambda n: _ends(tables, n)[0],
            "predicted": lambda n: _ends(tables, n)[1],
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Loss ℓ = (θ·x/‖θ‖ − y)². Every gradient is perpendicular to θ, so that a step can only "
        "lengthen it: gradient flow stays on its circle, the noise of SGD drives it outwards, and "
        "GD leaves it because its steps are finite. Dotted: (r₀⁴ + 2η²Tr[Σ₁]t/S)^¼, Σ₁ the "
        "gradient covariance at radius one, without the descent to the minimum.",
        ensemble.BAND,
        ensemble.scale_sentence(tables, width=False),
    )
