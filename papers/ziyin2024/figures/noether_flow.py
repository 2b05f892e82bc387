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
    panels = figure.subplots(1, 2, sharey=True)
    style.letter(list(panels))
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
            if values.empty:
                _draw_missing(axes, x)
                continue
            handles.append(
                ensemble.draw_points(
                    axes, x, values, confidence, colour, marker, label, 0.16, filled
                )
            )
    axes.axhspan(*SCATTER, color=style.GREY, alpha=0.18, linewidth=0, zorder=0)
    axes.axhline(1.0, **ensemble.PREDICTION | {"linewidth": 1.0, "zorder": 1})
    names = ensemble.labels(chosen, lambda network: TICKS.get(network.case))
    axes.set_xticks(range(len(chosen)), names.values())
    axes.set(xlim=(-0.6, len(chosen) - 0.4), xlabel="data and network")
    return handles


def _draw_missing(axes: Axes, x: float) -> None:
    """Say, where a marker would stand, that there is no such prediction."""
    look = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 6.5}
    axes.text(x, 1.04, "not predicted", color=style.GREY, **look)


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


def _mean(tables: results.Tables, network: results.Network, law: str, index: int) -> str:
    values = ratio(tables, network, law, index)
    return ensemble.interval_text(values, base.confidence(tables)) if len(values) else ""


def excluded(tables: results.Tables) -> bool:
    """Whether the unweighted flow is off by the claim's bound in every narrow network."""
    narrow = [n for n in ensemble.networks(tables, *READS) if _narrow(n)]
    means = [ensemble.mean(ratio(tables, n, "flow_unweighted", MINIMUM)) for n in narrow]
    return bool(means) and all(abs(mean - 1) >= noether_flow_weighted.band[0] for mean in means)


def alt(tables: results.Tables) -> str:
    """What is seen, and where the law with the discrete-time term is."""
    chosen = ensemble.networks(tables, *READS)
    means = ensemble.finite(
        ensemble.mean(ratio(tables, n, "flow_predicted", index)) for n in chosen for index in POINTS
    )
    seen = f", which is {means.min():.3f} to {means.max():.3f}" if means.size else ""
    return (
        "Two panels of points about a dotted line at one: the measured change of the charge over "
        f"three predictions, by data and network. Filled: the law with its discrete-time term{seen}"
        "; hollow squares and diamonds: the other two, which leave the line in some networks."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Measured over predicted, of each law at each kind of point."""
    short = {"flow_predicted": "with the discrete term", "flow_sde": "SDE"}
    columns = {
        f"{short.get(law, 'unweighted')}, {point}": lambda n, law=law, index=index: _mean(
            tables, n, law, index
        )
        for index, point in ((MINIMUM, "minimum"), (GENERIC, "generic point"))
        for law in LAWS
    }
    return base.numbers_table(tables, ensemble.networks(tables, *READS), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, what the laws are, and the scale."""
    chosen = ensemble.networks(tables, *READS)
    low, high = SCATTER
    draws = ensemble.finite(ensemble.constant(tables, n, "draws") for n in chosen)
    count = f"{base.several(list(draws))} draws" if draws.size else "many draws"
    return base.join(
        f"Mean change of the Noether charge in one step of SGD{_step(chosen)} over {count}, "
        f"divided by three predictions of it (grey: {low:g} to {high:g}). The SDE's law lacks "
        "η²∇LᵀQ∇L, which vanishes at a minimum.",
        "The unweighted one takes Γ as isotropic: narrow networks exclude it."
        if excluded(tables)
        else "The unweighted one takes Γ as isotropic.",
        base.points_sentence(tables),
        ensemble.scale_sentence(tables).replace("Scale:", "Training to the minimum:"),
    )
