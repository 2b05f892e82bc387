"""The mean change of the Noether charge in a step of SGD against three predictions of it."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import _ensemble as ensemble
from sharpflow.figures import base, style

TITLE = "A step of SGD moves the charge by the Noether flow and a discrete-time term"

POINTS = {0: "at the minimum that GD found", 1: "at a generic point"}
LAWS = {
    "flow_predicted": (
        "η²(Tr[ΣQ]/S + ∇LᵀQ∇L)",
        style.BLUE,
        "o",
        True,
    ),
    "flow_sde": ("SDE: η²Tr[ΣQ]/S", style.VERMILION, "s", False),
    "flow_unweighted": ("unweighted: isotropic Γ of the same trace", style.ORANGE, "D", False),
}
MARGIN = 0.02
CASES = {
    "isotropic": "isotropic\ndata",
    "anisotropic": "anisotropic\ndata",
    "rotated": "rotated\nteacher",
    "narrow": "narrow\nnet",
    "narrow_rotated": "narrow,\nrotated",
    "tanh": "scale-inv.\n(tanh)",
}


@style.house
def draw(tables: base.Tables) -> Figure:
    """Measured over predicted for each law and case; one panel a kind of point."""
    chosen = ensemble.networks(tables, "flow_measured")
    figure = Figure(figsize=(11.0, 4.3), layout="constrained")
    panels = figure.subplots(1, 2)
    handles = []
    for (index, title), axes in zip(POINTS.items(), panels, strict=True):
        handles += _draw_point(axes, tables, chosen, index)
        axes.set_title(title)
    panels[0].set_ylabel("measured / predicted")
    style.legend_below(figure, handles)
    return figure


def ratio(tables: base.Tables, network: base.Network, law: str, index: int) -> pd.Series:
    """Measured over predicted mean change of the charge, one a seed; empty if not measured."""
    measured = base.curves(tables, network, "flow_measured", index)
    predicted = base.curves(tables, network, law, index)
    if measured.empty or predicted.empty:
        return pd.Series(dtype=float)
    return (measured.iloc[-1] / predicted.iloc[-1]).dropna()


def _draw_point(axes: Axes, tables: base.Tables, chosen: list[base.Network], index: int) -> list:
    handles = []
    shifts = dict(zip(LAWS, (-0.24, 0.0, 0.24), strict=True))
    for place, network in enumerate(chosen):
        for law, (label, colour, marker, filled) in LAWS.items():
            values = ratio(tables, network, law, index)
            if len(values):
                x = place + shifts[law]
                handles.append(
                    ensemble.draw_points(axes, x, values, colour, marker, label, 0.16, filled)
                )
    axes.axhspan(1 - MARGIN, 1 + MARGIN, color="#E4E4E4", linewidth=0, zorder=0)
    axes.axhline(1.0, **ensemble.PREDICTION | {"linewidth": 1.0, "zorder": 1})
    axes.set_xticks(range(len(chosen)), [CASES.get(n.case, n.case) for n in chosen])
    axes.set_xlim(-0.6, len(chosen) - 0.4)
    return handles


def _step(tables: base.Tables, experiment: str) -> str:
    """The step that was drawn, which is not that of the training to the point."""
    drawn = (tables[experiment].settings.get("measurements") or {}).get("noether_flow") or {}
    if not {"learning_rate", "batch"} <= set(drawn):
        return ""
    return f" (η = {base.number(drawn['learning_rate'])}, S = {drawn['batch']})"


def caption(tables: base.Tables) -> str:
    """What is drawn, how far the SDE's law falls short, and the scale."""
    chosen = ensemble.networks(tables, "flow_measured")

    def spread(law: str, index: int, nets: list[base.Network] = chosen) -> str:
        means = [ratio(tables, n, law, index).mean() for n in nets]
        means = [mean for mean in means if mean == mean]
        return f"{min(means):.3f} to {max(means):.3f}" if means else "not measured"

    narrow = [n for n in chosen if n.case.startswith("narrow")]
    wide = [n for n in chosen if n not in narrow]
    draws = [ensemble.constant(tables, n, "draws") for n in chosen]
    draws = [value for value in draws if value == value]
    return base.join(
        "Mean change of the Noether charge C in one step of SGD"
        + _step(tables, chosen[0].experiment)
        + ", over "
        + (f"{base.several(draws)} draws" if draws else "many draws")
        + " of the batch from one point, divided by predictions of it: C = ‖U‖² − ‖W‖² of "
        "two-layer linear nets on several data, ‖θ‖² of a scale-invariant net. "
        "Filled: the law with the discrete-time term, which is exact for every step size: "
        f"{spread('flow_predicted', 0)} at a minimum and {spread('flow_predicted', 1)} away from "
        "it (means over seeds; grey: 1 ± 0.02).",
        "The SDE's law leaves out η²∇LᵀQ∇L, which vanishes at a minimum: the measured change is "
        f"{spread('flow_sde', 0)} of the SDE's there and {spread('flow_sde', 1)} away from it.",
        "With isotropic Γ of the same trace (unweighted) it is "
        f"{spread('flow_unweighted', 0, wide)} of the prediction at a minimum of a wide net, "
        "whose factors stay as isotropic as their random start: this charge cannot tell the "
        "weights there."
        if any(len(ratio(tables, n, "flow_unweighted", 0)) for n in wide)
        else "",
        "A narrow net keeps the loud inputs, and there it is "
        f"{spread('flow_unweighted', 0, narrow)} of it: the unweighted flow is excluded."
        if narrow
        else "",
        ensemble.POINTS,
        ensemble.scale_sentence(tables).replace("Scale:", "Training to the minimum:"),
    )
