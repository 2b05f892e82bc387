"""The mean change of the Noether charge in a step of SGD against three predictions of it."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results

from ..claims.noether_flow import GENERIC, MINIMUM, noether_flow_weighted

TITLE = "A step of SGD moves the charge by the Noether flow and a discrete-time term"
READS = ("flow_measured", "flow_predicted")
DRAWS = ("flow_sde", "flow_unweighted", "draws")
SCATTER = (0.98, 1.02)
"""What the finite number of draws leaves of a law that holds exactly."""

POINTS = {MINIMUM: "at the minimum that GD found", GENERIC: "at a generic point"}
LAWS = {
    "flow_predicted": ("η²(Tr[ΣQ]/S + ∇LᵀQ∇L)", style.BLUE, "o", True, -0.24),
    "flow_sde": ("SDE: η²Tr[ΣQ]/S", style.VERMILION, "s", False, 0.0),
    "flow_unweighted": (
        "unweighted: isotropic Γ of the same trace", style.ORANGE, "D", False, 0.24,
    ),
}  # fmt: skip
TICKS = {
    "isotropic": "isotropic\ndata",
    "anisotropic": "anisotropic\ndata",
    "rotated": "rotated\nteacher",
    "narrow": "narrow\nnet",
    "narrow_rotated": "narrow,\nrotated",
    "tanh": "scale-inv.\n(tanh)",
}
"""Words for the paper's own cases."""


@style.house
def draw(tables: results.Tables) -> Figure:
    """Measured over predicted for each law and case; one panel a kind of point."""
    chosen = ensemble.networks(tables, *READS)
    figure = Figure(figsize=(11.0, 4.3), layout="constrained")
    panels = figure.subplots(1, 2)
    handles = []
    for (index, title), axes in zip(POINTS.items(), panels, strict=True):
        handles += _draw_point(axes, tables, chosen, index)
        axes.set_title(title)
    panels[0].set_ylabel("measured / predicted")
    style.legend_below(figure, handles)
    return figure


def ratio(tables: results.Tables, network: results.Network, law: str, index: int) -> pd.Series:
    """Measured over predicted mean change of the charge, one a seed; empty if not measured."""
    measured = results.curves(tables, network, "flow_measured", index)
    predicted = results.curves(tables, network, law, index)
    if measured.empty or predicted.empty:
        return pd.Series(dtype=float)
    return (measured.iloc[-1] / predicted.iloc[-1]).dropna()


def _draw_point(
    axes: Axes, tables: results.Tables, chosen: Sequence[results.Network], index: int
) -> list[Artist | None]:
    handles = []
    confidence = base.confidence(tables)
    for place, network in enumerate(chosen):
        for law, (label, colour, marker, filled, shift) in LAWS.items():
            values, x = ratio(tables, network, law, index), place + shift
            handles.append(
                ensemble.draw_points(
                    axes, x, values, confidence, colour, marker, label, 0.16, filled
                )
            )
    axes.axhspan(*SCATTER, color="#E4E4E4", linewidth=0, zorder=0)
    axes.axhline(1.0, **ensemble.PREDICTION | {"linewidth": 1.0, "zorder": 1})
    names = ensemble.labels(chosen, lambda network: TICKS.get(network.case))
    axes.set_xticks(range(len(chosen)), names.values())
    axes.set_xlim(-0.6, len(chosen) - 0.4)
    return handles


def _narrow(network: results.Network) -> bool:
    """Whether a network has fewer hidden units than inputs to choose among."""
    return network.width < (network.setting("data.inputs") or 0)


def _step(chosen: Sequence[results.Network]) -> str:
    """The step that was drawn, which is not that of the training to the point."""
    drawn = [network.setting("measurements.noether_flow") or {} for network in chosen]
    rates, batches = (
        list(dict.fromkeys(options[key] for options in drawn if key in options))
        for key in ("learning_rate", "batch")
    )
    if not (rates and batches):
        return ""
    return f" (η = {base.several(rates)}, S = {base.several(batches)})"


def _excluded(tables: results.Tables, narrow: Sequence[results.Network]) -> str:
    """The conclusion on the unweighted flow, where the claim's bound allows it."""
    means = [ensemble.mean(ratio(tables, n, "flow_unweighted", MINIMUM)) for n in narrow]
    bound = noether_flow_weighted.band[0]
    far = all(abs(mean - 1) >= bound for mean in means)
    return ": the unweighted flow is excluded" if far else ""


def caption(tables: results.Tables) -> str:
    """What is drawn, how far the SDE's law falls short, and the scale."""
    chosen = ensemble.networks(tables, *READS)

    def spread(law: str, index: int, nets: Sequence[results.Network] = chosen) -> str:
        means = ensemble.finite(ensemble.mean(ratio(tables, n, law, index)) for n in nets)
        return f"{min(means):.3f} to {max(means):.3f}" if means.size else "not measured"

    narrow = [n for n in chosen if _narrow(n)]
    wide = [n for n in chosen if n not in narrow]
    low, high = SCATTER
    draws = ensemble.finite(ensemble.constant(tables, n, "draws") for n in chosen)
    return base.join(
        f"Mean change of the Noether charge C in one step of SGD{_step(chosen)}, over "
        + (f"{base.several(list(draws))} draws" if draws.size else "many draws")
        + " of the batch from one point, divided by predictions of it: C = ‖U‖² − ‖W‖² of "
        "two-layer linear nets on several data, ‖θ‖² of a scale-invariant net. "
        "Filled: the law with the discrete-time term, which is exact for every step size: "
        f"{spread('flow_predicted', MINIMUM)} at a minimum and {spread('flow_predicted', GENERIC)} "
        f"away from it (means over seeds; grey: {low:g} to {high:g}).",
        "The SDE's law leaves out η²∇LᵀQ∇L, which vanishes at a minimum: the measured change is "
        f"{spread('flow_sde', MINIMUM)} of the SDE's there and {spread('flow_sde', GENERIC)} away "
        "from it.",
        "With isotropic Γ of the same trace (unweighted) it is "
        f"{spread('flow_unweighted', MINIMUM, wide)} of the prediction at a minimum of a wide net, "
        "whose factors stay as isotropic as their random start: this charge cannot tell the "
        "weights there."
        if any(len(ratio(tables, n, "flow_unweighted", MINIMUM)) for n in wide)
        else "",
        "A narrow net keeps the loud inputs, and there it is "
        f"{spread('flow_unweighted', MINIMUM, narrow)} of it{_excluded(tables, narrow)}."
        if narrow
        else "",
        base.points_sentence(tables),
        ensemble.scale_sentence(tables).replace("Scale:", "Training to the minimum:"),
    )
