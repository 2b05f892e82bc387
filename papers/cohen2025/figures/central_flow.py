"""Sharpness, loss, oscillation and path: training, its central flow and gradient flow."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.claims.base import Claim
from sharpflow.figures import base, style
from sharpflow.parts.processes import DISCRETE
from sharpflow.results import tables as results
from sharpflow.results.runs import runs_by_network

from ..claims.central_flow import (
    CENTRAL,
    CURVATURE,
    GRADIENT,
    MIDPOINT,
    follows_the_mean_path,
    predicts_the_excess_loss,
    predicts_the_variance,
)

TITLE = "Training, its central flow and gradient flow"
READS = ("loss", "stability_threshold")
DRAWS = ("hessian_sharpness", "preconditioned_sharpness")
BESIDE = {
    "central": ("distance", "loss", "predicted_loss", "predicted_variance"),
    "gradient": ("distance", "loss"),
    "midpoint": ("loss", "oscillation_squared"),
}
LOOKS = {
    DISCRETE: ("training", style.GREY, "-"),
    CENTRAL: ("central flow", style.BLUE, (0, (5, 1))),
    GRADIENT: ("gradient flow", style.VERMILION, (0, (3, 1, 1, 1))),
}
"""Label, colour and dashes of each process."""
_START = 12
"""Part of the steps, the first of as many, that does not set the axes of loss and variance."""
_SMOOTH = 10
"""Steps of the running mean of the measured variance, whose cycles are spikes."""


def chosen(tables: results.Tables) -> list[results.Network]:
    """The networks beside which the flows ran."""
    found = results.networks(tables, *READS)
    return [n for n in found if not results.curves(tables, n, "distance", process=CENTRAL).empty]


def curvature(network: results.Network) -> str:
    """What compares with the threshold of a network."""
    return CURVATURE[bool(network.setup.get("preconditioned"))]


@style.house
def draw(tables: results.Tables) -> Figure:
    """Four panels a network: sharpness, loss, variance of the oscillation, distance."""
    networks = chosen(tables)
    figure, stacks = style.panel_grid(len(networks), heights=(2.4, 2.4, 1.9, 1.9))
    handles: list[Artist | None] = []
    for network, (sharpness, loss, variance, distance) in zip(networks, stacks, strict=True):
        strong = results.strong_seed(tables, network)
        handles += _draw_sharpness(sharpness, tables, network, strong)
        handles += _draw_losses(loss, tables, network, strong)
        _draw_variances(variance, tables, network, strong)
        _draw_distances(distance, tables, network, strong)
        sharpness.set_title(base.label(network, networks))
        last = results.curves(tables, network, "loss").index.max()
        distance.set(xlabel="step", xlim=(0, float(last)))
    style.label_rows(stacks, "sharpness / threshold", "loss", "variance", "distance")
    style.legend_below(figure, handles)
    return figure


def _draw_sharpness(
    axes: Axes, tables: results.Tables, network: results.Network, strong: int
) -> list[Artist | None]:
    handles: list[Artist | None] = []
    tops = []
    for process, (label, colour, dashes) in LOOKS.items():
        ratio = results.relative(tables, network, curvature(network), process=process)
        if strong not in ratio:
            continue
        one = ratio[[strong]].dropna()
        tops.append(float(one.max().iloc[0]))
        handles.append(style.draw_seeds(axes, one, strong, colour, dashes, label))
    handles.append(style.draw_threshold(axes, 1.0, "threshold"))
    axes.set_ylim(0, min(max(tops, default=1.0), 2.5) * 1.06)
    if max(tops, default=0.0) > 2.5:
        style.note(axes, "cut at 2.5")
    return handles


def _draw_losses(
    axes: Axes, tables: results.Tables, network: results.Network, strong: int
) -> list[Artist | None]:
    lines = (
        (DISCRETE, "loss"),
        (GRADIENT, "loss"),
        (CENTRAL, "predicted_loss"),
    )
    drawn = {}
    for process, quantity in lines:
        _, colour, dashes = LOOKS[process]
        curve = results.curves(tables, network, quantity, process=process)
        if strong in curve:
            drawn[process] = curve[strong].dropna()
            style.draw_seeds(axes, curve[[strong]], strong, colour, dashes)
    whole = pd.concat([c.iloc[len(c) // _START :] for c in drawn.values()])
    low, high = float(whole.min()), float(whole.quantile(0.995))
    axes.set_ylim(low - 0.08 * (high - low), high + 0.12 * (high - low))
    return []


def _draw_variances(
    axes: Axes, tables: results.Tables, network: results.Network, strong: int
) -> None:
    measured = results.curves(tables, network, "oscillation_squared", process=MIDPOINT)
    measured = measured.rolling(_SMOOTH, center=True, min_periods=1).mean()
    predicted = results.curves(tables, network, "predicted_variance", process=CENTRAL)
    tops = []
    for process, curve in ((DISCRETE, measured), (CENTRAL, predicted)):
        if strong in curve:
            tops.append(float(curve[strong].iloc[len(curve) // _START :].max()))
            style.draw_seeds(axes, curve[[strong]], strong, *LOOKS[process][1:])
    axes.set_ylim(0, 1.08 * max(tops, default=1.0) or None)


def _draw_distances(
    axes: Axes, tables: results.Tables, network: results.Network, strong: int
) -> None:
    for process in (GRADIENT, CENTRAL):
        curve = results.curves(tables, network, "distance", process=process)
        style.draw_seeds(axes, curve, strong, *LOOKS[process][1:])
    axes.set_ylim(bottom=0)


def alt(tables: results.Tables) -> str:
    """What is seen."""
    networks = chosen(tables)
    return (
        f"{len(networks)} columns, one a network. From above: sharpness over the threshold, where "
        "training swings about one, the central flow stays at it and gradient flow goes on above "
        "it; the loss of training with the central flow's prediction through it; the variance of "
        "the oscillation, measured and predicted; the distances of the two flows from training, of "
        "which the central flow's stays the smaller."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """What the claims are judged on, as means over seeds."""
    members = runs_by_network(tables, *READS)
    members = {n: runs for n, runs in members.items() if n in chosen(tables)}

    def mean_of(claim: Claim) -> Callable[[results.Network], str]:
        def said(network: results.Network) -> str:
            values = [float(claim.statistic(run)) for run in members[network]]
            known = [value for value in values if np.isfinite(value)]
            return f"{np.mean(known):.3f}" if known else ""

        return said

    return base.numbers_table(
        tables,
        list(members),
        {
            "threshold": lambda n: base.number(n.threshold),
            "distance, central over gradient flow": mean_of(follows_the_mean_path),
            "variance, predicted over measured": mean_of(predicts_the_variance),
            "excess loss, predicted over measured": mean_of(predicts_the_excess_loss),
            "eigenvalues at the threshold": lambda n: _unstable(tables, n),
        },
    )


def _unstable(tables: results.Tables, network: results.Network) -> str:
    curve = results.curves(tables, network, "unstable", process=CENTRAL)
    return "" if curve.empty else base.several([int(v) for v in sorted(curve.max())])


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    networks = chosen(tables)
    quantities = {"sharpness": curvature(networks[0])}
    return base.join(
        "From above: largest eigenvalue of the Hessian (under RMSprop of the preconditioned one) "
        f"over the threshold {base.symbols(networks)}; loss of training and of gradient flow, and "
        "the mean over the oscillation that the central flow predicts; squared distance of "
        f"training from its path without oscillation, (w₋ + 2w + w₊)/4 (running mean of {_SMOOTH} "
        "steps), and Tr Σ of the central flow; distance of the two flows from that path.",
        "Sharpness, loss and variance: the lowest finite seed; distances: faint, the others.",
        base.stride_sentence(tables, {name: symbol for symbol, name in quantities.items()}),
        base.scale_sentence(tables),
    )
